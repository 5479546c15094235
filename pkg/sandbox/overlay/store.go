package overlay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/lock"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/worker"
)

// store keeps directories that overlays are made of.
//
//	data/<id>      the files of a layer, in overlayfs's form, or what a step has written
//	chains/<hash>  a link to the directory of the layer with that chain ID
//	roots/<id>     what an open root needs besides
//	empty          the layer below the first one
//	lock           held, shared, while a root is open
//
// Directories in data never move, so that they can be used while they become known as layers. It is the link
// that says that a directory is complete, and it is made in one step: what is in data without one is the
// work of a living process, or rubbish.
type store struct {
	dir    string
	worker *worker.Worker
}

func (s *store) data(id string) string { return filepath.Join(s.dir, "data", id) }

func (s *store) chain(id v1.Hash) string {
	return filepath.Join(s.dir, "chains", id.Algorithm+"-"+id.Hex)
}

// prepare makes the store's directories.
func (s *store) prepare() error {
	for _, name := range []string{"data", "chains", "roots", "empty"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
			return fmt.Errorf("prepare layers: %w", err)
		}
	}
	// Users of the machine must not reach programs with setuid bits and devices of images.
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return fmt.Errorf("prepare layers: %w", err)
	}
	return nil
}

// acquire holds the store for a root. What dead processes left behind is removed first, unless others are
// using the store.
func (s *store) acquire(ctx context.Context) (*os.File, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	return lock.Share(s.dir, func() error { return s.collect(ctx) })
}

// collect removes what no living process uses. The caller has the store for itself.
func (s *store) collect(ctx context.Context) error {
	known := make(map[string]bool)
	chains, err := os.ReadDir(filepath.Join(s.dir, "chains"))
	if err != nil {
		return err
	}
	for _, c := range chains {
		target, err := os.Readlink(filepath.Join(s.dir, "chains", c.Name()))
		if err != nil {
			return err
		}
		known[filepath.Base(target)] = true
	}
	var rubbish []string
	for _, name := range []string{"data", "roots"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if name != "data" || !known[e.Name()] {
				rubbish = append(rubbish, filepath.Join(s.dir, name, e.Name()))
			}
		}
	}
	return s.worker.Remove(ctx, rubbish)
}

// find returns the directory of a layer, or false when there is none.
func (s *store) find(chain v1.Hash) (id string, ok bool) {
	link := s.chain(chain)
	target, err := os.Readlink(link)
	if err != nil {
		return "", false
	}
	id = filepath.Base(target)
	if _, err = os.Lstat(s.data(id)); err != nil {
		return "", false
	}
	s.use(link)
	return id, true
}

// publish makes a directory known as that of a layer. When another one has become known first it returns that
// one's id.
func (s *store) publish(chain v1.Hash, id string) (string, error) {
	for range 2 {
		err := os.Symlink(filepath.Join("..", "data", id), s.chain(chain))
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("keep layer: %w", err)
		}
		if other, ok := s.find(chain); ok {
			return other, nil
		}
		// Somebody has removed the directory that this link leads to.
		if err := os.Remove(s.chain(chain)); err != nil {
			return "", fmt.Errorf("keep layer: %w", err)
		}
	}
	return "", fmt.Errorf("keep layer: %s is being changed by others", s.chain(chain))
}

// newData makes a directory for files.
func (s *store) newData() (id string, err error) { return s.newDir("data", 0o755) }

// newDir makes a directory of a new name, which is short because 128 of them have to fit into the options of a
// mount.
func (s *store) newDir(kind string, mode os.FileMode) (id string, err error) {
	for range 100 {
		id = strings.ToLower(rand.Text()[:10])
		path := filepath.Join(s.dir, kind, id)
		err = os.Mkdir(path, mode)
		if err == nil {
			return id, os.Chmod(path, mode)
		}
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	return "", fmt.Errorf("make directory: %w", err)
}
