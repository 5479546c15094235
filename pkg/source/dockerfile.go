package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

const (
	dockerfileName = "Dockerfile"
	ignoreSuffix   = ".dockerignore"
)

// maxFile bounds what is read of a Dockerfile or an ignore file, in bytes.
const maxFile = 16 << 20

// readDockerfile reads the Dockerfile and returns where its own ignore file would be.
func (c *Context) readDockerfile(ctx context.Context, in *reader, o Options) (ignore place, err error) {
	given, nowhere := o.Dockerfile, place{inside: true, name: ignoreSuffix, shown: ignoreSuffix}
	switch {
	case c.Dockerfile != nil && given == "": // it was the context
		return nowhere, nil
	case given == "-":
		c.Dockerfile, err = readStdin(ctx, o.Stdin)
		c.DockerfilePath = stdinName
		if err != nil {
			err = fmt.Errorf("read Dockerfile: %w", err)
		}
		return nowhere, err
	case strings.HasPrefix(given, "http://"), strings.HasPrefix(given, "https://"):
		c.Dockerfile, err = readURL(ctx, given, o.Fetch)
		c.DockerfilePath = shown(given)
		if err != nil {
			err = fmt.Errorf("read Dockerfile: %w", err)
		}
		return nowhere, err
	}
	candidates := in.candidates(given, c.dockerfile)
	for _, p := range candidates {
		ignore = p.with(p.name + ignoreSuffix)
		c.Dockerfile, err = in.read(p)
		if errors.Is(err, fs.ErrNotExist) && path.Base(p.name) == dockerfileName {
			p = p.with(p.name[:len(p.name)-len(dockerfileName)] + strings.ToLower(dockerfileName))
			if b, err1 := in.read(p); err1 == nil {
				c.Dockerfile, err = b, nil
			}
		}
		if err == nil {
			c.DockerfilePath = p.shown
			return ignore, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return place{}, fmt.Errorf("read Dockerfile: %w", err)
		}
	}
	if link := (*linkError)(nil); errors.As(err, &link) {
		return place{}, fmt.Errorf("read Dockerfile: %w", err)
	}
	return place{}, in.missing(candidates[0].shown)
}

// candidates are where the Dockerfile may be, given by the user or else called name. A local directory is much like the
// one that the user stands in, and what he sees comes first; a context from elsewhere is not.
func (r *reader) candidates(given, name string) []place {
	if given == "" {
		return []place{{inside: true, name: name, shown: name}}
	}
	list := []place{r.outside(given)}
	if !filepath.IsAbs(given) {
		list = append(list, place{inside: true, name: filepath.ToSlash(given), shown: given})
	}
	if r.dir == "" {
		slices.Reverse(list)
	}
	return list
}

func (r *reader) missing(name string) error {
	where := "the context"
	if r.dir != "" {
		where = fmt.Sprintf("%q", r.dir)
	}
	return fmt.Errorf("read Dockerfile: there is no %q in %s, or here; name the file if it is elsewhere: %w", name, where, fs.ErrNotExist)
}

// place is where a file is looked for.
type place struct {
	inside bool   // in the context; otherwise name is a path of this system
	name   string // slash-separated when inside
	shown  string // as messages name it
}

// with returns the place of another file in the same directory.
func (p place) with(name string) place {
	p.shown = strings.TrimSuffix(p.shown, path.Base(p.name)) + path.Base(name)
	p.name = name
	return p
}

// reader reads small files in the context and elsewhere.
type reader struct {
	dir  string // of the context; empty when it is not on this system
	tree rootfs.Tree
}

// outside returns the place of a path of this system. One that lies in the context is
// read as such, so that links in a checkout do not lead out of it.
func (r *reader) outside(name string) place {
	if r.dir == "" {
		return place{name: name, shown: name}
	}
	abs, err1 := filepath.Abs(name)
	root, err2 := filepath.Abs(r.dir)
	if err1 == nil && err2 == nil {
		if rel, err := filepath.Rel(root, abs); err == nil && filepath.IsLocal(rel) {
			return place{inside: true, name: filepath.ToSlash(rel), shown: name}
		}
	}
	return place{name: name, shown: name}
}

// linkError says that a file is a link to nothing inside the context.
type linkError struct{ name, target string }

func (e *linkError) Error() string {
	return fmt.Sprintf("%q is a link to %q, which is not in the context; give the file that it stands for", e.name, e.target)
}
func (*linkError) Unwrap() error { return fs.ErrNotExist }

func (r *reader) read(p place) ([]byte, error) {
	f, err := r.open(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", p.shown)
	}
	return readAll(f, p.shown)
}

// readAll reads a small file, called name in errors.
func readAll(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%q is larger than %d MiB", name, maxFile>>20)
	}
	return slices.Clip(b), nil
}

func (r *reader) open(p place) (fs.File, error) {
	if !p.inside {
		// A fifo must not block, whoever put it there.
		return os.OpenFile(p.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	name := strings.TrimPrefix(path.Join("/", p.name), "/")
	at, err := rootfs.Resolve(r.tree, name)
	if errors.Is(err, syscall.ENOTDIR) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", p.shown, err)
	}
	f, err := r.tree.Open(at)
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := r.tree.ReadLink(name); err == nil {
			return nil, &linkError{p.shown, target}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", p.shown, err)
	}
	return f, nil
}
