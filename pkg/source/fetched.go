package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// urlName is what the file of an http context is called in BuildKit's context.
const urlName = "context"

// openGit opens the context that is a git repository.
func (c *Context) openGit(ctx context.Context, g GitOptions, o Options) error {
	if rest, ok := strings.CutPrefix(g.Remote, "git://"); ok && o.GitScheme != "" {
		g.Remote = o.GitScheme + "://" + rest
	}
	// Kaniko takes a commit behind the branch: "#refs/heads/main#<commit>".
	if i := strings.LastIndexByte(g.Ref, '#'); i >= 0 && isCommit(g.Ref[i+1:]) {
		g.Ref = g.Ref[i+1:]
	}
	g.Subdir = path.Join(g.Subdir, filepath.ToSlash(o.SubDir))
	g.KeepDir = g.KeepDir || o.KeepGitDir
	g.CommitTime = g.CommitTime || o.GitCommitTime
	return c.openRemote(ctx, func() (Remote, error) { return NewGit(g, o.Fetch) })
}

// openRemote makes a remote's tree the context's.
func (c *Context) openRemote(ctx context.Context, open func() (Remote, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	c.closers = append(c.closers, r)
	c.time = r.Time
	c.Tree, err = r.Tree(ctx)
	return err
}

// openURL opens the context that a URL gives: an archive, or else a Dockerfile.
func (c *Context) openURL(ctx context.Context, address string, o Options) error {
	err := c.openRemote(ctx, func() (Remote, error) { return NewHTTP(HTTPOptions{URL: address, Name: urlName}, o.Fetch) })
	if err != nil {
		return err
	}
	f, err := c.Tree.Open(urlName)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, sniffLen)
	archive, err := isArchive(b)
	switch {
	case err != nil:
	case archive:
		modified, err1 := c.time(ctx)
		if err = errors.Join(err1, c.openArchive(ctx, b, o)); !modified.IsZero() {
			c.time = fixed(modified)
		}
	case o.SubDir != "":
		err = errors.New("it is a Dockerfile, and has no directories")
	default:
		c.dockerfile = urlName
	}
	if err != nil {
		return fmt.Errorf("open context %q: %w", shown(address), err)
	}
	return nil
}

// openStdin opens the context that comes on standard input: an archive, or else a Dockerfile without files.
func (c *Context) openStdin(ctx context.Context, o Options) error {
	if o.Stdin == nil {
		return errors.New("there is no standard input")
	}
	if o.Dockerfile == "-" {
		return errors.New("standard input can be the context or the Dockerfile, not both")
	}
	b := bufio.NewReaderSize(&interrupted{ctx: ctx, r: o.Stdin}, sniffLen)
	archive, err := isArchive(b)
	if err != nil {
		return err
	}
	if archive {
		return c.openArchive(ctx, b, o)
	}
	if o.SubDir != "" {
		return errors.New("it is a Dockerfile, and has no directories")
	}
	if c.Dockerfile, err = readAll(b, stdinName); err != nil {
		return err
	}
	if len(c.Dockerfile) == 0 {
		return errors.New("standard input is empty; it should be an archive or a Dockerfile")
	}
	c.DockerfilePath = stdinName
	c.Tree, err = emptyTree(ctx)
	return err
}

// emptyTree is a tree without files.
func emptyTree(ctx context.Context) (rootfs.Tree, error) {
	return rootfs.Of(ctx, nil, rootfs.Options{})
}

// openFile opens the context that is a local archive.
func (c *Context) openFile(ctx context.Context, name string, o Options) error {
	fi, err := os.Stat(name)
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is neither a directory nor a regular file")
	}
	if err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, sniffLen)
	switch archive, err := isArchive(b); {
	case err != nil:
		return err
	case !archive:
		return errors.New("it is a file and no tar archive; give the directory that it is in")
	}
	return c.openArchive(ctx, b, o)
}

// readStdin reads the Dockerfile that comes on standard input.
func readStdin(ctx context.Context, stdin io.Reader) ([]byte, error) {
	if stdin == nil {
		return nil, errors.New("there is no standard input")
	}
	return readAll(&interrupted{ctx: ctx, r: stdin}, stdinName)
}

// readURL reads the Dockerfile that a URL gives.
func readURL(ctx context.Context, address string, f Fetch) (_ []byte, err error) {
	r, err := NewHTTP(HTTPOptions{URL: address, Name: urlName}, f)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	t, err := r.Tree(ctx)
	if err != nil {
		return nil, err
	}
	file, err := t.Open(urlName)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readAll(file, shown(address))
}

// interrupted reads until ctx is done, also when r blocks. What blocked goes on for as long as it likes.
type interrupted struct {
	ctx context.Context //nolint:containedctx // it lives for one call
	r   io.Reader
	buf []byte // of a read that was given up
}

// Read implements io.Reader.
func (i *interrupted) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	if len(i.buf) < len(p) {
		i.buf = make([]byte, len(p))
	}
	done := make(chan result, 1)
	go func() {
		n, err := i.r.Read(i.buf[:len(p)])
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		copy(p, i.buf[:r.n])
		return r.n, r.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}
