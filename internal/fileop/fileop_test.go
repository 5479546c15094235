package fileop_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/internal/fileop"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// collect returns headers by name, and contents of regular files.
func collect(t testing.TB, changes snapshot.Changes) (map[string]snapshot.Change, map[string]string) {
	t.Helper()
	headers, bodies := map[string]snapshot.Change{}, map[string]string{}
	for c, err := range changes {
		must(t, err)
		headers[c.Header.Name] = c
		if c.Open != nil {
			r, err := c.Open()
			must(t, err)
			b, err := io.ReadAll(r)
			must(t, err)
			must(t, r.Close())
			bodies[c.Header.Name] = string(b)
		}
	}
	return headers, bodies
}

func selectFiles(t testing.TB, c fileop.Copy) *fileop.Selection {
	t.Helper()
	s, err := c.Select(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// TestContents reads what is copied and unpacked, after all changes have been taken.
func TestContents(t *testing.T) {
	dir := t.TempDir()
	writeContext(t, dir)
	tree := diskTree(t, dir)
	for line, want := range map[string]map[string]string{
		"COPY x plain /o/":                      {"o/w/q.txt": "4", "o/y/b.go": "2", "o/y/z/a.go": "1", "o/y/z/c.txt": "3", "o/plain": "x"},
		"ADD mixed.tar /o/":                     {"o/bin/newtool": "hi", "o/imp/lied/f": "q", "o/esc": "e", "o/dir/x": ""},
		"ADD dup.tar /":                         {"dup": "3", "z/2": "2", "srv/i/j": "3"},
		"ADD gz.tgz xz.anything zstd plain /o/": {"o/f1": "1", "o/f2": "1", "o/f3": "1", "o/plain": "x"},
	} {
		s := selectFiles(t, instruction(t, line, tree))
		var opens []func() error
		got := map[string]string{}
		for c, err := range s.Changes(t.Context(), nil) {
			must(t, err)
			if c.Header.Typeflag == tar.TypeReg && c.Open == nil {
				got[c.Header.Name] = ""
			}
			if c.Open != nil {
				opens = append(opens, func() error {
					r, err := c.Open()
					if err != nil {
						return err
					}
					b, err := io.ReadAll(r)
					got[c.Header.Name] = string(b)
					return errors.Join(err, r.Close())
				})
			}
		}
		for _, open := range opens {
			must(t, open())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", line, diff)
		}
	}
}

// TestTimes holds traps 15 and 16: files keep their times to the nanosecond; what is made has the time of the copy.
func TestTimes(t *testing.T) {
	dir := t.TempDir()
	writeSpec(t, dir, "d 0755 0:0 d\nf 0644 0:0 d/f x\nd 0755 0:0 d/e")
	exact := time.Unix(1_234_567_890, 123_456_789)
	for _, name := range []string{"d/f", "d/e", "d"} {
		must(t, os.Chtimes(filepath.Join(dir, name), exact, exact))
	}
	base := specTree(t, "d 0755 0:0 old\nd 0755 0:0 old/e\nd 0755 0:0 above")
	for line, want := range map[string]map[string]time.Time{
		"COPY d /n/m":            {"n": made(), "n/m": exact, "n/m/f": exact, "n/m/e": exact},
		"COPY d/f /n/m/":         {"n": made(), "n/m": made(), "n/m/f": exact},
		"COPY d /old":            {"old": exact, "old/f": exact}, // the time of old/e alone is no change
		"COPY d/f /above/":       {"above": stamp(), "above/f": exact},
		"COPY --parents d/f /n/": {"n": time.Time{}, "n/d": made(), "n/d/f": exact},
	} {
		headers, _ := collect(t, selectFiles(t, instruction(t, line, diskTree(t, dir))).Changes(t.Context(), base))
		for name, tm := range want {
			h := headers[name].Header
			if h == nil || !tm.IsZero() && !h.ModTime.Equal(tm) {
				t.Errorf("%s: %s: %v, want %v", line, name, h, tm)
			}
		}
	}
}

// TestOnlyWhatDiffers holds trap 67: files that are below already are in no layer again.
func TestOnlyWhatDiffers(t *testing.T) {
	src := specTree(t, "d 0700 0:0 d\nf 0644 1:2 d/f same\nl 0777 0:0 d/l f\nd 0711 0:0 d/e\np 0644 0:0 d/p")
	c := fileop.Copy{Sources: []fileop.Source{{Tree: src, Path: "d", KeepOwner: true}}, Dest: "/", Time: made()}
	base := layers(t, c)
	s := selectFiles(t, c)
	_, err := s.Digest(t.Context())
	must(t, err)
	got, err := list(t, s.Changes(t.Context(), base))
	must(t, err)
	if got != "" {
		t.Errorf("copying once more changes\n%s", got)
	}
	// The same for an archive, which has the times of the fixture.
	dir := t.TempDir()
	writeContext(t, dir)
	add := instruction(t, "ADD base.tar /", diskTree(t, dir))
	got, err = run(t, add, layers(t, add))
	must(t, err)
	if strings.Contains(got, "f 0755") || strings.Contains(got, "etc") {
		t.Errorf("unpacking once more changes\n%s", got)
	}
	for _, chown := range []string{"", "3"} {
		c.Chown, c.Chmod = chown, "600"
		got, err = run(t, c, base)
		must(t, err)
		if !strings.Contains(got, " f") || !strings.Contains(got, " e\n") {
			t.Errorf("a copy with other metadata changes only\n%s", got)
		}
	}
}

// TestOwners holds trap 11.
func TestOwners(t *testing.T) {
	tree := specTree(t, "d 0755 1:2 d\nf 0644 3:4 d/f x\nl 0777 5:6 d/l f\nf 0644 3:4 g x")
	for _, keep := range []bool{false, true} {
		c := fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: ".", KeepOwner: keep}}, Dest: "/", Time: made()}
		want := map[bool]string{
			false: "d 0755 0:0 0 d\nf 0644 0:0 1 d/f\nl 0777 0:0 0 d/l -> f\nf 0644 0:0 1 g\n",
			true:  "d 0755 1:2 0 d\nf 0644 3:4 1 d/f\nl 0777 5:6 0 d/l -> f\nf 0644 3:4 1 g\n",
		}
		got, err := run(t, c, nil)
		must(t, err)
		if diff := cmp.Diff(want[keep], got); diff != "" {
			t.Errorf("keep %v:\n%s", keep, diff)
		}
	}
}

