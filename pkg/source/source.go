// Package source says where the files of a build come from, as trees: directories, archives, URLs and git repositories.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// Context is a build context: the files that COPY and ADD see, and the Dockerfile.
type Context struct {
	// Tree holds the files, but for those that the ignore file leaves out; only local directories have one.
	// Root owns all of them, and they have no extended attributes: both are properties of the checkout rather than of the
	// files, and the Dockerfile frontend does not transfer them either. The files of an archive have what the
	// archive says. Directories on disk are read when they are asked for; an ignored directory is not read at all when
	// nothing in it can be an exception.
	Tree rootfs.Tree
	// Ignore lists the patterns of the ignore file that was used, as package patternmatcher takes them.
	Ignore []string
	// Dockerfile is the contents of the Dockerfile, which may be among the ignored files.
	Dockerfile []byte
	// DockerfilePath is the path of the Dockerfile as messages should name it.
	DockerfilePath string

	// dir is where the files are on this system; empty when they are nowhere.
	dir string
	// dockerfile is what the Dockerfile is called in Tree unless the user says something else.
	dockerfile string
	time       func(context.Context) (time.Time, error) // nil: there is none
	closers    []io.Closer                              // in the order of opening
}

// Options say how a context is read.
type Options struct {
	// Dockerfile is the path of the Dockerfile: as it is, or else inside the context; of a context that is no local
	// directory, inside it or else as it is. It may be an http or https URL, too, and "-" is Stdin. Empty is
	// "Dockerfile" in the context. Where there is no file of the name "Dockerfile", "dockerfile" is taken.
	Dockerfile string
	// SubDir is a directory below the context that is the context in its place.
	SubDir string
	// Stdin is what "-" stands for.
	Stdin io.Reader
	// Fetch says how contexts and Dockerfiles are fetched, and where archives are unpacked.
	Fetch Fetch

	// KeepGitDir keeps .git in the context that is a git repository, and GitCommitTime gives its files the time of the
	// commit.
	KeepGitDir, GitCommitTime bool
	// GitScheme, when not empty, stands for "git" in a context of git://: Kaniko means https by that.
	GitScheme string
}

// stdinName is how messages name what came on standard input.
const stdinName = "<stdin>"

