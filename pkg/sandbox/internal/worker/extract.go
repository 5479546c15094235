package worker

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/ahead"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/child"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/extract"
	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/union"
)

// ExtractSpec says how a layer is to be extracted.
type ExtractSpec struct {
	Dir     string
	Options extract.Options
}

// Extract writes a layer to dir, which exists, in overlayfs's form. lower is called at most once, at the end, when
// something in the layer depends on the layers below. When lower is nil, dir has those layers in it already, flat, and
// the layer is applied to them.
//
// On the way the layer's index is made for indexes, which may be nil, unless the layer knows its own ([rootfs.Indexed]).
// Contents that are not those of the layer's diff ID are an error.
func (w *Worker) Extract(ctx context.Context, layer v1.Layer, dir string, indexes rootfs.Indexes, lower func() (*union.View, error)) error {
	diffID, err := layer.DiffID()
	if err != nil {
		return err
	}
	body, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	r := ahead.New(body, sum)
	defer r.Close()
	x := extraction{
		layer: r, indexed: indexes != nil && !knowsIndex(layer), lower: lower,
		spec: ExtractSpec{dir, extract.Options{Flat: lower == nil, UserXattr: w.userXattr, Squash: w.squash}},
	}
	index, err := w.extract(ctx, x)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != diffID.Hex {
		return fmt.Errorf("contents have diff ID sha256:%s", got)
	}
	if index == nil {
		return nil
	}
	return indexes.PutIndex(ctx, diffID, index)
}

func knowsIndex(l v1.Layer) bool {
	x, ok := l.(rootfs.Indexed)
	return ok && x.FileIndex() != nil
}

// extraction is a layer on its way into a directory.
type extraction struct {
	layer   io.Reader // uncompressed, padding after the end of the archive included
	spec    ExtractSpec
	indexed bool // whether an index is to be made
	lower   func() (*union.View, error)
}

// read reads the layer to its end. entry, if not nil, is called for each entry.
func (x *extraction) read(entry func(h *tar.Header, body io.Reader) error) (*rootfs.Index, error) {
	switch {
	case x.indexed && entry == nil:
		return rootfs.ReadIndex(x.layer, nil)
	case x.indexed:
		return rootfs.ReadIndex(x.layer, func(rec *rootfs.Record, body io.Reader) error { return entry(&rec.Header, body) })
	case entry != nil:
		if err := extract.Entries(x.layer, entry); err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, x.layer); err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	return nil, nil
}

// extract returns the index, which is nil if none was to be made.
func (w *Worker) extract(ctx context.Context, e extraction) (*rootfs.Index, error) {
	if w.ids != nil {
		return w.extractInChild(ctx, e)
	}
	x, err := extract.New(e.spec.Dir, e.spec.Options)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	index, err := e.read(func(h *tar.Header, body io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return x.Entry(h, body)
	})
	if err != nil {
		return nil, err
	}
	var below *union.View
	if x.Unsettled() {
		if below, err = e.lower(); err != nil {
			return nil, err
		}
	}
	return index, x.Finish(below)
}

func (w *Worker) extractInChild(ctx context.Context, e extraction) (*rootfs.Index, error) {
	// The child takes the layer apart for the files, this process for the index.
	toChild, fromHere, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	command := w.helper(opExtract)
	command.Stdin = toChild
	p, err := command.Start(ctx)
	toChild.Close()
	if err != nil {
		fromHere.Close()
		return nil, err
	}
	index, err := talk(p, fromHere, e)
	if err != nil {
		fromHere.Close()
		ended := p.Fail(err)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, io.EOF) {
			err = ended // it is the child that went away
		}
		return nil, err
	}
	return index, p.Finish()
}

func talk(p *child.Process, to *os.File, e extraction) (*rootfs.Index, error) {
	if err := p.Send(e.spec); err != nil {
		return nil, err
	}
	e.layer = io.TeeReader(e.layer, to)
	index, err := e.read(nil)
	if err != nil {
		return nil, err
	}
	if err := to.Close(); err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	var unsettled bool
	if err := p.Receive(&unsettled); err != nil || !unsettled {
		return index, err
	}
	below, err := e.lower()
	if err != nil {
		return nil, err
	}
	return index, p.Send(below)
}

func childExtract(c *child.Conn) error {
	var spec ExtractSpec
	if err := c.Receive(&spec); err != nil {
		return err
	}
	x, err := extract.New(spec.Dir, spec.Options)
	if err != nil {
		return err
	}
	if err := x.Layer(context.Background(), os.Stdin); err != nil {
		return err
	}
	// Padding after the end of the archive is part of the layer.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	if err := c.Send(x.Unsettled()); err != nil {
		return err
	}
	var below *union.View
	if x.Unsettled() {
		if err := c.Receive(&below); err != nil {
			return err
		}
	}
	return x.Finish(below)
}