// TestUnknownOwner holds trap 14.
func TestUnknownOwner(t *testing.T) {
	tree := specTree(t, "f 0644 0:0 f x")
	linked := specTree(t, `
d 0755 0:0 etc
l 0777 0:0 etc/passwd ../../usr/passwd
d 0755 0:0 usr
f 0644 0:0 usr/passwd app:x:5:6::/:\n`)
	for _, tt := range []struct {
		chown string
		base  rootfs.Tree
		want  string
	}{
		{"nosuch", linked, `error: look up owner "nosuch": user "nosuch" is not in /etc/passwd of the image; use a numeric id`},
		{"app:nosuch", linked, `error: look up owner "app:nosuch": group "nosuch" is not in /etc/group of the image; use a numeric id`},
		{"app", nil, `error: look up owner "app": user "app" is not in /etc/passwd of the image; use a numeric id`},
		{"app", linked, "f 0644 5:6 1 f\n"},
		{"root:root", nil, "f 0644 0:0 1 f\n"},
		{"77:", nil, "f 0644 77:77 1 f\n"},
		{":78", nil, "f 0644 0:78 1 f\n"},
		{"4294967295", nil, `error: parse owner "4294967295": id 4294967295 is not between 0 and 2147483647`},
		{"1:-1", nil, `error: parse owner "1:-1": id -1 is not between 0 and 2147483647`},
	} {
		c := fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: "f"}}, Dest: "/", Chown: tt.chown}
		got, err := run(t, c, tt.base)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("--chown=%s:\n%s, want\n%s", tt.chown, got, tt.want)
		}
	}
}