// Open reads the Dockerfile and the ignore file of the context called name, which is one of
//
//   - a local directory, with "dir://" in front or not;
//   - a local tar archive, with "tar://" in front or not, compressed with gzip, bzip2, xz, zstd, or not at all;
//   - "-", "stdin" or "tar://stdin": an archive that Options.Stdin gives, or else a Dockerfile that needs no files;
//   - a git URL, see [ParseGit], with the branch, tag or commit and the directory behind a "#";
//   - an http or https URL of an archive, or else of a Dockerfile, which then is the one file, called "context".
//
// What exists on this system comes before what could be a URL without a scheme. What a file is tell its contents, not
// its name.
//
// The ignore file is <Dockerfile>.dockerignore beside the Dockerfile, or else .dockerignore in the
// context; without either nothing is ignored, nor is it where the context is no local directory, as BuildKit has
// it. Links inside the context are followed inside the context.
//
// Errors wrap fs.ErrNotExist when the context or the Dockerfile is not there, and are an *IgnoreError for a
// malformed pattern. The caller closes the context.
func Open(ctx context.Context, name string, o Options) (*Context, error) {
	o.Fetch = o.Fetch.withDefaults()
	if o.SubDir != "" && !filepath.IsLocal(o.SubDir) {
		return nil, fmt.Errorf("open context %q: the directory %q leads out of it", shownContext(name), o.SubDir)
	}
	c := &Context{dockerfile: dockerfileName}
	err := c.open(ctx, name, o)
	if err == nil {
		err = c.read(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// open finds the files.
func (c *Context) open(ctx context.Context, name string, o Options) error {
	if name == "" {
		return errors.New("open context: no directory given")
	}
	var err error
	rest, isDir := strings.CutPrefix(name, "dir://")
	file, isTar := strings.CutPrefix(name, "tar://")
	switch git, isGit, gitErr := ParseGit(name); {
	case isDir:
		err = c.openDir(rest, o)
	case name == "-" || name == "stdin" || file == "stdin" || file == "-":
		err = c.openStdin(ctx, o)
	case isTar:
		err = c.openFile(ctx, file, o)
	case !strings.Contains(name, "://") && exists(name):
		err = c.openPath(ctx, name, o)
	case isGit && gitErr != nil:
		err = gitErr
	case isGit:
		return c.openGit(ctx, git, o) // whose errors name it
	case strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://"):
		return c.openURL(ctx, name, o)
	default:
		if scheme, _, ok := strings.Cut(name, "://"); ok {
			err = fmt.Errorf("%s contexts are not supported; fetch it and give the directory", scheme)
		} else {
			err = c.openPath(ctx, name, o)
		}
	}
	if err != nil {
		return fmt.Errorf("open context %q: %w", shownContext(name), err)
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// shownContext is a context as messages name it.
func shownContext(name string) string {
	if strings.Contains(name, "://") {
		return shown(name)
	}
	return name
}

// openPath opens a directory or an archive.
func (c *Context) openPath(ctx context.Context, name string, o Options) error {
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no such directory: %w", fs.ErrNotExist)
	}
	if err == nil && !fi.IsDir() {
		return c.openFile(ctx, name, o)
	}
	return c.openDir(name, o)
}

func (c *Context) openDir(dir string, o Options) error {
	all, err := rootfs.Dir(dir)
	switch {
	case dir == "":
		return errors.New("no directory given")
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no such directory: %w", fs.ErrNotExist)
	case err != nil:
		return err
	}
	if o.SubDir != "" {
		sub, err := resolveDir(all, o.SubDir)
		if err != nil {
			return err
		}
		dir = filepath.Join(dir, filepath.FromSlash(sub))
		if all, err = rootfs.Dir(dir); err != nil {
			return err
		}
	}
	c.dir, c.Tree = dir, all
	return nil
}

// resolveDir returns the directory name in a tree, as a process in it would find it.
func resolveDir(t rootfs.Tree, name string) (string, error) {
	at, err := rootfs.Resolve(t, filepath.ToSlash(name))
	if err == nil {
		var fi fs.FileInfo
		if fi, err = t.Lstat(at); err == nil && !fi.IsDir() {
			err = errors.New("it is no directory")
		}
	}
	if err != nil {
		return "", fmt.Errorf("find %q in it: %w", name, err)
	}
	return at, nil
}

// read reads the Dockerfile and the ignore file.
func (c *Context) read(ctx context.Context, o Options) error {
	in := reader{dir: c.dir, tree: c.Tree}
	ignore, err := c.readDockerfile(ctx, &in, o)
	if err != nil || c.dir == "" {
		return err
	}
	ignored, err := readIgnore(&in, ignore)
	if err != nil {
		return err
	}
	c.Ignore = ignored.patterns
	c.Tree = newTree(c.Tree, ignored.matcher)
	return nil
}

// Time is that of the context: when its commit was committed, when the server says that it was last modified, or the
// latest of the times of an archive's regular files. It is zero for a local directory.
func (c *Context) Time(ctx context.Context) (time.Time, error) {
	if c.time == nil {
		return time.Time{}, nil
	}
	return c.time(ctx)
}

// Close removes what was fetched or unpacked. The tree cannot be used after it.
func (c *Context) Close() error {
	var errs []error
	for i := range c.closers {
		errs = append(errs, c.closers[len(c.closers)-1-i].Close())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// Directory returns the tree of a local directory that is a context besides the main one: without what its own
// .dockerignore leaves out. Errors are those of [Open].
func Directory(dir string) (rootfs.Tree, error) {
	c := &Context{}
	if err := c.openDir(dir, Options{}); err != nil {
		return nil, fmt.Errorf("open context %q: %w", dir, err)
	}
	ignored, err := readIgnore(&reader{dir: dir, tree: c.Tree}, place{inside: true, name: ignoreSuffix, shown: ignoreSuffix})
	if err != nil {
		return nil, err
	}
	return newTree(c.Tree, ignored.matcher), nil
}
