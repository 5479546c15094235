package imagediff

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Comparer compares images. It remembers the entries of layers, since many images share their base.
// The zero value is ready, and safe for concurrent use.
type Comparer struct {
	mu     sync.Mutex
	layers map[v1.Hash]func() ([]entry, error)
}

// Options say which times count.
type Options struct {
	// Since is when both builds had yet to begin. A time of modification counts when at least one side's lies before
	// it: what builds write themselves bears the time of writing. That of a directory counts when the wanted one does.
	Since time.Time
	// ExactTimes makes times of creation in the config count. Otherwise it counts whether there are any.
	ExactTimes bool
}

// Compare returns the differences between two images, one per line, in a fixed order; none when they are
// equal. A time that is wanted in whole seconds is compared in whole seconds. The digests of layers never count.
func (c *Comparer) Compare(want, got v1.Image, o Options) ([]string, error) {
	diffs, err := manifests(want, got)
	if err != nil {
		return nil, err
	}
	conf, err := configs(want, got, o.ExactTimes)
	if err != nil {
		return nil, err
	}
	w, err := c.open(want)
	if err != nil {
		return nil, fmt.Errorf("wanted image: %w", err)
	}
	g, err := c.open(got)
	if err != nil {
		return nil, fmt.Errorf("image got: %w", err)
	}
	diffs = append(diffs, conf...)
	diffs = append(diffs, layers(w, g)...)
	return append(diffs, trees(w.tree, g.tree, o.Since)...), nil
}

// image is an image read in full.
type image struct {
	layers [][]entry
	tree   tree
}

func (c *Comparer) open(img v1.Image) (*image, error) {
	ls, err := img.Layers()
	if err != nil {
		return nil, err
	}
	out := &image{tree: tree{}}
	for i, l := range ls {
		entries, err := c.entries(l)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		if err := out.tree.apply(entries); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		out.layers = append(out.layers, entries)
	}
	return out, nil
}

func (c *Comparer) entries(l v1.Layer) ([]entry, error) {
	h, err := l.Digest()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.layers == nil {
		c.layers = map[v1.Hash]func() ([]entry, error){}
	}
	read, ok := c.layers[h]
	if !ok {
		read = sync.OnceValues(func() ([]entry, error) { return readLayer(l) })
		c.layers[h] = read
	}
	c.mu.Unlock()
	return read()
}

// layers compares which layer brings which file, so that content that moved into another layer, or stands in
// two, is seen. Directories do not count: builders differ in which parents they repeat.
func layers(want, got *image) []string {
	var out []string
	if len(want.layers) != len(got.layers) {
		out = append(out, fmt.Sprintf("layers: want %d, got %d", len(want.layers), len(got.layers)))
	}
	for i := range got.layers {
		for _, m := range malformed(got.layers[i]) {
			if i >= len(want.layers) || !slices.Contains(malformed(want.layers[i]), m) {
				out = append(out, fmt.Sprintf("layer %d: %s", i+1, m))
			}
		}
	}
	if len(want.layers) != len(got.layers) {
		return out
	}
	for i := range want.layers {
		w, g := brings(want.layers[i]), brings(got.layers[i])
		for _, name := range union(w, g) {
			if !w[name] {
				out = append(out, fmt.Sprintf("layer %d: /%s is not in the wanted layer", i+1, name))
			} else if !g[name] {
				out = append(out, fmt.Sprintf("layer %d: /%s is missing", i+1, name))
			}
		}
	}
	return out
}

func brings(entries []entry) map[string]bool {
	out := map[string]bool{}
	for _, e := range entries {
		if (e.file == nil || e.file.kind != tar.TypeDir) && !strings.HasPrefix(path.Base(e.name), whiteoutPrefix) {
			out[e.name] = true
		}
	}
	return out
}

func trees(want, got tree, since time.Time) []string {
	var out []string
	wg, gg := want.groups(), got.groups()
	for _, name := range union(want, got) {
		w, g := want[name], got[name]
		switch {
		case w == nil:
			out = append(out, fmt.Sprintf("/%s: want none, got %s", name, kind(g.kind)))
			continue
		case g == nil:
			out = append(out, fmt.Sprintf("/%s: want %s, got none", name, kind(w.kind)))
			continue
		case w == g:
			continue
		}
		for _, d := range files(w, g, since) {
			out = append(out, fmt.Sprintf("/%s: %s", name, d))
		}
		if wg[name] != gg[name] {
			out = append(out, fmt.Sprintf("/%s: hard links: want %q, got %q", name, wg[name], gg[name]))
		}
	}
	return out
}

func files(w, g *file, since time.Time) []string {
	var out []string
	differ := func(what string, want, got any) {
		if want != got {
			out = append(out, fmt.Sprintf("%s: want %v, got %v", what, want, got))
		}
	}
	if w.kind != g.kind {
		return []string{fmt.Sprintf("type: want %s, got %s", kind(w.kind), kind(g.kind))}
	}
	if w.kind != tar.TypeSymlink {
		differ("mode", fmt.Sprintf("%04o", w.mode), fmt.Sprintf("%04o", g.mode))
	}
	differ("owner", fmt.Sprintf("%d:%d", w.uid, w.gid), fmt.Sprintf("%d:%d", g.uid, g.gid))
	differ("size", w.size, g.size)
	if w.size == g.size && w.digest != g.digest {
		differ("content", fmt.Sprintf("%x", w.digest[:6]), fmt.Sprintf("%x", g.digest[:6]))
	}
	differ("link target", w.link, g.link)
	differ("device", fmt.Sprintf("%d:%d", w.major, w.minor), fmt.Sprintf("%d:%d", g.major, g.minor))
	for _, k := range union(w.xattrs, g.xattrs) {
		differ("xattr "+k, quoted(w.xattrs, k), quoted(g.xattrs, k))
	}
	if !w.modTime.Equal(inPrecisionOf(w, g)) && counts(w, g, since) {
		differ("mtime", w.modTime.UTC().Format(time.RFC3339Nano), g.modTime.UTC().Format(time.RFC3339Nano))
	}
	return out
}

// inPrecisionOf is g's time, in whole seconds when that is all that w has.
func inPrecisionOf(w, g *file) time.Time {
	if w.modTime.Nanosecond() == 0 {
		return g.modTime.Truncate(time.Second)
	}
	return g.modTime
}

// counts says whether the times of two files must be equal.
func counts(w, g *file, since time.Time) bool {
	if w.kind == tar.TypeDir {
		// BuildKit receives a context in an order that touches directories after it has set their times: what
		// they then have is a matter of luck.
		return w.modTime.Before(since)
	}
	return w.modTime.Before(since) || g.modTime.Before(since)
}

func quoted(m map[string]string, k string) string {
	v, ok := m[k]
	if !ok {
		return "none"
	}
	return fmt.Sprintf("%q", v)
}

func kind(b byte) string {
	switch b {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar:
		return "character device"
	case tar.TypeBlock:
		return "block device"
	case tar.TypeFifo:
		return "fifo"
	}
	return fmt.Sprintf("type %q", b)
}

// union returns the keys of both maps, sorted.
func union[V any](a, b map[string]V) []string {
	keys := maps.Clone(a)
	if keys == nil {
		keys = map[string]V{}
	}
	maps.Copy(keys, b)
	return slices.Sorted(maps.Keys(keys))
}
