package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// gitSession is what the commands for one Remote share.
type gitSession struct {
	git  *git
	f    Fetch
	temp string // removed with the Remote
	kept string // where repositories are
}

func newGitSession(ctx context.Context, f Fetch, remote string, user *url.Userinfo) (*gitSession, error) {
	temp, err := os.MkdirTemp(f.TempDir, "git-*")
	if err != nil {
		return nil, err
	}
	s := &gitSession{f: f, temp: temp, kept: filepath.Join(f.Dir, "git")}
	if f.Dir == "" {
		s.kept = filepath.Join(temp, "repositories")
	}
	err = os.MkdirAll(s.kept, 0o700)
	if err == nil {
		s.git, err = newGit(temp, f)
	}
	if err == nil {
		err = s.git.authorize(ctx, f, remote, user)
	}
	if err != nil {
		os.RemoveAll(temp)
		return nil, err
	}
	return s, nil
}

// reach returns the settings for commands that talk to remote, which they know as origin.
func (s *gitSession) reach(remote string) ([]setting, error) {
	more, err := s.git.proxy(s.f, remote)
	return append(more, setting{"remote.origin.url", remote}), err
}

// gitRepository is a bare repository that holds commits of one remote, each under a reference of our own that is made
// when all of it is there. It is locked while it is used, against other processes, too.
type gitRepository struct {
	*gitSession
	remote, dir string
}

// fetchedRef is the reference of an object that is there.
func fetchedRef(object string) string { return "refs/gobuild/" + object }

// with calls do with a repository that holds object, of remote. What an earlier build left there and turns out to be
// broken is replaced by what the remote has.
func (s *gitSession) with(ctx context.Context, remote, object string, do func(*gitRepository) error) error {
	// One repository holds objects of one format.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", len(object), remote))
	repo := &gitRepository{gitSession: s, remote: remote, dir: filepath.Join(s.kept, hex.EncodeToString(sum[:16]))}
	lock := flock.New(repo.dir + ".lock")
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return fmt.Errorf("lock %q: %w", lock.Path(), err)
	}
	defer lock.Close()
	if err := repo.prepare(ctx, object); err != nil {
		return err
	}
	if repo.has(ctx, object) {
		err := do(repo)
		if err == nil || context.Cause(ctx) != nil {
			return err
		}
		if err := repo.renew(ctx, object); err != nil {
			return err
		}
	}
	err := repo.fetch(ctx, object)
	if says(err, "bad object", "did not send all necessary objects", "corrupt", "missing") {
		if err = repo.renew(ctx, object); err == nil {
			err = repo.fetch(ctx, object)
		}
	}
	if err != nil {
		return err
	}
	return do(repo)
}

// prepare makes the repository where there is none that can be used.
func (r *gitRepository) prepare(ctx context.Context, object string) error {
	err := r.init(ctx, object)
	if err != nil && context.Cause(ctx) == nil {
		err = r.renew(ctx, object)
	}
	return err
}

// renew makes the repository anew.
func (r *gitRepository) renew(ctx context.Context, object string) error {
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	return r.init(ctx, object)
}

// init makes the repository where there is none, and removes locks that a command left when it was killed.
func (r *gitRepository) init(ctx context.Context, object string) error {
	_, err := r.git.output(ctx, nil, "init", "--quiet", "--bare", "--template=", objectFormat(object), r.dir)
	if err != nil {
		return err
	}
	isLock := func(name string) bool { return strings.HasSuffix(name, ".lock") }
	removeFiles(r.dir, isLock)
	removeFiles(filepath.Join(r.dir, "refs", "gobuild"), isLock)
	touch(r.dir)
	return nil
}

func objectFormat(object string) string {
	if len(object) == 64 {
		return "--object-format=sha256"
	}
	return "--object-format=sha1"
}

// output runs a command in the repository.
func (r *gitRepository) output(ctx context.Context, args ...string) (string, error) {
	return r.git.output(ctx, nil, append([]string{"--git-dir=" + r.dir}, args...)...)
}

// has reports whether an object is there.
func (r *gitRepository) has(ctx context.Context, object string) bool {
	_, err := r.output(ctx, "rev-parse", "--quiet", "--verify", fetchedRef(object)+"^{commit}")
	return err == nil
}

// fetch gets an object: alone if the server gives what it does not advertise, otherwise with everything that it
// does advertise.
func (r *gitRepository) fetch(ctx context.Context, object string) error {
	one := "+" + object + ":" + fetchedRef(object)
	err := r.fetchRefs(ctx, "--depth=1", one)
	if says(err, "--depth", "shallow") { // servers of plain files
		err = r.fetchRefs(ctx, "--update-shallow", one)
	}
	if says(err, "not our ref", "unadvertised object", "couldn't find remote ref") {
		err = r.fetchAll(ctx, object)
	}
	if err != nil {
		return err
	}
	if !r.has(ctx, object) {
		return fmt.Errorf("%s is no commit", object)
	}
	return nil
}

// fetchAll gets all branches and tags with their history, and fails unless object is among that.
func (r *gitRepository) fetchAll(ctx context.Context, object string) error {
	how := "--update-shallow"
	if _, err := os.Lstat(filepath.Join(r.dir, "shallow")); err == nil {
		how = "--unshallow"
	}
	if err := r.fetchRefs(ctx, how, "+refs/heads/*:refs/remotes/heads/*", "+refs/tags/*:refs/remotes/tags/*"); err != nil {
		return err
	}
	if _, err := r.output(ctx, "update-ref", fetchedRef(object), object); err != nil {
		return fmt.Errorf("repository does not contain commit %s", object)
	}
	return nil
}

func (r *gitRepository) fetchRefs(ctx context.Context, how string, refs ...string) error {
	more, err := r.reach(r.remote)
	if err != nil {
		return err
	}
	args := []string{"--git-dir=" + r.dir, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", how, "--", "origin"}
	_, err = r.git.output(ctx, more, append(args, refs...)...)
	return err
}
