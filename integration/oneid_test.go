package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pack makes a Debian package in the context whose installation makes users and gives files to them.
func (s *site) pack(name string) {
	s.t.Helper()
	tree := s.t.TempDir()
	for file, text := range map[string]string{
		"DEBIAN/control": "Package: giver\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: gives\n",
		"DEBIAN/postinst": `#!/bin/sh
set -e
adduser --system --group --home /var/lib/giver --quiet giver
useradd --system taker
chown -R giver:giver /opt/giver
chown root:taker /opt/giver/secret
chmod 4750 /opt/giver/program
install -d -o giver -g taker -m 2770 /var/log/giver
`,
		"opt/giver/secret": "s", "opt/giver/program": "p", "opt/giver/below/file": "f",
	} {
		path := filepath.Join(tree, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.Symlink("program", filepath.Join(tree, "opt/giver/link")); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), "dpkg-deb", "--root-owner-group", "--build", tree, filepath.Join(s.context, name))
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1500000000") // two are the same
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
}

// giving is what Debian images have in their Dockerfiles. Times, and what tools note about them, are left out.
const giving = `
COPY giver.deb /tmp/
RUN apt-get install -y /tmp/giver.deb && rm -r /tmp/giver.deb /var/log/* /var/cache/* /var/lib/apt /etc/*- && sed -i 's/:[0-9]*:0:99999/::0:99999/' /etc/shadow
RUN useradd -m app && su app -c 'id > ~/by-su' && runuser -u app -- sh -c 'umask 077; mkdir ~/private; echo x > ~/private/file' && \
    setpriv --reuid app --regid app --init-groups sh -c 'id > /home/app/by-setpriv; ln -s by-su /home/app/link' && \
    sed -i 's/:[0-9]*:0:99999/::0:99999/' /etc/shadow && rm -f /etc/*- /var/log/*
RUN install -o nobody -g nogroup -m 640 /etc/hostname /etc/installed && tar -C /opt -cf - giver | tar -C /srv -xpf - && cp -a /opt/giver /opt/copied && mv /srv/giver /srv/moved
COPY --chown=app:staff giver.deb /srv/app/
RUN sed -i '1i x' /srv/app/giver.deb && cp -p /srv/app/giver.deb /srv/app/kept && mkdir -p /srv/set && chown :mail /srv/set && chmod 2777 /srv/set
USER app
WORKDIR /home/app/work
RUN id > id && touch /srv/set/file && mkdir -p a/b && cp /etc/passwd a/b && [ -O a/b/passwd ] && [ ! -O /etc/passwd ] && stat -c '%U:%G %n' a/b/passwd /etc/shadow /opt/giver/* > seen
RUN perl -e '$> == $< && $< != 0 or die; $> = 0; $> != 0 or die; chown(0, 0, "id") and die; open F, ">", "by-perl"'
USER root
RUN chown --reference=id /etc/installed && cp /usr/bin/id /usr/bin/who-else && chown giver /usr/bin/who-else && chmod 4755 /usr/bin/who-else
USER app
RUN who-else > else && setpriv --nnp who-else >> else && find / -xdev -user app | sort > mine
`

// TestOneIDIsEnoughForPackages builds as a user who has one id what makes users and gives files to them, and compares with what root
// builds.
func TestOneIDIsEnoughForPackages(t *testing.T) {
	t.Parallel()
	since := time.Now().Truncate(time.Second)
	at := func(t *testing.T) *site {
		s := newSite(t, map[string]string{"Dockerfile": "FROM " + debian(t) + giving})
		s.pack("giver.deb")
		s.date("giver.deb")
		return s
	}
	root := at(t)
	want := repo(t, "root")
	root.mustBuild("--destination", want)
	for _, isolation := range []string{"overlay", "directory"} {
		t.Run(isolation, func(t *testing.T) {
			user := at(t).as(ordinary)
			user.isolation = isolation
			user.mustBuild("--destination", repo(t, "user"))
			sameImages(t, pull(t.Context(), t, want), pull(t.Context(), t, repo(t, "user")), since)
		})
	}
}

// TestOneIDOnOneProcessor holds that steps start where the one who starts them and the one who supervises that share a processor.
func TestOneIDOnOneProcessor(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + strings.Repeat("\nRUN true", 5) + "\n"}).as(ordinary)
	s.through = []string{"taskset", "--cpu-list", "0"}
	s.mustBuild("--no-push")
}
