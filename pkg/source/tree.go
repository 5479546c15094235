package source

import (
	"archive/tar"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/moby/patternmatcher"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// tree is the tree of a directory as a build sees it: without what is ignored, owned by root.
type tree struct {
	all rootfs.Tree
	// plainModes lets everybody do with a file what its owner may, but for writing, whatever umask it was made with.
	plainModes bool
	// modified, unless it is zero, is the time of everything.
	modified time.Time

	// exceptions are the leading plain components of each "!" pattern.
	exceptions [][]string
	mu         sync.Mutex                     // guards what follows
	matcher    *patternmatcher.PatternMatcher // nil: nothing is ignored; not safe for concurrent use
	verdicts   map[string]verdict             // of directories
	holds      map[string]bool                // ignored directories that hold exceptions
}

// verdict is what the patterns say about a file.
type verdict struct {
	ignored bool
	info    patternmatcher.MatchInfo
}

func newTree(all rootfs.Tree, m *patternmatcher.PatternMatcher) *tree {
	t := &tree{all: all, matcher: m, verdicts: map[string]verdict{}, holds: map[string]bool{}}
	if m == nil {
		return t
	}
	for _, p := range m.Patterns() {
		if !p.Exclusion() {
			continue
		}
		var plain []string
		for _, part := range strings.Split(p.String(), "/") {
			if strings.ContainsAny(part, `*?[]\^`) {
				break
			}
			plain = append(plain, part)
		}
		t.exceptions = append(t.exceptions, plain)
	}
	return t
}

// info returns fi as a build sees it.
func (t *tree) info(fi fs.FileInfo) *rootfs.FileInfo {
	e := *rootfs.EntryOf(fi)
	h := *e.Header
	h.Uid, h.Gid, h.Uname, h.Gname, h.PAXRecords = 0, 0, "", "", nil
	if t.plainModes && h.Typeflag != tar.TypeSymlink {
		owner := h.Mode & 0o700
		h.Mode = owner | (owner&0o500)>>3 | (owner&0o500)>>6
	}
	if !t.modified.IsZero() {
		h.ModTime = t.modified
	}
	e.Header = &h
	return rootfs.NewFileInfo(&e)
}

// Open opens a regular file.
func (t *tree) Open(name string) (fs.File, error) {
	if err := t.check("open", name, false); err != nil {
		return nil, err
	}
	f, err := t.all.Open(name)
	if err != nil || t.modified.IsZero() {
		return f, err
	}
	return dated{f, t.modified}, nil
}

// dated is an open file that bears another time than on disk. Readers ask for it to see whether a file has changed since it
// was described.
type dated struct {
	fs.File
	modified time.Time
}

// Now returns the size that the file has by now, and the time that it bears.
func (d dated) Now() (size int64, modTime time.Time, err error) {
	fi, err := d.Stat()
	if err != nil {
		return 0, time.Time{}, err
	}
	return fi.Size(), d.modified, nil
}

// ReadLink returns the target of a symbolic link.
func (t *tree) ReadLink(name string) (string, error) {
	if err := t.check("readlink", name, false); err != nil {
		return "", err
	}
	return t.all.ReadLink(name)
}

// Lstat describes a file.
func (t *tree) Lstat(name string) (fs.FileInfo, error) {
	fi, err := t.all.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := t.check("lstat", name, fi.IsDir()); err != nil {
		return nil, err
	}
	return t.info(fi), nil
}

// ReadDir describes what is in a directory.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := t.check("readdir", name, true); err != nil {
		return nil, err
	}
	all, err := t.all.ReadDir(name)
	if err != nil {
		return nil, err
	}
	list := all[:0]
	for _, d := range all {
		seen, err := t.visible(path.Join(name, d.Name()), d.IsDir())
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
		}
		if !seen {
			continue
		}
		fi, err := d.Info()
		if err != nil {
			return nil, err
		}
		list = append(list, t.info(fi))
	}
	return list, nil
}

// check returns an error when name is not visible.
func (t *tree) check(op, name string, dir bool) error {
	seen, err := t.visible(name, dir)
	if err == nil && !seen {
		err = fs.ErrNotExist
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// visible reports whether name is there for a build. An ignored directory is when something in it is.
func (t *tree) visible(name string, dir bool) (bool, error) {
	if t.matcher == nil || name == "." {
		return true, nil
	}
	v, err := t.verdict(name, dir)
	if err != nil || !v.ignored {
		return err == nil, err
	}
	if !dir {
		return false, nil
	}
	return t.hasException(name)
}

// verdict asks the patterns about name.
func (t *tree) verdict(name string, dir bool) (verdict, error) {
	if name == "." {
		return verdict{}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ask(name, dir)
}

// ask is verdict with t.mu held. What it learns of directories it keeps.
func (t *tree) ask(name string, dir bool) (verdict, error) {
	if v, ok := t.verdicts[name]; ok {
		return v, nil
	}
	var up verdict
	if parent := path.Dir(name); parent != "." {
		var err error
		if up, err = t.ask(parent, true); err != nil {
			return verdict{}, err
		}
	}
	var v verdict
	var err error
	v.ignored, v.info, err = t.matcher.MatchesUsingParentResults(name, up.info)
	if err == nil && dir {
		t.verdicts[name] = v
	}
	return v, err
}

// hasException reports whether something in the ignored directory name is not ignored.
func (t *tree) hasException(name string) (bool, error) {
	if !t.mayHaveException(name) {
		return false, nil
	}
	t.mu.Lock()
	has, known := t.holds[name]
	t.mu.Unlock()
	if known {
		return has, nil
	}
	list, err := t.all.ReadDir(name)
	if err != nil {
		return false, err
	}
	for _, d := range list {
		if has, err = t.visible(path.Join(name, d.Name()), d.IsDir()); has || err != nil {
			break
		}
	}
	if err == nil {
		t.mu.Lock()
		t.holds[name] = has
		t.mu.Unlock()
	}
	return has, err
}

// mayHaveException tells from the patterns alone whether it is worth looking into name.
func (t *tree) mayHaveException(name string) bool {
	parts := strings.Split(name, "/")
next:
	for _, plain := range t.exceptions {
		for i := range min(len(plain), len(parts)) {
			if plain[i] != parts[i] {
				continue next
			}
		}
		return true
	}
	return false
}
