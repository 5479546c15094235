// Package dir is a bucket in a directory, which can be carried from one machine to the next or mounted read-only: every
// object is a file, and nothing but objects that are put is ever written.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
)

// partPrefix begins the names of files that are being written, in the top directory.
const partPrefix = ".part-"

// abandoned is how old such a file has to be before it is taken for what a killed build left.
const abandoned = 24 * time.Hour

// Bucket keeps objects below a directory.
type Bucket struct{ root string }

var _ blob.Bucket = (*Bucket)(nil)

// Open returns the bucket in the directory root, which need not be there before something is put.
func Open(root string) *Bucket { return &Bucket{root: root} }

// String is the directory.
func (b *Bucket) String() string { return b.root }

func (b *Bucket) path(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", fmt.Errorf("no object can have the name %q", name)
	}
	return filepath.Join(b.root, filepath.FromSlash(name)), nil
}

// Get implements blob.Bucket.
func (b *Bucket) Get(_ context.Context, name string, off int64) (io.ReadCloser, error) {
	path, err := b.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unusable(err)
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	path, err := b.path(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return unusable(err)
	}
	f, err := os.CreateTemp(b.root, partPrefix)
	if err != nil {
		return unusable(err)
	}
	err = fill(ctx, f, size, open)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// fill writes what open gives, which has to be size bytes.
func fill(ctx context.Context, f *os.File, size int64, open func() (io.ReadCloser, error)) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	defer context.AfterFunc(ctx, func() { rc.Close() })()
	n, err := io.Copy(f, rc)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("write object: %d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	// Other users of the machine may be the next job.
	return f.Chmod(0o644)
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(_ context.Context, name string) (blob.Object, error) {
	path, err := b.path(name)
	if err != nil {
		return blob.Object{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return blob.Object{}, unusable(err)
	}
	return blob.Object{Name: name, Size: fi.Size(), Modified: fi.ModTime()}, nil
}

// List implements blob.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		dir := filepath.Join(b.root, filepath.FromSlash(prefix[:strings.LastIndex(prefix, "/")+1]))
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // nothing was put yet, or it was deleted meanwhile
			}
			if err := errors.Join(err, context.Cause(ctx)); err != nil || !d.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(b.root, path)
			name := filepath.ToSlash(rel)
			if err != nil || !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, partPrefix) {
				return err
			}
			fi, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !yield(blob.Object{Name: name, Size: fi.Size(), Modified: fi.ModTime()}, nil) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			yield(blob.Object{}, err)
		}
	}
}

// Delete implements blob.Bucket. It removes what killed builds left, too.
func (b *Bucket) Delete(_ context.Context, name string) error {
	path, err := b.path(name)
	if err != nil {
		return err
	}
	b.clean()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unusable(err)
	}
	return nil
}

func (b *Bucket) clean() {
	entries, err := os.ReadDir(b.root)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), partPrefix) {
			continue
		}
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > abandoned {
			os.Remove(filepath.Join(b.root, e.Name()))
		}
	}
}

// unusable marks what holds for the whole directory.
func unusable(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", cache.ErrUnusable, err)
	}
	return err
}
