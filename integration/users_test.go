package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// withRange lets an ordinary user who has a name and a range of subordinate ids build here. The files that say so are
// seen by the program alone.
func (s *site) withRange() *site {
	s.t.Helper()
	s.as(ordinary)
	s.cred = nil
	id := strconv.Itoa(ordinary)
	for name, line := range map[string]string{
		"passwd": "gobuilder:x:" + id + ":" + id + "::/nonexistent:/bin/false\n",
		"subuid": "gobuilder:2000000:65536\n",
		"subgid": "gobuilder:2000000:65536\n",
	} {
		data, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), append(data, line...), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	s.through = []string{"unshare", "--mount", "sh", "-c", fmt.Sprintf(`set -e
for f in passwd subuid subgid; do mount --bind "%s/$f" /etc/$f; done
exec setpriv --reuid %s --regid %s --clear-groups --inh-caps=-all -- "$@"`, s.dir, id, id), "sh"}
	return s
}

// unowned are instructions that give no file to anybody in a process.
const unowned = `
WORKDIR /srv
COPY app dir /srv/
COPY --chown=1000:50 app /srv/owned
RUN echo made > /srv/made && mkdir -p /srv/folder/below && chmod 0750 /srv/folder && mkfifo /srv/fifo
RUN echo more >> /etc/group && chmod 0700 /home/app && touch /home/app/new && rm -r /usr/sbin
RUN rm /var/run && ln -s /tmp /var/run && chmod 4755 /srv/made && touch /tmp/sticky
COPY --from=BASE /etc/passwd /srv/copied
RUN mv /srv/copied /srv/moved && echo -n >> /srv/owned
`

// others gives files to more users than one, and has more run steps.
const others = `
RUN chown app:staff /srv/made && echo somebody:x:4000:4000::/home/somebody:/bin/sh >> /etc/passwd && \
    mkdir /home/somebody && chown 4000:4001 /home/somebody && ln /srv/owned /srv/same
USER somebody
RUN touch /home/somebody/file && id -u > /home/somebody/id && chgrp 4000 /home/somebody/file
`

// TestOrdinaryUserBuildsTheSame builds as users of whom the machine knows more or less, and compares with what
// root builds.
func TestOrdinaryUserBuildsTheSame(t *testing.T) {
	for _, isolation := range []string{"overlay", "directory"} {
		for who, become := range map[string]func(*site) *site{
			"one-id": func(s *site) *site { return s.as(ordinary) },
			"range":  (*site).withRange,
		} {
			t.Run(isolation+"-"+who, func(t *testing.T) {
				t.Parallel()
				since := time.Now().Truncate(time.Second)
				dockerfile := "FROM " + busybox(t) + strings.ReplaceAll(unowned+others, "BASE", busybox(t))
				context := map[string]string{"Dockerfile": dockerfile, "app": "app", "dir/file": "file"}
				root := newSite(t, context)
				root.isolation = isolation
				user := become(newSite(t, context))
				user.isolation = isolation
				root.date("app", "dir/file", "dir")
				user.date("app", "dir/file", "dir")
				root.mustBuild("--destination", repo(t, "root"))
				user.mustBuild("--destination", repo(t, "user"))
				sameImages(t, pull(t.Context(), t, repo(t, "root")), pull(t.Context(), t, repo(t, "user")), since)

				// What was kept in the work directory must mean the same as what was in the root.
				for _, s := range []*site{root, user} {
					s.lay(map[string]string{"Dockerfile": dockerfile + "USER root\nRUN chmod 0711 /home/app /srv && rm /srv/made\n"})
				}
				root.mustBuild("--destination", repo(t, "root2"))
				user.mustBuild("--destination", repo(t, "user2"))
				sameImages(t, pull(t.Context(), t, repo(t, "root2")), pull(t.Context(), t, repo(t, "user2")), since)
				user.clean()
				nothingMounted(t, user.dir)
			})
		}
	}
}

// TestHome holds that a home is only needed for what is there by default.
func TestHome(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + "\nRUN echo > /made\n"}).as(ordinary)
	home := filepath.Join(s.dir, "home")
	if err := os.Chown(home, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.work, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(s.work, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "XDG_CACHE_HOME=", "DOCKER_CONFIG=")
	for _, env := range []string{"HOME=", "HOME=/nonexistent", "HOME=" + home} {
		s.env[0] = env
		s.mustBuild("--no-push")
		s.mustFail([]string{"work directory", "name "}, "--no-push", "--work-dir", "")
	}
	if left := below(t, home); len(left) > 0 {
		t.Errorf("in the home: %v", left)
	}

	// A home that is there and one's own is enough.
	if err := os.Chown(home, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	s.mustBuild("--no-push", "--work-dir", "")
	if _, err := os.Stat(filepath.Join(home, ".cache", "gobuild", "blobs")); err != nil {
		t.Error(err)
	}
}

// TestUmask holds that the modes in an image do not depend on the mask of who builds it.
func TestUmask(t *testing.T) {
	everywhere(t, func(t *testing.T, place func(map[string]string) *site) {
		since := time.Now().Truncate(time.Second)
		context := map[string]string{"app": "app", "dir/file": "file", "Dockerfile": "FROM " + busybox(t) + `
WORKDIR /made/by/workdir
COPY app /made/by/copy/
ADD app dir /made/by/add/
RUN umask; umask > /umask; echo > /file; mkdir /dir
COPY <<END /heredoc
END
`}
		for _, mask := range []string{"022", "077", "000"} {
			s := place(context)
			s.date("app", "dir/file", "dir")
			s.through = []string{"sh", "-c", "umask " + mask + `; exec "$@"`, "sh"}
			s.mustBuild("--destination", repo(t, mask))
			sameImages(t, pull(t.Context(), t, repo(t, "022")), pull(t.Context(), t, repo(t, mask)), since)
		}
	})
}

// date makes files of the context look as if they had been there for long, like those of another checkout.
func (s *site) date(names ...string) {
	s.t.Helper()
	long := time.Unix(1_500_000_000, 0)
	for _, name := range names {
		if err := os.Chtimes(filepath.Join(s.context, name), long, long); err != nil {
			s.t.Fatal(err)
		}
	}
}