// TestWorkDirOwner holds traps 12 and 44: every directory that is made belongs to USER, as far as base knows it.
func TestWorkDirOwner(t *testing.T) {
	base := specTree(t, "d 0755 0:0 etc\nf 0644 0:0 etc/passwd app:x:5:6::/:\\n\nf 0644 0:0 etc/group g:x:9:\\n\nd 0700 1:1 there")
	for user, want := range map[string]string{
		"":       "d 0755 0:0 0 a\nd 0755 0:0 0 a/b\n",
		"app":    "d 0755 5:6 0 a\nd 0755 5:6 0 a/b\n",
		"app:g":  "d 0755 5:9 0 a\nd 0755 5:9 0 a/b\n",
		"7":      "d 0755 7:7 0 a\nd 0755 7:7 0 a/b\n",
		"nobody": "d 0755 0:0 0 a\nd 0755 0:0 0 a/b\n",
	} {
		got, err := list(t, fileop.WorkDir(base, "/a/b", user, made()))
		must(t, err)
		if got != want {
			t.Errorf("USER %q:\n%s", user, got)
		}
	}
	got, err := list(t, fileop.WorkDir(base, "/there/x/../y/", "app", made()))
	must(t, err)
	if want := "d 0700 1:1 0 there\nd 0755 5:6 0 there/y\n"; got != want {
		t.Errorf("existing parent:\n%s", got)
	}
	if got, err := list(t, fileop.WorkDir(nil, "/", "", made())); got != "" || err != nil {
		t.Errorf("root: %q, %v", got, err)
	}
}

// TestInline copies heredocs.
func TestInline(t *testing.T) {
	eof := fileop.Source{Inline: &fileop.Inline{Name: "EOF", Data: "body\n", Mode: 0o644}}
	empty := fileop.Source{Inline: &fileop.Inline{Name: "run.sh", Mode: 0o644}}
	for dest, want := range map[string]string{
		"/d/": "d 0755 3:3 0 d\nf 0755 3:3 5 d/EOF\nf 0755 3:3 0 d/run.sh\n",
		"/f":  "f 0755 3:3 0 f\n", // the last one wins
	} {
		c := fileop.Copy{Sources: []fileop.Source{eof, empty}, Dest: dest, Chown: "3", Chmod: "755", Time: made()}
		got, err := run(t, c, nil)
		must(t, err)
		if got != want {
			t.Errorf("%s:\n%s", dest, got)
		}
	}
	headers, bodies := collect(t, selectFiles(t, fileop.Copy{Sources: []fileop.Source{eof}, Dest: "/f", Time: made()}).Changes(t.Context(), nil))
	if bodies["f"] != "body\n" || !headers["f"].Header.ModTime.Equal(made()) {
		t.Errorf("%q at %v", bodies["f"], headers["f"].Header.ModTime)
	}
}

// TestXattrs holds trap 8: file capabilities are kept through COPY --from, whatever happens to
// owner and mode, and what belongs to this machine is not.
func TestXattrs(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	records := map[string]string{
		"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.x": "1", "SCHILY.xattr.user.overlay.opaque": "y",
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "label", "comment": "no",
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Mode: 0o755, PAXRecords: records, Format: tar.FormatPAX}))
	must(t, w.Close())
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.tar"), b.Bytes(), 0o600))
	want := map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.x": "1"}
	image := layers(t, instruction(t, "ADD a.tar /", diskTree(t, dir)))
	headers, _ := collect(t, selectFiles(t, instruction(t, "COPY --from=image --chown=1 --chmod=700 f /g", image)).Changes(t.Context(), nil))
	if diff := cmp.Diff(want, headers["g"].Header.PAXRecords); diff != "" {
		t.Error(diff)
	}
}

