package cache

import (
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// ErrUnusable is wrapped by errors of a backend that would be the same for every key and would not pass by waiting:
// credentials that are refused, a repository or a bucket that is not there, a host where nobody listens.
var ErrUnusable = errors.New("cache cannot be used")

// Miss says why there is no entry, for those who explain: it wraps [ErrMiss].
func Miss(why error) error { return fmt.Errorf("%w: %w", ErrMiss, why) }

// LostError says that the bytes of a cached layer cannot be had, or are not those that its entry promised. The step has
// to be run after all.
type LostError struct {
	Key Key
	Err error
}

func (e *LostError) Error() string { return fmt.Sprintf("read cached layer of %v: %v", e.Key, e.Err) }
func (e *LostError) Unwrap() error { return e.Err }

// Found marks a layer as the one that was found under k: errors of reading its bytes are a [*LostError]. lost, when not
// nil, is told of them first.
func Found(l v1.Layer, k Key, lost func(error)) v1.Layer {
	return &found{Layer: l, key: k, lost: lost}
}

type found struct {
	v1.Layer
	key  Key
	lost func(error)
}

func (f *found) fail(err error) error {
	if errors.Is(err, io.EOF) {
		// A connection that ended is not the end of the layer, for whoever looks into the error.
		err = fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": EOF"), io.ErrUnexpectedEOF)
	}
	if f.lost != nil {
		f.lost(err)
	}
	return &LostError{Key: f.key, Err: err}
}

func (f *found) Compressed() (io.ReadCloser, error)   { return f.open(f.Layer.Compressed) }
func (f *found) Uncompressed() (io.ReadCloser, error) { return f.open(f.Layer.Uncompressed) }

func (f *found) open(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	rc, err := open()
	if err != nil {
		return nil, f.fail(err)
	}
	return &foundReader{ReadCloser: rc, found: f}, nil
}

// Descriptor and Exists are what go-containerregistry asks layers of registries for besides.
func (f *found) Descriptor() (*v1.Descriptor, error) { return partial.Descriptor(f.Layer) }
func (f *found) Exists() (bool, error)               { return partial.Exists(f.Layer) }

type foundReader struct {
	io.ReadCloser
	found *found
}

func (r *foundReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the end is bare; what wraps it tells how a connection ended
		err = r.found.fail(err)
	}
	return n, err
}
