package extract_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// entry is a tar entry of a random layer.
type entry struct {
	h    tar.Header
	body string
}

func (e entry) String() string {
	return fmt.Sprintf("%c %o %q -> %q %q", e.h.Typeflag, e.h.Mode, e.h.Name, e.h.Linkname, e.body)
}

// names are few, so that entries meet.
func names() *rapid.Generator[string] {
	part := rapid.SampledFrom([]string{"a", "b", "c"})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), "/")
	})
}

func entries() *rapid.Generator[entry] {
	return rapid.Custom(func(t *rapid.T) entry {
		name := names().Draw(t, "name")
		e := entry{h: tar.Header{Name: name, Mode: int64(rapid.SampledFrom([]int{0o644, 0o755, 0o600}).Draw(t, "mode")), Typeflag: tar.TypeReg}}
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1, 2:
			e.body = rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, "body")
			e.h.Size = int64(len(e.body))
		case 3, 4, 5:
			e.h.Typeflag = tar.TypeDir
			e.h.Mode |= 0o100
		case 6:
			e.h.Typeflag = tar.TypeSymlink
			e.h.Linkname = rapid.SampledFrom([]string{"", "/", "../", "../../../"}).Draw(t, "up") + names().Draw(t, "target")
		case 7:
			e.h.Name = path.Join(path.Dir(name), ".wh."+path.Base(name))
		case 8:
			e.h.Name = path.Join(name, ".wh..wh..opq")
		case 9:
			e.h.Typeflag = tar.TypeFifo
		}
		return e
	})
}

// sensible leaves out what means something else depending on who looks: whiteouts of directories which the same
// layer only implies, or in which it has other whiteouts, opaque directories with more below them, whiteouts beside links, and directories that come after
// what is in them.
func sensible(entries []entry) []entry {
	if slices.ContainsFunc(entries, func(e entry) bool { return e.h.Typeflag == tar.TypeSymlink }) {
		entries = slices.DeleteFunc(entries, func(e entry) bool { return strings.Contains(e.h.Name, ".wh.") })
	}
	below := func(o entry, dir string) bool { return strings.HasPrefix(o.h.Name, dir+"/") }
	var inOrder, out []entry
	for i, e := range entries {
		if !slices.ContainsFunc(entries[:i], func(o entry) bool { return below(o, e.h.Name) }) {
			inOrder = append(inOrder, e)
		}
	}
	for _, e := range inOrder {
		if dir, ok := strings.CutSuffix(e.h.Name, "/.wh..wh..opq"); ok && slices.ContainsFunc(inOrder, func(o entry) bool {
			return below(o, dir) && path.Dir(o.h.Name) != dir
		}) {
			continue
		}
		hidden, isWhiteout := strings.CutPrefix(path.Base(e.h.Name), ".wh.")
		hidden = path.Join(path.Dir(e.h.Name), hidden)
		if !isWhiteout || !slices.ContainsFunc(inOrder, func(o entry) bool {
			named := slices.ContainsFunc(inOrder, func(d entry) bool { return d.h.Typeflag == tar.TypeDir && d.h.Name == hidden })
			return below(o, hidden) && (!named || strings.HasPrefix(path.Base(o.h.Name), ".wh."))
		}) {
			out = append(out, e)
		}
	}
	return out
}

// oneWay returns entries that do not reach one place by two names, over a link of the layers below and without:
// the one that goes over a link, or all.
func oneWay(root string, entries []entry) []entry {
	for _, e := range entries {
		for dir := path.Dir(e.h.Name); dir != "."; dir = path.Dir(dir) {
			if _, err := os.Readlink(path.Join(root, dir)); err == nil {
				return []entry{e}
			}
		}
	}
	return entries
}

func archive(entries []entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}