// TestWhiteoutNames holds trap 22: a name that would delete something is refused.
func TestWhiteoutNames(t *testing.T) {
	dir := t.TempDir()
	writeSpec(t, dir, "d 0755 0:0 d\nf 0644 0:0 d/.wh.x y")
	must(t, os.WriteFile(filepath.Join(dir, "a.tar"), tarOf(t, "f 0644 0:0 d/.wh..wh..opq"), 0o600))
	for _, line := range []string{"COPY d /", "ADD a.tar /"} {
		_, err := run(t, instruction(t, line, diskTree(t, dir)), nil)
		if err == nil || !strings.Contains(err.Error(), "would delete a file") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestUnpackReplaces holds trap 23 for archives: what is below a replaced directory is gone.
func TestUnpackReplaces(t *testing.T) {
	base := specTree(t, "d 0700 1:1 own\nf 0644 0:0 own/hidden x\nd 0755 0:0 own/sub\nf 0644 0:0 own/sub/hidden x\nf 0644 0:0 f x")
	dir := t.TempDir()
	for name, spec := range map[string]string{
		"again.tar":  "f 0644 0:0 own/new\nf 0644 0:0 own\nd 0750 2:2 own\nf 0644 0:0 own/x",
		"twice.tar":  "f 0644 0:0 own\nd 0755 0:0 own\nf 0600 0:0 own\nd 0711 0:0 own",
		"file.tar":   "d 0755 0:0 f\nf 0644 0:0 f\nd 0700 0:0 f",
		"merge.tar":  "d 0755 3:3 own\nd 0711 4:4 own/sub",
		"behind.tar": "l 0777 0:0 l nowhere\nf 0644 0:0 l/x",
		"links.tar":  "f 0644 0:0 b 1\nh 0600 5:5 a b\nh 0640 6:6 own/c a\nl 0777 0:0 s b\nh 0777 0:0 t s",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), tarOf(t, spec), 0o600))
	}
	for name, want := range map[string]string{
		"again.tar": "opaque d 0750 2:2 0 own\nf 0644 0:0 0 own/x\n",
		"twice.tar": "opaque d 0711 0:0 0 own\n",
		"file.tar":  "d 0700 0:0 0 f\n",
		"merge.tar": "d 0755 3:3 0 own\nd 0711 4:4 0 own/sub\n",
		// BuildKit fails here, as the link leads nowhere.
		"behind.tar": "l 0777 0:0 0 l -> nowhere\nd 0755 0:0 0 nowhere\nf 0644 0:0 0 nowhere/x\n",
		"links.tar": "f 0640 6:6 1 a\nh 0640 6:6 0 b -> a\nd 0700 1:1 0 own\nh 0640 6:6 0 own/c -> a\n" +
			"l 0777 0:0 0 s -> b\nh 0777 0:0 0 t -> s\n",
	} {
		got, err := run(t, instruction(t, "ADD "+name+" /", diskTree(t, dir)), base)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestUnpackStaysInside holds trap 80: an archive unpacked into a directory knows nothing above it.
func TestUnpackStaysInside(t *testing.T) {
	base := specTree(t, "d 0755 0:0 etc\nf 0644 0:0 etc/passwd x\nd 0755 0:0 in\nl 0777 0:0 in/abs /etc\nl 0777 0:0 in/up ../../etc")
	dir := t.TempDir()
	for name, spec := range map[string]string{
		"dots":  "f 0644 0:0 ../../etc/passwd\nf 0644 0:0 /etc/../../../y",
		"links": "l 0777 0:0 l ../../../etc\nf 0644 0:0 l/passwd\nf 0644 0:0 abs/x\nf 0644 0:0 up/y\nl 0777 0:0 m /\nf 0644 0:0 m/z",
		"hard":  "h 0600 9:9 h ../etc/passwd",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), tarOf(t, spec), 0o600))
		for _, dest := range []string{"/in", "/in/"} {
			got, err := run(t, instruction(t, "ADD "+name+" "+dest, diskTree(t, dir)), base)
			if (err != nil) != (name == "hard") {
				t.Errorf("%s: %v", name, err)
			}
			for l := range strings.Lines(got) {
				if file := strings.Fields(l)[4]; file != "in" && !strings.HasPrefix(file, "in/") {
					t.Errorf("%s: %s", name, l)
				}
			}
		}
	}
}

