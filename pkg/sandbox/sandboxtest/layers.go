package sandboxtest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func (s *suite) testLayers(t *testing.T) {
	s.sub(t, "attributes", s.testAttributes)
	s.sub(t, "merge", s.testMerge)
	s.sub(t, "implicit parents", s.testImplicit)
	s.sub(t, "trap 80 malicious", s.testMalicious)
	s.sub(t, "130 layers", s.testMany)
	s.sub(t, "wrong diff ID", s.testWrongDiffID)
	s.sub(t, "killed extraction", s.testKilledExtraction)
	s.sub(t, "add", s.testAdd)
}

// testAttributes holds that all that a layer says of a file is there.
func (s *suite) testAttributes(t *testing.T) {
	uid, gid := 1000, 44
	if s.o.Unsupervised {
		uid, gid = 0, 0
	}
	xattr := File("x/xattr", 0o644, "x")
	xattr.PAXRecords["SCHILY.xattr.user.k"] = "v"
	xattr.PAXRecords["SCHILY.xattr.trusted.overlay.redirect"] = "/etc"
	xattr.PAXRecords["SCHILY.xattr.user.overlay.opaque"] = "y"
	capability := File("x/cap", 0o755, "x")
	capability.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	f := s.open(t, Base(t), Layer(t,
		Owned(Dir("x", 0o2751), uid, gid), xattr, capability,
		Owned(File("x/suid", 0o6755, "x"), uid, gid),
		Owned(Symlink("x/link", "/file"), uid, gid),
		tar.Header{Name: "x/fifo", Typeflag: tar.TypeFifo, Mode: 0o640},
		tar.Header{Name: "x/dev", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		Owned(File("x/no", 0, ""), uid, gid),
		Link("x/hard", "x/suid"), Link("x/hardlink-to-link", "x/link"),
	))
	f.commit("true")
	got := f.run(f.sh("cd /x; stat -c '%n %a %u:%g %Y %F' . cap suid link fifo no hard hardlink-to-link xattr; [ suid -ef hard ] && echo same; stat -c %a /file"))
	o := fmt.Sprintf("%d:%d", uid, gid)
	want := strings.Join([]string{
		". 2751 " + o + " 1600000000 directory", "cap 755 0:0 1600000000 regular file", "suid 6755 " + o + " 1600000000 regular file",
		"link 777 " + o + " 1600000000 symbolic link", "fifo 640 0:0 1600000000 fifo", "no 0 " + o + " 1600000000 regular empty file",
		"hard 6755 " + o + " 1600000000 regular file", "hardlink-to-link 777 " + o + " 1600000000 symbolic link",
		"xattr 644 0:0 1600000000 regular file", "same", "644", "",
	}, "\n")
	// A link's entry repeats the attributes of its file, here with other owners.
	want = strings.ReplaceAll(want, "suid 6755 "+o, "suid 644 0:0")
	want = strings.ReplaceAll(want, "hard 6755 "+o, "hard 644 0:0")
	want = strings.ReplaceAll(want, "link 777 "+o, "link 777 0:0")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	lines := f.change("for i in xattr cap no; do touch -d '2020-01-01' /x/$i; done; rm -f /x/dev")
	text := strings.Join(lines, "\n")
	for _, part := range []string{`x/xattr "x" user.k="v"`, "\n+ f 0755 0:0 x/cap \"x\" security.capability=\"\\x01\\x00\\x00\\x02\\x00\\x04", "x/no"} {
		if !strings.Contains(text, part) {
			t.Errorf("changes lack %q:\n%s", part, text)
		}
	}
	if strings.Contains(text, "overlay") {
		t.Errorf("attributes of overlayfs came through:\n%s", text)
	}
}

// testMerge holds how layers hide what is below them.
func (s *suite) testMerge(t *testing.T) {
	f := s.open(t, Base(t),
		Layer(t, Dir("m", 0o755), File("m/a", 0o644, "a"), File("m/b", 0o644, "b"), Dir("m/d", 0o755), File("m/d/x", 0o644, "x"),
			Dir("o", 0o755), File("o/old", 0o644, ""), Dir("r", 0o755), File("r/old", 0o644, ""), File("f2d", 0o644, ""),
			Dir("d2f", 0o755), File("d2f/x", 0o644, ""), Dir("d2l", 0o755), File("d2l/x", 0o644, ""), Symlink("l2d", "m"),
			Dir("w", 0o755), File("w/gone", 0o644, "")),
		Layer(t, Whiteout("m/.wh.a"), File("m/b", 0o600, "bb"), Whiteout("m/d/.wh.x"),
			// trap 20: the marker may come after what it does not hide.
			File("o/new", 0o644, ""), Whiteout("o/.wh..wh..opq"),
			// A whiteout never hides what the same layer has.
			Whiteout(".wh.r"), Dir("r", 0o711), File("r/new", 0o644, ""),
			Dir("f2d", 0o755), File("f2d/x", 0o644, ""), File("d2f", 0o644, ""), Symlink("d2l", "m"), Dir("l2d", 0o755), File("l2d/x", 0o644, ""),
			Dir("w", 0o755), File("w/new", 0o644, ""), Whiteout(".wh.w"),
			Whiteout(".wh..wh.plnk"), Whiteout(".wh.never-was"),
			// trap 24: the last entry of a path counts.
			File("twice", 0o600, "1"), File("twice", 0o644, "2"), Dir("twice-dir", 0o700), File("twice-dir/x", 0o644, ""), File("twice-dir", 0o644, "file")),
	)
	got := f.run(f.sh("cd /; find m o r f2d d2f d2l l2d w twice twice-dir never-was 2>/dev/null || :; stat -c %a m/b r; cat m/b twice; ls -a / | grep wh || :"))
	want := strings.Join([]string{
		"m", "m/b", "m/d", "o", "o/new", "r", "r/new", "f2d", "f2d/x", "d2f", "d2l", "l2d", "l2d/x", "w", "w/new", "twice", "twice-dir", "600", "711", "bb2",
	}, "\n")
	if sortLines(got) != sortLines(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func sortLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	m := make(map[string]int)
	for _, l := range lines {
		m[l]++
	}
	return fmt.Sprint(m)
}

// testImplicit holds that a directory which a layer only implies is the one of the layers below.
func (s *suite) testImplicit(t *testing.T) {
	f := s.open(t, Base(t),
		Layer(t, Dir("usr", 0o751), Dir("usr/lib", 0o1777), File("usr/lib/old", 0o644, ""), Symlink("lib", "usr/lib"), Symlink("lib64", "lib"),
			Symlink("dangling", "opt/x/y"), File("usr/file", 0o640, "linked")),
		Layer(t, File("usr/lib/direct", 0o644, "")),
		Layer(t, File("lib/new", 0o644, ""), File("lib64/deep/newer", 0o644, ""), File("brand/new/file", 0o644, ""),
			File("dangling/z", 0o644, ""), Link("other", "lib/../usr/file")),
		Layer(t, Whiteout("lib/.wh.old")),
	)
	got := f.run(f.sh("cd /; for l in lib lib64 dangling; do readlink $l; done; find usr brand opt | while read x; do stat -c '%n %a' $x; done; cat other; [ other -ef usr/file ] && echo same"))
	want := strings.Join([]string{
		"usr/lib", "lib", "opt/x/y", "usr 751", "usr/lib 1777", "usr/lib/direct 644", "usr/lib/new 644", "usr/lib/deep 755", "usr/lib/deep/newer 644",
		"usr/file 644", "brand 755", "brand/new 755", "brand/new/file 644", "opt 755", "opt/x 755", "opt/x/y 755", "opt/x/y/z 644", "linkedsame",
	}, "\n")
	if sortLines(got) != sortLines(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// testMalicious holds that no layer reaches out of its root.
func (s *suite) testMalicious(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("safe"), 0o640); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	rel := strings.TrimPrefix(victim, "/")
	evil := []tar.Header{
		File(up+rel, 0o777, "evil"),
		File("/"+rel+"2", 0o777, "evil"),
		Symlink("abs", outside), File("abs/made", 0o777, "evil"), File("abs/victim", 0o777, "evil"),
		Symlink("climb", up+strings.TrimPrefix(outside, "/")), File("climb/victim", 0o777, "evil"),
		Symlink("leaf", victim), File("leaf", 0o777, "evil"),
		Symlink("slink", victim), Link("hl", "slink"), Link("hl2", "slink"),
		Symlink("dirlink", outside), Dir("dirlink", 0o777), File("dirlink/victim", 0o777, "evil"),
		Symlink("w", outside), Whiteout("w/.wh.victim"), Whiteout("w/.wh..wh..opq"),
		File("..", 0o777, ""), File("a/../../../x", 0o644, "clipped"),
	}
	for i := range evil {
		if evil[i].Typeflag == tar.TypeLink {
			evil[i].Mode, evil[i].Uid = 0o777, 0
		}
	}
	f := s.open(t, Base(t), Layer(t, evil...))
	if got := f.run(f.sh("cat /x")); got != "clipped" {
		t.Errorf("clipped name: %q", got)
	}
	f.run(f.sh("cat /" + rel + " >/dev/null; rm -rf /abs/ /climb/* /w/* /etc 2>/dev/null || :"))
	read(t, f.root.Changes(t.Context()))
	f.root.Commit(nil)
	// The mount on /etc/hosts goes through a link that means something outside, too.
	g := s.open(t, Layer(t, Dir("bin", 0o755), program(t), Symlink("bin/sh", "busybox"), Symlink("etc", outside), Symlink("dev", outside+"/dev")))
	g.run(g.sh("true"))
	h := s.open(t, Layer(t, Dir("bin", 0o755), program(t), Symlink("bin/sh", "busybox"), Symlink("proc", up)))
	if err := h.root.Run(t.Context(), h.sh("true")); err == nil {
		t.Error("/proc may be a link")
	}
	data, err := os.ReadFile(victim)
	fi, statErr := os.Lstat(victim)
	if err != nil || statErr != nil || string(data) != "safe" || fi.Mode() != 0o640 {
		t.Errorf("the victim is %q, %v, %v %v", data, fi.Mode(), err, statErr)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside there are now %v, %v", entries, err)
	}

	for name, h := range map[string][]tar.Header{
		"whiteout of the parent": {Whiteout("d/.wh...")},
		"whiteout of itself":     {Whiteout("d/.wh..")},
		"link to a directory":    {Dir("q", 0o755), Link("ql", "q")},
		"link to nothing":        {Link("ql", "no/thing")},
		"link out":               {Link("ql", up+rel)},
		"loop":                   {Symlink("l1", "l2"), Symlink("l2", "l1"), File("l1/x", 0o644, "")},
		"unknown type":           {{Name: "x", Typeflag: 'Z'}},
	} {
		root, err := s.newDriver(t).Open(t.Context(), []v1.Layer{Layer(t, h...)})
		if err == nil {
			root.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func (s *suite) testMany(t *testing.T) {
	layers := []v1.Layer{Base(t)}
	for i := range 130 {
		layers = append(layers, Layer(t, File(fmt.Sprintf("many/%d", i), 0o644, "x")))
	}
	f := s.open(t, layers...)
	if got := f.run(f.sh("ls /many | wc -l")); got != "130\n" {
		t.Errorf("got %q", got)
	}
	if got := f.change("rm /many/7"); strings.Join(got, "\n") != "+ d 0755 0:0 dev\n+ d 0755 0:0 many\n- many/7\n+ d 0755 0:0 proc\n+ d 0755 0:0 sys" {
		t.Errorf("got %q", got)
	}
}

// lying is a layer whose contents are not those of its diff ID.
type lying struct {
	v1.Layer
	other v1.Layer
}

func (l lying) DiffID() (v1.Hash, error) { return l.other.DiffID() }

func (s *suite) testWrongDiffID(t *testing.T) {
	d := s.newDriver(t)
	good := Layer(t, File("x", 0o644, "good"))
	if _, err := d.Open(t.Context(), []v1.Layer{lying{Layer(t, File("x", 0o644, "evil")), good}}); err == nil {
		t.Error("no error")
	}
	f := openWith(t, d, good, Base(t))
	if got := f.run(f.sh("cat /x")); got != "good" {
		t.Errorf("got %q", got)
	}
}

// broken is a layer that ends in the middle, with an error.
type broken struct {
	v1.Layer
	end error
}

func (s broken) Uncompressed() (io.ReadCloser, error) {
	r, err := s.Layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	return &brokenReader{ReadCloser: r, s: s, left: 1 << 19}, nil
}

type brokenReader struct {
	io.ReadCloser
	s    broken
	left int
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, r.s.end
	}
	n, err := r.ReadCloser.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// testKilledExtraction holds that what an extraction left behind that did not end is never taken for the layer.
func (s *suite) testKilledExtraction(t *testing.T) {
	d := s.newDriver(t)
	base := Base(t)
	down := errors.New("the line is down")
	if _, err := d.Open(t.Context(), []v1.Layer{broken{Layer: base, end: down}}); !errors.Is(err, down) {
		t.Errorf("error %v, want that of the layer", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, down)
	defer cancel()
	if _, err := d.Open(ctx, []v1.Layer{forever{base, ctx}}); !errors.Is(err, down) {
		t.Errorf("error %v, want the cause of the context", err)
	}
	f := openWith(t, d, base)
	if got := f.run(f.sh("cat /setuid")); got != "s" {
		t.Errorf("got %q", got)
	}
}

// forever is a layer that does not come until its context is done.
type forever struct {
	v1.Layer
	ctx context.Context
}

func (l forever) Uncompressed() (io.ReadCloser, error) { return io.NopCloser(l), nil }

func (l forever) Read([]byte) (int, error) {
	<-l.ctx.Done()
	return 0, context.Cause(l.ctx)
}

func (s *suite) testAdd(t *testing.T) {
	d := s.newDriver(t)
	f := openWith(t, d, Base(t))
	f.run(f.sh("echo -n one > /one; mkdir /implied; chmod 700 /implied"))
	changes := f.root.Changes(t.Context())
	read(t, changes)
	// Not committed yet.
	if err := f.root.Add(t.Context(), Layer(t, File("implied/two", 0o644, "two"), Whiteout(".wh.file"))); err != nil {
		t.Fatal(err)
	}
	if got := f.run(f.sh("cat /one /implied/two; stat -c %a /implied; ls /file 2>/dev/null || echo gone")); got != "onetwo700\ngone\n" {
		t.Errorf("got %q", got)
	}
	if got := read(t, f.root.Changes(t.Context())); len(got) > 0 {
		t.Errorf("what was added is a change: %q", got)
	}
	f.root.Commit(nil)
	f.root.Commit(nil)
}
