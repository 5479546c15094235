package fileop_test

import (
	"archive/tar"
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

// TestInline copies heredocs.
func TestInline(t *testing.T) {
	eof := fileop.Source{Inline: &fileop.Inline{Name: "EOF", Data: "body\n", Mode: 0o644, Time: made()}}
	empty := fileop.Source{Inline: &fileop.Inline{Name: "run.sh", Mode: 0o644, Time: made()}}
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
