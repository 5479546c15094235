package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/moby/patternmatcher"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// filter says where a source begins and what is taken of the directories that it names.
type filter struct {
	// path is the source's path or pattern, absolute and clean.
	path string
	// include, with Parents, and exclude hold patterns relative to path; nil lets everything pass.
	include, exclude *patternmatcher.PatternMatcher
	// prefix is what every included name begins with, component by component.
	prefix []string
	// required is the absolute path that must be found, if any.
	required string
	// matched is set when something was selected.
	matched bool
}

// matches carries what patterns matched a directory to the files in it.
type matches struct{ include, exclude patternmatcher.MatchInfo }

func newFilter(c *Copy, src string) (*filter, error) {
	f := &filter{path: path.Join("/", src)}
	if len(c.Exclude) > 0 {
		var err error
		if f.exclude, err = patternmatcher.New(c.Exclude); err != nil {
			return nil, fmt.Errorf("parse exclude patterns %q: %w", c.Exclude, err)
		}
	}
	if !c.Parents {
		return f, nil
	}
	pivot, pattern, ok := strings.Cut(src, "/./")
	if !ok {
		pivot, pattern = "/", src
	}
	f.path = path.Join("/", pivot)
	pattern = strings.TrimPrefix(path.Join("/", pattern), "/")
	var err error
	if f.include, err = patternmatcher.New([]string{pattern}); err != nil {
		return nil, fmt.Errorf("parse pattern %q: %w", pattern, err)
	}
	if !strings.HasPrefix(pattern, "!") {
		for _, part := range strings.Split(pattern, "/") {
			if strings.ContainsAny(part, `*?[]\^`) {
				break
			}
			f.prefix = append(f.prefix, part)
		}
	}
	if !hasWildcard(f.path) && !hasWildcard(pattern) {
		f.required = path.Join(f.path, pattern)
	}
	return f, nil
}

// match reports whether the file name, relative to the source, is selected; up is what match
// returned for its directory.
func (f *filter) match(name string, up matches) (bool, matches, error) {
	var m matches
	in := true
	var err error
	if f.include != nil {
		if in, m.include, err = f.include.MatchesUsingParentResults(name, up.include); err != nil {
			return false, m, fmt.Errorf("match %q: %w", name, err)
		}
	}
	if f.exclude != nil {
		var out bool
		if out, m.exclude, err = f.exclude.MatchesUsingParentResults(name, up.exclude); err != nil {
			return false, m, fmt.Errorf("match %q: %w", name, err)
		}
		in = in && !out
	}
	return in, m, nil
}

// mayHold reports whether the directory name, which is not selected, may hold something that is.
func (f *filter) mayHold(name string, m matches) bool {
	if f.exclude != nil && !f.exclude.Exclusions() {
		// Without exceptions, what an excluded directory holds is excluded.
		if out, _, err := f.exclude.MatchesUsingParentResults(name, m.exclude); err == nil && out {
			return false
		}
	}
	if f.include == nil {
		return true
	}
	for i, part := range strings.Split(name, "/") {
		if i == len(f.prefix) {
			break
		}
		if part != f.prefix[i] {
			return false
		}
	}
	return true
}

// hasWildcard reports whether s is a pattern of path.Match rather than a plain name. As in
// BuildKit a backslash alone makes no pattern, and is then part of the name.
func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// expand returns the absolute names that pattern, absolute and clean, matches in t. A pattern
// without wildcards is returned as it is. A directory that matches is not searched further.
func expand(ctx context.Context, t rootfs.Tree, pattern string) ([]string, error) {
	if !hasWildcard(pattern) {
		return []string{pattern}, nil
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("parse pattern %q: %w", pattern, err)
	}
	parts := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
	n := 0
	for !hasWildcard(parts[n]) {
		n++
	}
	plain := path.Join("/", path.Join(parts[:n]...))
	var fi fs.FileInfo
	dir, err := rootfs.Resolve(t, plain)
	if err == nil {
		fi, err = t.Lstat(dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.IsDir():
		return nil, notFound(plain)
	case err != nil:
		return nil, fmt.Errorf("read %q: %w", plain, err)
	}
	x := expansion{ctx: ctx, tree: t, pattern: strings.Join(parts[n:], "/"), parts: parts[n:]}
	return x.names, x.walk(dir, "", &x.names)
}

// expansion matches a pattern against names below a directory.
type expansion struct {
	ctx     context.Context //nolint:containedctx // it lives for one call
	tree    rootfs.Tree
	pattern string
	parts   []string
	names   []string
}

// walk adds to names what matches in dir, which is called rel in the pattern's terms.
func (x *expansion) walk(dir, rel string, names *[]string) error {
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	list, err := x.tree.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read %q: %w", show(dir), err)
	}
	for _, d := range list {
		name, sub := join(dir, d.Name()), path.Join(rel, d.Name())
		if ok, _ := path.Match(x.pattern, sub); ok {
			*names = append(*names, show(name))
			continue
		}
		if d.IsDir() && x.mayMatchBelow(sub) {
			if err := x.walk(name, sub, names); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayMatchBelow reports whether something in the directory rel may match.
func (x *expansion) mayMatchBelow(rel string) bool {
	if strings.Contains(x.pattern, "[") {
		return true // a character class may match a slash
	}
	parts := strings.Split(rel, "/")
	if len(parts) >= len(x.parts) {
		return false
	}
	for i, part := range parts {
		if ok, _ := path.Match(x.parts[i], part); !ok {
			return false
		}
	}
	return true
}
