package integration

import (
	"context"
	"encoding/base64"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// field is where steps attack: a container, or the machine that builds.
type field struct {
	lay   func(t *testing.T, dockerfile string) parts.Job
	build func(context.Context, *testing.T, parts.Job) error
	// sh runs a script as the one who builds, outside of steps.
	sh func(t *testing.T, script string) string
	// list describes what is not the steps'.
	list func(*testing.T) []string
	// config is the directory of Docker's config.json; victim is a directory of the builder's.
	config, victim string
	// machine says that there is no container around the build.
	machine bool
	// reached says that the builder's files are within the reach of steps, which docs/isolation.md tells.
	reached bool
}

func containerField(t *testing.T, s setting) *field {
	c := s.start(t)
	return &field{
		lay: c.lay, build: c.build, list: c.list, config: c.config, victim: "/tmp/victim", reached: s.driver == "inplace",
		sh: func(t *testing.T, script string) string { return c.run(t, "/bin/sh", "-c", script) },
	}
}

func siteField(t *testing.T, driver string, become func(*site) *site) *field {
	s := become(newSite(t, nil))
	s.isolation = driver
	f := &field{machine: true, config: filepath.Join(s.dir, "home", ".docker"), victim: filepath.Join(s.dir, "victim"), build: s.buildJob}
	f.lay = func(t *testing.T, dockerfile string) parts.Job {
		dir := filepath.Join(t.TempDir(), "context")
		for _, err := range []error{os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return parts.Job{Context: dir, Dockerfile: "Dockerfile", NoCache: true}
	}
	f.sh = func(t *testing.T, script string) string {
		t.Helper()
		words := slices.Concat(s.through, []string{"sh", "-c", script})
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	f.list = func(t *testing.T) []string {
		return strings.Split(f.sh(t, "ls -lnd /lib64 /bin/sh /etc/ld.so* /etc/hosts /etc/resolv.conf; cksum /etc/passwd /etc/hosts"), "\n")
	}
	return f
}

// TestRedTeam has steps look for what is not theirs, and spoil what they can, in every driver; the build after them is right, and what
// is around them is what it was.
func TestRedTeam(t *testing.T) {
	fields := map[string]func(*testing.T) *field{}
	for _, s := range settings() {
		if s.driver != "" && s.name != "cluster" {
			fields[s.name+"-"+s.driver] = func(t *testing.T) *field { return containerField(t, s) }
		}
	}
	for _, driver := range []string{"overlay", "directory"} {
		for who, become := range map[string]func(*site) *site{
			"machine-root": func(s *site) *site { return s }, "machine-one-id": func(s *site) *site { return s.as(ordinary) },
			"machine-range": (*site).withRange,
		} {
			fields[who+"-"+driver] = func(t *testing.T) *field { return siteField(t, driver, become) }
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		t.Run(name, func(t *testing.T) { fields[name](t).attack(t, "red/"+name) })
	}
}

// attack builds attacks between two builds of an honest Dockerfile, and compares those.
func (f *field) attack(t *testing.T, repository string) {
	auth := base64.StdEncoding.EncodeToString([]byte("u:open sesame"))
	daemon := "daemon-of-" + path(t.Name())
	f.sh(t, "mkdir -p "+f.config+" "+f.victim+" && cd "+f.config+` && echo '{"auths":{"elsewhere.invalid":{"auth":"`+auth+`"}}}' > config.json && chmod 640 config.json &&
		echo `+auth+" > "+f.victim+"/hosts && chmod 600 "+f.victim+"/hosts")
	words := strings.NewReplacer("BASE", busybox(t), "VICTIM", f.victim, "CONFIG", f.config,
		"PATTERN", "["+auth[:1]+"]"+auth[1:] /* which does not find itself */, "DAEMON", daemon)
	honest := func(tag string) map[string]string {
		t.Helper()
		job := f.lay(t, words.Replace("FROM BASE\nRUN echo fine > /fine && ls / /bin > /list && busybox md5sum /bin/busybox >> /list && cat /etc/passwd >> /list\n"))
		job.Destination = registry(t).Addr + "/" + repository + ":" + tag
		if err := f.build(t.Context(), t, job); err != nil {
			t.Fatalf("an honest build: %v", err)
		}
		return files(t, pull(t.Context(), t, job.Destination))
	}
	before := honest("before")
	own, around := f.own(t), f.list(t)
	attacks := map[string]string{"seek": seek, "replace": replaceAll, "links": plantLinks, "leave": leaveBehind}
	if !f.reached {
		attacks["reach"] = reach
	}
	if !f.machine {
		attacks["kill"] = killAll // nothing else than a container should be trusted with it
	}
	for _, name := range slices.Sorted(maps.Keys(attacks)) {
		if err := f.build(t.Context(), t, f.lay(t, words.Replace("FROM BASE\n"+attacks[name]))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if after := f.own(t); own != after {
			t.Errorf("%s: the builder's files have changed:\n%s", name, after)
		}
	}
	if after := f.list(t); !slices.Equal(around, after) {
		t.Errorf("what is around has changed:\n%s", difference(around, after))
	}
	if left := processes(t, daemon); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if after := honest("after"); !maps.Equal(before, after) {
		t.Errorf("the next build gives %q, the one before gave %q", after, before)
	}
}

// own describes the builder's files that attacks are after, and what is dead and in nobody's care.
func (f *field) own(t *testing.T) string {
	t.Helper()
	own := f.sh(t, "cd "+f.victim+" && ls -ln . && cat hosts && cat "+f.config+"/config.json")
	if !f.machine {
		// The container's first process here waits for no child that it did not start.
		own += f.sh(t, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; true")
	}
	return own
}

// The attacks. What they find is an error.
const (
	seek = `
RUN find / -type f ! -path '/sys/*' ! -path '/proc/*' ! -path '*VICTIM/*' -print0 2>/dev/null | xargs -0 grep -l 'PATTERN' 2>/dev/null | grep . && exit 1; \
    for p in /proc/[0-9]*; do \
      cat $p/environ $p/rootCONFIG/config.json $p/cwdCONFIG/config.json $p/fd/*/config.json 2>/dev/null | grep -q 'PATTERN' && exit 1; \
    done; true
RUN for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do [ -e $f ] && (: >> $f) 2>/dev/null && { echo $f can be written to; exit 1; }; done; true
RUN [ ! -e /proc/partitions ] || awk 'NR > 2 { print $1, $2 }' /proc/partitions | while read major minor; do \
      for dir in / /dev /tmp; do mknod $dir/disk b $major $minor 2>/dev/null && head -c 1 $dir/disk >/dev/null 2>&1 && echo opened >> /opened; rm -f $dir/disk; done; \
    done; [ ! -e /opened ]
`
	reach = `
RUN for d in '' / /proc/[0-9]*/root /proc/[0-9]*/cwd /proc/[0-9]*/fd/*; do [ ! -e $d/VICTIM/hosts ] || { echo reached by $d; exit 1; }; done; \
    cd / && cd ../../../../../../.. && [ ! -e .VICTIM ]
`
	killAll = "\nRUN kill -9 -1; true\n"

	replaceAll = `
RUN cp /bin/busybox /busybox; mkdir -p /lib64 /lib /usr/bin; \
    for f in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 /lib/ld-musl-x86_64.so.1 /etc/ld.so.preload /usr/bin/newuidmap /usr/bin/git; do \
      echo nonsense > $f; chmod 755 $f; done; \
    rm -f /bin/sh /bin/busybox; echo nonsense > /b.txt; /busybox ln -s /b.txt /bin/sh
COPY Dockerfile /after
WORKDIR /after-that
RUN ["/busybox", "test", "-s", "/after"]
`
	plantLinks = `
RUN mkdir -p /p/etc /p/run /p/tmp && cd /p && ln -s VICTIM/hosts etc/hosts && ln -s VICTIM/resolv.conf etc/resolv.conf && \
    ln -s VICTIM/hostname etc/hostname && ln -s VICTIM run/secrets && ln -s VICTIM link && ln -s ../../../../..VICTIM up
RUN mkdir -p /gobuild /context /usr/local/bin; ln -s /etc /dev/pipes; ln -s VICTIM /dev/shm/x; \
    ln -sf VICTIM/hosts /etc/hosts 2>/dev/null; ln -sf VICTIM/resolv.conf /etc/resolv.conf 2>/dev/null; rm -rf /home /root; true
RUN <<EOF
  cat /etc/passwd
EOF
RUN --mount=type=tmpfs,target=/run/secrets/x true
FROM BASE
COPY --from=0 /p /
RUN echo > /etc/hosts; echo > /etc/resolv.conf; true
WORKDIR /link/made
COPY Dockerfile /link/hosts
COPY Dockerfile /up/hosts
RUN --mount=type=cache,target=/link/cache --mount=type=tmpfs,target=/up/tmpfs --mount=type=bind,target=/run/secrets/here true
ADD Dockerfile /run/secrets/hosts
RUN rm -rf /link/* 2>/dev/null; echo x > /link/hosts; echo x > /link/new; true
`
	leaveBehind = `
RUN for i in 1 2 3; do (setsid sh -c 'trap "" TERM HUP; while :; do sleep 1; done # DAEMON' &); done; (sh -c 'sleep 0.01' & exec true); true
RUN for i in 1 2 3; do (setsid setsid sh -c 'while :; do sleep 1; done # DAEMON' > /dev/null 2>&1 < /dev/null &); done; rm -rf /tmp
`
)
