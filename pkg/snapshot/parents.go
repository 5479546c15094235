package snapshot

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// WithParents returns changes with an addition before each one for those of its parents that the
// stream does not name and that are directories in lower, as they are there.
//
// A layer without them would leave it to who unpacks it to make the parents, and not everyone
// looks at the layers below for that: with a layer of tmp/x alone Docker's overlay driver turns /tmp into an
// ordinary directory of mode 0755. Layers by BuildKit have the parents.
func WithParents(changes Changes, lower rootfs.Tree) Changes {
	return func(yield func(Change, error) bool) {
		p := parents{lower: lower, yield: yield}
		for c, err := range changes {
			if err == nil {
				if c.Header == nil {
					err = errNoHeader
				} else {
					err = p.before(c.Header.Name)
				}
			}
			if errors.Is(err, errStopped) {
				return
			}
			if err != nil {
				yield(Change{}, err)
				return
			}
			if !yield(c, nil) {
				return
			}
			p.open = append(p.open, c.Header.Name)
			if c.Kind == Opaque && !p.hidden(c.Header.Name) {
				p.opaque = c.Header.Name
			}
		}
	}
}

// parents is the state of WithParents.
type parents struct {
	lower rootfs.Tree
	yield func(Change, error) bool
	// open holds the last change and those of its parents that were dealt with, the deepest last.
	open []string
	// opaque is the last opaque directory that does not lie in another: lower has nothing below it any more.
	opaque string
}

// before deals with the parents of name.
func (p *parents) before(name string) error {
	for len(p.open) > 0 && !isBelow(name, p.open[len(p.open)-1]) {
		p.open = p.open[:len(p.open)-1]
	}
	from := 0
	if n := len(p.open); n > 0 && p.open[n-1] != "." {
		from = len(p.open[n-1]) + 1
	}
	for from < len(name) {
		i := strings.IndexByte(name[from:], '/')
		if i < 0 {
			return nil
		}
		if err := p.add(name[:from+i]); err != nil {
			return err
		}
		from += i + 1
	}
	return nil
}

// add puts the directory dir of lower into the stream, if it is one.
func (p *parents) add(dir string) error {
	p.open = append(p.open, dir)
	if p.hidden(dir) {
		return nil
	}
	fi, err := p.lower.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() && !p.yield(Change{Kind: Add, Header: rootfs.EntryOf(fi).Header}, nil) {
		return errStopped
	}
	return nil
}

// hidden reports whether name lies in an opaque directory.
func (p *parents) hidden(name string) bool { return p.opaque != "" && isBelow(name, p.opaque) }

// isBelow reports whether name lies in the directory dir, however deep.
func isBelow(name, dir string) bool {
	if dir == "." {
		return name != "."
	}
	return len(name) > len(dir) && name[len(dir)] == '/' && strings.HasPrefix(name, dir)
}
