package solve

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

type typesMediaType = types.MediaType

// scriptDriver plays processes. A command line is one of:
//
//	put PATH TEXT     makes a file
//	counter PATH      makes a file that is another one each time
//	meet N PATH       waits until N processes have met, and makes a file
//	slow PATH         makes a file that can be read only after a "release" has run
//	release           see slow
//	fail N            writes last words and exits with N
//	forever           runs until it is killed
//
// Anything else does nothing.
type scriptDriver struct {
	began func(command string)

	mu       sync.Mutex
	ran      []sandbox.Process
	opened   int
	closed   int
	counter  int
	met      int
	meeting  chan struct{}
	released chan struct{}
}

func newScriptDriver() *scriptDriver {
	return &scriptDriver{meeting: make(chan struct{}), released: make(chan struct{}), began: func(string) {}}
}

// allClosed waits until no root is open, and someOpen until one is.
func (d *scriptDriver) allClosed(ctx context.Context) error {
	return d.until(ctx, func() bool { return d.open() == 0 })
}

func (d *scriptDriver) someOpen(ctx context.Context) error {
	return d.until(ctx, func() bool { return d.open() > 0 })
}

func (d *scriptDriver) until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return errors.New("waited for roots for too long")
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func (d *scriptDriver) Name() string                { return "script" }
func (d *scriptDriver) Probe(context.Context) error { return nil }
func (d *scriptDriver) Roots() int                  { return 0 }

func (d *scriptDriver) Open(_ context.Context, layers []v1.Layer) (sandbox.Root, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	return &scriptRoot{d: d, layers: layers}, nil
}

func (d *scriptDriver) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened - d.closed
}

// meet waits for n processes.
func (d *scriptDriver) meet(ctx context.Context, n int) error {
	d.mu.Lock()
	if d.met++; d.met == n {
		close(d.meeting)
	}
	d.mu.Unlock()
	select {
	case <-d.meeting:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

type scriptRoot struct {
	d      *scriptDriver
	layers []v1.Layer
	adds   []snapshot.Change
	done   bool
}

func (r *scriptRoot) Run(ctx context.Context, p sandbox.Process) error {
	words := strings.Fields(p.Args[len(p.Args)-1])
	r.d.mu.Lock()
	r.d.ran = append(r.d.ran, p)
	r.d.mu.Unlock()
	r.d.began(words[0])
	switch words[0] {
	case "put":
		r.put(words[1], words[2])
	case "counter":
		r.d.mu.Lock()
		r.d.counter++
		r.put(words[1], strconv.Itoa(r.d.counter))
		r.d.mu.Unlock()
	case "meet":
		n, _ := strconv.Atoi(words[1])
		r.put(words[2], "met")
		return r.d.meet(ctx, n)
	case "slow":
		r.put(words[1], "x")
		r.adds[0].Open = func() (io.ReadCloser, error) {
			select {
			case <-r.d.released:
				return io.NopCloser(strings.NewReader("x")), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	case "release":
		close(r.d.released)
	case "fail":
		fmt.Fprint(p.Stderr, "first words\nlast words")
		code, _ := strconv.Atoi(words[1])
		return &sandbox.ExitError{Code: code}
	case "forever":
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

func (r *scriptRoot) put(path, text string) {
	r.adds = append(r.adds, snapshot.Change{
		Header: &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path, "/"), Mode: 0o644,
			Size: int64(len(text)), ModTime: time.Unix(1, 0),
		},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	})
}

func (r *scriptRoot) Changes(context.Context) snapshot.Changes {
	adds := r.adds
	r.adds = nil
	return func(yield func(snapshot.Change, error) bool) {
		for _, c := range adds {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (r *scriptRoot) Commit(v1.Layer) {}

func (r *scriptRoot) Add(context.Context, v1.Layer) error { return nil }

func (r *scriptRoot) Close() error {
	if !r.done {
		r.done = true
		r.d.mu.Lock()
		r.d.closed++
		r.d.mu.Unlock()
	}
	return nil
}
