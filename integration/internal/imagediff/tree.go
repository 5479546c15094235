// Package imagediff compares two images the way a user of them would notice: by the files that
// a container sees, by the config it starts with, and by the history that tools show. It shares no code with the
// program under test: what reads tar headers here was written from the image specification alone.
package imagediff

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	xattrPrefix    = "SCHILY.xattr."
)

// file is one inode. Names that are hard links of each other share a *file.
type file struct {
	kind         byte
	mode         int64
	uid, gid     int
	size         int64
	digest       [sha256.Size]byte
	link         string
	major, minor int64
	xattrs       map[string]string
	modTime      time.Time
}

// entry is one entry of a layer.
type entry struct {
	name string // clean, relative; "." is the root
	raw  string // as it stands in the tar
	hard string // target of a hard link, clean
	file *file  // nil for hard links
}

// tree maps names to inodes.
type tree map[string]*file

// readLayer reads all entries of a layer, and hashes their contents.
func readLayer(l v1.Layer) (_ []entry, err error) {
	rc, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := rc.Close(); err == nil {
			err = cerr
		}
	}()
	var entries []entry
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// What follows the tar must be read too, so that the layer's digests are verified.
			_, err = io.Copy(io.Discard, rc)
			return entries, err
		}
		if err != nil {
			return nil, err
		}
		e, err := newEntry(h, tr)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}

func newEntry(h *tar.Header, r io.Reader) (entry, error) {
	e := entry{name: clean(h.Name), raw: h.Name}
	if h.Typeflag == tar.TypeLink {
		e.hard = clean(h.Linkname)
		return e, nil
	}
	f := &file{
		kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, size: h.Size,
		link: h.Linkname, modTime: h.ModTime, xattrs: map[string]string{},
	}
	if f.kind == tar.TypeChar || f.kind == tar.TypeBlock {
		f.major, f.minor = h.Devmajor, h.Devminor
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrPrefix); ok {
			f.xattrs[name] = v
		}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return entry{}, fmt.Errorf("read %q: %w", h.Name, err)
	}
	sum.Sum(f.digest[:0])
	e.file = f
	return e, nil
}

func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// apply lays a layer over t. Deletions concern only what earlier layers brought.
func (t tree) apply(entries []entry) error {
	for _, e := range entries {
		dir, base := path.Split(e.name)
		switch {
		case base == opaqueMarker:
			t.removeBelow(strings.TrimSuffix(dir, "/"))
		case strings.HasPrefix(base, whiteoutPrefix):
			t.remove(dir + strings.TrimPrefix(base, whiteoutPrefix))
		}
	}
	for _, e := range entries {
		if strings.HasPrefix(path.Base(e.name), whiteoutPrefix) {
			continue
		}
		f := e.file
		if f == nil {
			if f = t[e.hard]; f == nil {
				return fmt.Errorf("hard link %q: no target %q", e.name, e.hard)
			}
		}
		if old := t[e.name]; old != nil && old.kind == tar.TypeDir && f.kind != tar.TypeDir {
			t.removeBelow(e.name)
		}
		t[e.name] = f
	}
	return nil
}

func (t tree) remove(name string) {
	delete(t, name)
	t.removeBelow(name)
}

func (t tree) removeBelow(dir string) {
	for name := range t {
		if dir == "" && name != "" || strings.HasPrefix(name, dir+"/") {
			delete(t, name)
		}
	}
}

// groups maps each name of a file with several names to all its names, sorted.
func (t tree) groups() map[string]string {
	names := map[*file][]string{}
	for name, f := range t {
		if f.kind != tar.TypeDir {
			names[f] = append(names[f], "/"+name)
		}
	}
	groups := map[string]string{}
	for _, ns := range names {
		if len(ns) < 2 {
			continue
		}
		slices.Sort(ns)
		for _, n := range ns {
			groups[strings.TrimPrefix(n, "/")] = strings.Join(ns, " ")
		}
	}
	return groups
}

// malformed lists what no layer should hold: one path twice, a path both added and deleted, names that are not
// plain, and hard links to what the same layer has not brought before.
func malformed(entries []entry) []string {
	var out []string
	seen := map[string]bool{}
	for _, e := range entries {
		if want := strings.TrimPrefix(e.raw, "./"); path.Clean("/"+want) != "/"+strings.TrimSuffix(want, "/") {
			out = append(out, fmt.Sprintf("name %q is not clean", e.raw))
		}
		if seen[e.name] {
			out = append(out, fmt.Sprintf("/%s stands twice", e.name))
		}
		if e.file == nil && !seen[e.hard] {
			out = append(out, fmt.Sprintf("/%s is a hard link to /%s, which does not come before it", e.name, e.hard))
		}
		seen[e.name] = true
	}
	for name := range seen {
		dir, base := path.Split(name)
		if del, ok := strings.CutPrefix(base, whiteoutPrefix); ok && base != opaqueMarker && seen[dir+del] {
			out = append(out, fmt.Sprintf("/%s is added and deleted", dir+del))
		}
	}
	slices.Sort(out)
	return out
}
