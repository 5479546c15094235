package worker

import (
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

// Extract writes a layer to dir, which exists, in overlayfs's form, and returns its index. lower is called at most
// once, at the end, when something in the layer depends on the layers below. When lower is nil, dir has those
// layers in it already, flat, and the layer is applied to them.
//
// Contents that are not those of the layer's diff ID are an error.
func (w *Worker) Extract(ctx context.Context, layer v1.Layer, dir string, lower func() (*union.View, error)) (*rootfs.Index, error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return nil, err
	}
	body, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sum := sha256.New()
	r := ahead.New(body, sum)
	defer r.Close()
	spec := ExtractSpec{dir, extract.Options{Flat: lower == nil, UserXattr: w.userXattr, Squash: w.squash}}
	x, err := w.extract(ctx, r, spec, lower)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != diffID.Hex {
		return nil, fmt.Errorf("contents have diff ID sha256:%s", got)
	}
	return x, nil
}

func (w *Worker) extract(ctx context.Context, layer io.Reader, spec ExtractSpec, lower func() (*union.View, error)) (*rootfs.Index, error) {
	if w.ids != nil {
		return w.extractInChild(ctx, layer, spec, lower)
	}
	x, err := extract.New(spec.Dir, spec.Options)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	index, err := rootfs.ReadIndex(layer, func(rec *rootfs.Record, body io.Reader) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return x.Entry(&rec.Header, body)
	})
	if err != nil {
		return nil, err
	}
	var below *union.View
	if x.Unsettled() {
		if below, err = lower(); err != nil {
			return nil, err
		}
	}
	return index, x.Finish(below)
}

func (w *Worker) extractInChild(ctx context.Context, layer io.Reader, spec ExtractSpec, lower func() (*union.View, error)) (*rootfs.Index, error) {
	// The child takes the layer apart for the files, this process for the index.
	toChild, fromHere, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("extract layer: %w", err)
	}
	p, err := child.Command{Op: opExtract, IDs: w.ids, Namespaces: unix.CLONE_NEWNS, Stdin: toChild}.Start(ctx)
	toChild.Close()
	if err != nil {
		fromHere.Close()
		return nil, err
	}
	index, err := talk(p, layer, fromHere, spec, lower)
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

func talk(p *child.Process, layer io.Reader, to *os.File, spec ExtractSpec, lower func() (*union.View, error)) (*rootfs.Index, error) {
	if err := p.Send(spec); err != nil {
		return nil, err
	}
	index, err := rootfs.ReadIndex(io.TeeReader(layer, to), nil)
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
	below, err := lower()
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
