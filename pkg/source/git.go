package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gobuild-dev/gobuild/internal/gitref"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// GitOptions name the files of a commit. See [ParseGit] for URLs. KeepDir has no effect together with a Subdir.
type GitOptions = gitref.Ref

// gitRemote is the Remote of a commit.
type gitRemote struct {
	o       GitOptions
	f       Fetch
	remote  string // without credentials
	opened  once[*gitSession]
	target  once[gitTarget]
	when    once[time.Time]
	checked once[rootfs.Tree]
}

// NewGit returns the remote of a commit.
//
// The commit alone is fetched, without those before it, if the server can do that. With Fetch.Dir it is fetched once.
// Modes are those of a checkout with the umask 022. No hook, filter or helper of the repository or of this machine is
// run, and submodules are fetched from where it is reached from, never from files.
func NewGit(o GitOptions, f Fetch) (Remote, error) {
	o.Checksum = strings.ToLower(o.Checksum)
	o.Subdir = rootfs.Clean(o.Subdir)
	if err := checkGit(o); err != nil {
		return nil, err
	}
	plain, user, err := splitRemote(o.Remote)
	if err != nil {
		return nil, fmt.Errorf("fetch git repository: %w", err)
	}
	if o.Subdir != "." {
		o.KeepDir = false
	}
	r := &gitRemote{o: o, f: f.withDefaults(), remote: plain}
	r.opened.do = func(ctx context.Context) (*gitSession, error) { return newGitSession(ctx, r.f, plain, user) }
	r.target.do = wrapped(r, r.resolve)
	r.when.do = wrapped(r, r.commitTime)
	r.checked.do = wrapped(r, r.checkout)
	return r, nil
}

// wrapped lets errors of do name the repository.
func wrapped[T any](r *gitRemote, do func(context.Context) (T, error)) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		v, err := do(ctx)
		var named *repositoryError
		if err != nil && context.Cause(ctx) == nil && !errors.As(err, &named) {
			err = &repositoryError{r.remote, err}
		}
		return v, err
	}
}

// repositoryError says which repository an error is about.
type repositoryError struct {
	remote string
	err    error
}

func (e *repositoryError) Error() string {
	return fmt.Sprintf("fetch git repository %q: %v", e.remote, e.err)
}

func (e *repositoryError) Unwrap() error { return e.err }

// session returns what commands need, once there is one to run.
func (r *gitRemote) session(ctx context.Context) (*gitSession, error) { return r.opened.get(ctx) }

// Key implements Remote. It asks the remote what a name stands for; a commit needs no asking.
func (r *gitRemote) Key(ctx context.Context) (string, error) {
	t, err := r.target.get(ctx)
	if err != nil {
		return "", err
	}
	key := "git commit=" + t.commit
	if r.o.KeepDir { // which names all these
		key = fmt.Sprintf("git object=%s ref=%q remote=%q", t.object, t.ref, r.remote)
	}
	if r.o.Subdir != "." {
		key += " subdir=" + strconv.Quote(r.o.Subdir)
	}
	if r.o.SkipSubmodules {
		key += " without submodules"
	}
	if r.o.CommitTime {
		key += " with commit time"
	}
	return key, nil
}

// Time implements Remote. It is the committer's time.
func (r *gitRemote) Time(ctx context.Context) (time.Time, error) { return r.when.get(ctx) }

// Tree implements Remote.
func (r *gitRemote) Tree(ctx context.Context) (rootfs.Tree, error) { return r.checked.get(ctx) }

// Close implements Remote.
func (r *gitRemote) Close() error {
	if s, ok := r.opened.peek(); ok {
		return os.RemoveAll(s.temp)
	}
	return nil
}

func (r *gitRemote) commitTime(ctx context.Context) (time.Time, error) {
	t, err := r.target.get(ctx)
	if err != nil {
		return time.Time{}, err
	}
	s, err := r.session(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var when time.Time
	err = s.with(ctx, r.remote, t.object, func(repo *gitRepository) error {
		out, err := repo.output(ctx, "log", "-1", "--format=%ct", t.object+"^{commit}", "--")
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
		when = time.Unix(n, 0).UTC()
		return err
	})
	return when, err
}

func (r *gitRemote) checkout(ctx context.Context) (rootfs.Tree, error) {
	t, err := r.target.get(ctx)
	if err != nil {
		return nil, err
	}
	s, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.temp, "checkout")
	if err := os.RemoveAll(dir); err != nil { // of an attempt that was canceled
		return nil, err
	}
	c := &gitCheckout{session: s, keep: r.o.KeepDir, submodules: !r.o.SkipSubmodules}
	if err := c.into(ctx, dir, r.remote, t, 0); err != nil {
		return nil, err
	}
	if dir, err = below(dir, r.o.Subdir); err != nil {
		return nil, err
	}
	all, err := rootfs.Dir(dir)
	if err != nil {
		return nil, err
	}
	seen := newTree(all, nil)
	seen.plainModes = true
	if r.o.CommitTime {
		if seen.modified, err = r.when.get(ctx); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// below returns the directory name in dir. A repository must not lead out of itself by links.
func below(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		fi, err := root.Lstat(at)
		if err != nil {
			return "", fmt.Errorf("git subpath %q: %w", name, err)
		}
		if !fi.IsDir() {
			return "", fmt.Errorf("git subpath %q contains non-directory %q", name, at)
		}
	}
	return filepath.Join(dir, filepath.FromSlash(name)), nil
}