// TestBrokenArchive: once the first entry has been read, what is wrong with the rest is an error and not half a copy.
func TestBrokenArchive(t *testing.T) {
	dir := t.TempDir()
	whole := tarOf(t, "f 0644 0:0 a "+strings.Repeat("x", 3000)+"\nf 0644 0:0 b 2")
	gz := compress(t, "gz", whole)
	for name, b := range map[string][]byte{
		"short.tar": whole[:2000],
		"bad.tar":   append(bytes.Clone(whole[:3584]), bytes.Repeat([]byte("?"), 512)...),
		"short.tgz": gz[:len(gz)/2],
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		_, err := run(t, instruction(t, "ADD "+name+" /", diskTree(t, dir)), nil)
		if name != "short.tgz" && (err == nil || !strings.HasPrefix(err.Error(), `unpack "`+name+`": `)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSpool unpacks more than would fit into memory budgets, out of order, and leaves nothing behind.
func TestSpool(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	must(t, os.WriteFile(filepath.Join(dir, "a.tgz"), compress(t, "gz", tarOf(t, "f 0644 0:0 z "+big+"\nf 0644 0:0 a "+big[1:])), 0o600))
	c := instruction(t, "ADD a.tgz /", diskTree(t, dir))
	c.TempDir = temp
	s, err := c.Select(t.Context())
	must(t, err)
	_, bodies := collect(t, s.Changes(t.Context(), nil))
	if bodies["z"] != big || bodies["a"] != big[1:] {
		t.Error("other contents")
	}
	must(t, s.Close())
	must(t, s.Close())
	left, err := os.ReadDir(temp)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFifoIsNotOpened holds trap 26: neither hashing nor sniffing waits for a writer.
func TestFifoIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(dir, "p"), 0o644))
	for _, line := range []string{"ADD p /q", "COPY . /"} {
		s := selectFiles(t, instruction(t, line, diskTree(t, dir)))
		_, err := s.Digest(t.Context())
		must(t, err)
		got, err := list(t, s.Changes(t.Context(), nil))
		must(t, err)
		if !strings.HasPrefix(got, "p 0644") {
			t.Errorf("%s:\n%s", line, got)
		}
	}
}

// TestCancel: a cancelled copy says why.
func TestCancel(t *testing.T) {
	why := errors.New("stage b failed")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	dir := t.TempDir()
	writeContext(t, dir)
	tree := diskTree(t, dir)
	for _, line := range []string{"COPY d /", "ADD mixed.tar /"} {
		s := selectFiles(t, instruction(t, line, tree))
		cancel(why)
		for _, err := range s.Changes(ctx, nil) {
			if !errors.Is(err, why) {
				t.Errorf("%s: changes: %v", line, err)
			}
		}
		if _, err := s.Digest(ctx); !errors.Is(err, why) {
			t.Errorf("%s: digest: %v", line, err)
		}
	}
	if _, err := instruction(t, "COPY d* /", tree).Select(ctx); !errors.Is(err, why) {
		t.Errorf("select: %v", err)
	}
}

// TestMissing holds trap 17: what is not there is an error that can be told from others.
func TestMissing(t *testing.T) {
	tree := specTree(t, "f 0644 0:0 f x")
	for _, path := range []string{"/badfile", "badfile", "f/x", "no/../../badfile"} {
		_, err := (fileop.Copy{Sources: []fileop.Source{{Tree: tree, Path: path}}, Dest: "/"}).Select(t.Context())
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), ": not found") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
