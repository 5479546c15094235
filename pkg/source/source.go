// Package source says where the files of a build come from, as trees.
package source

import (
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

// Context is a build context: the files that COPY and ADD see, and the Dockerfile.
type Context struct {
	// Tree holds the files, but for those that the ignore file leaves out. Root owns all of them, and
	// they have no extended attributes: both are properties of the checkout rather than of the
	// files, and the Dockerfile frontend does not transfer them either. Directories are read when
	// they are asked for; an ignored directory is not read at all when nothing in it can be an exception.
	Tree rootfs.Tree
	// Ignore lists the patterns of the ignore file that was used, as package patternmatcher takes them.
	Ignore []string
	// Dockerfile is the contents of the Dockerfile, which may be among the ignored files.
	Dockerfile []byte
	// DockerfilePath is the path of the Dockerfile as messages should name it.
	DockerfilePath string
}

// Options say how a context is read.
type Options struct {
	// Dockerfile is the path of the Dockerfile: as it is, or else inside the context. Empty is
	// "Dockerfile" in the context. Where there is no file of the name "Dockerfile", "dockerfile" is taken.
	Dockerfile string
}

const (
	dockerfileName = "Dockerfile"
	ignoreSuffix   = ".dockerignore"
)

// maxFile bounds what is read of a Dockerfile or an ignore file, in bytes.
const maxFile = 16 << 20

// Open reads the Dockerfile and the ignore file of the context at name, a local directory, with
// "dir://" in front or not.
//
// The ignore file is <Dockerfile>.dockerignore beside the Dockerfile, or else .dockerignore in the
// context; without either nothing is ignored. Links inside the context are followed inside the context.
//
// Errors wrap fs.ErrNotExist when the context or the Dockerfile is not there, and are an *IgnoreError for a
// malformed pattern.
func Open(name string, o Options) (*Context, error) {
	dir, err := localDir(name)
	if err != nil {
		return nil, err
	}
	all, err := rootfs.Dir(dir)
	if err != nil {
		return nil, fmt.Errorf("open context %q: %w", name, err)
	}
	in := reader{dir: dir, tree: all}
	c := &Context{}
	ignore, err := c.readDockerfile(&in, o.Dockerfile)
	if err != nil {
		return nil, err
	}
	ignored, err := readIgnore(&in, ignore)
	if err != nil {
		return nil, err
	}
	c.Ignore = ignored.patterns
	c.Tree = newTree(all, ignored.matcher)
	return c, nil
}

// localDir returns the directory that name stands for.
func localDir(name string) (string, error) {
	dir := strings.TrimPrefix(name, "dir://")
	switch kind, _, ok := strings.Cut(dir, "://"); {
	case dir == "":
		return "", errors.New("open context: no directory given")
	case dir == "-":
		return "", errors.New("open context: a context on standard input is not supported yet; unpack it and give the directory")
	case ok, strings.HasPrefix(dir, "git@"):
		if !ok {
			kind = "git"
		}
		return "", fmt.Errorf("open context %q: %s contexts are not supported yet; fetch it and give the directory", name, kind)
	}
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("open context %q: there is no such directory: %w", name, fs.ErrNotExist)
	case err != nil:
		return "", fmt.Errorf("open context %q: %w", name, err)
	case !fi.IsDir():
		return "", fmt.Errorf("open context %q: it is a file, and archives are not supported yet; unpack it and give the directory", name)
	}
	return dir, nil
}

// readDockerfile reads the Dockerfile and returns where its own ignore file would be.
func (c *Context) readDockerfile(in *reader, given string) (ignore place, err error) {
	if given == "-" {
		return place{}, errors.New("read Dockerfile: standard input is not supported yet; write it to a file")
	}
	var candidates []place
	if given == "" {
		given = dockerfileName
	} else {
		candidates = append(candidates, in.outside(given))
	}
	if !filepath.IsAbs(given) {
		candidates = append(candidates, place{inside: true, name: filepath.ToSlash(given), shown: given})
	}
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
	return place{}, fmt.Errorf("read Dockerfile: there is no %q in %q, or here; name the file if it is elsewhere: %w", given, in.dir, fs.ErrNotExist)
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
	dir  string
	tree rootfs.Tree
}

// outside returns the place of a path of this system. One that lies in the context is
// read as such, so that links in a checkout do not lead out of it.
func (r *reader) outside(name string) place {
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
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%q is larger than %d MiB", p.shown, maxFile>>20)
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
