package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// Through returns l as seen through the store: its bytes are read from the store when they are
// there; otherwise they are downloaded once, whoever asks and however often, checked against their digest, kept, and
// handed out while they arrive.
func (s *Store) Through(l v1.Layer) v1.Layer { return &through{Layer: l, store: s} }

// Whole is like Through, but hands nothing out before all bytes are there and have the right digest: for layers that come
// from where somebody may have put something else.
func (s *Store) Whole(l v1.Layer) v1.Layer { return &through{Layer: l, store: s, whole: true} }

// through is a layer with other ways to its bytes. What describes it is the layer's own.
type through struct {
	v1.Layer
	store *Store
	whole bool
}

func (t *through) Compressed() (io.ReadCloser, error) {
	rc, err := t.store.open(t.Layer)
	if f, ok := rc.(*follower); ok && t.whole {
		if err := f.d.wait(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return rc, err
}

func (t *through) Uncompressed() (io.ReadCloser, error) {
	rc, err := t.Compressed()
	if err != nil {
		return nil, err
	}
	r, err := snapshot.Decompress(rc)
	if err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return r, nil
}

// Descriptor and Exists are what go-containerregistry asks layers of registries for besides.
func (t *through) Descriptor() (*v1.Descriptor, error) { return partial.Descriptor(t.Layer) }
func (t *through) Exists() (bool, error)               { return partial.Exists(t.Layer) }

// open gives the compressed bytes of l from the store, starting a download if there is none.
func (s *Store) open(l v1.Layer) (io.ReadCloser, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	size, err := l.Size()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.downloads[digest]
	if d == nil {
		path := s.blobPath(digest)
		if f := openWhole(path, size); f != nil {
			touch(path)
			return f, nil
		}
		f, err := os.CreateTemp(s.temp, "blob-*")
		if err != nil {
			return nil, fmt.Errorf("store blob: %w", err)
		}
		d = &download{file: f}
		d.moved.L = &d.mu
		s.downloads[digest] = d
		go s.download(d, l, digest, path)
	}
	f, err := os.Open(d.file.Name())
	if err != nil {
		return nil, fmt.Errorf("store blob: %w", err)
	}
	return &follower{d: d, file: f}, nil
}

// openWhole opens a blob, unless it is not there or, as after a power cut, not all of it is.
func openWhole(path string, size int64) *os.File {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != size {
		f.Close()
		return nil
	}
	return f
}

// download fetches l into d's file and gives the file its name. It ends d in any case.
func (s *Store) download(d *download, l v1.Layer, digest v1.Hash, path string) {
	err := fetch(d, l, digest)
	if cerr := d.file.Close(); err == nil {
		err = cerr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = os.Rename(d.file.Name(), path)
	} else {
		_ = os.Remove(d.file.Name())
	}
	delete(s.downloads, digest)
	d.end(err)
}

func fetch(d *download, l v1.Layer, digest v1.Hash) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	hash := sha256.New()
	if _, err := io.CopyBuffer(io.MultiWriter(hash, d), onlyReader{rc}, make([]byte, 256<<10)); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != digest.Hex {
		return fmt.Errorf("verify blob %s: contents have digest sha256:%s", digest, got)
	}
	return nil
}

// onlyReader hides WriteTo, which would get around the buffer's size.
type onlyReader struct{ io.Reader }

// download is a blob on its way into the store.
type download struct {
	file *os.File

	mu    sync.Mutex
	moved sync.Cond // on mu: there is more, or the end
	size  int64
	done  bool
	err   error
}

// Write appends to the file and wakes those who follow it.
func (d *download) Write(p []byte) (int, error) {
	n, err := d.file.Write(p)
	d.mu.Lock()
	d.size += int64(n)
	d.mu.Unlock()
	d.moved.Broadcast()
	return n, err
}

func (d *download) end(err error) {
	d.mu.Lock()
	d.done, d.err = true, err
	d.mu.Unlock()
	d.moved.Broadcast()
}

// wait returns when the download has ended, with its error.
func (d *download) wait() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.done {
		d.moved.Wait()
	}
	return d.err
}

// follower reads a download while it grows. It reaches io.EOF only after the digest has been found right.
type follower struct {
	d    *download
	file *os.File
	at   int64
}

func (f *follower) Read(p []byte) (int, error) {
	f.d.mu.Lock()
	for f.at == f.d.size && !f.d.done {
		f.d.moved.Wait()
	}
	size, done, err := f.d.size, f.d.done, f.d.err
	f.d.mu.Unlock()
	if done && err != nil {
		return 0, err
	}
	if f.at == size {
		return 0, io.EOF
	}
	n, err := f.file.ReadAt(p[:min(int64(len(p)), size-f.at)], f.at)
	f.at += int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *follower) Close() error { return f.file.Close() }

// drain reads rc to its end and closes it.
func drain(rc io.ReadCloser) error {
	_, err := io.Copy(io.Discard, rc)
	return errors.Join(err, rc.Close())
}
