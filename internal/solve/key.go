package solve

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/cache"
)

// keyVersion is part of every key. It changes when the same inputs give another layer than before.
const keyVersion = "gobuild step 3"

// keyHash makes a key of labelled fields. Labels and values are framed by their lengths, so that no bytes can
// move from one field to another and leave the key as it was.
type keyHash struct{ h hash.Hash }

func newKey(kind string) keyHash {
	k := keyHash{sha256.New()}
	k.field("version", keyVersion)
	k.field("kind", kind)
	return k
}

func (k keyHash) field(label string, values ...string) {
	k.frame(label)
	k.number(len(values))
	for _, v := range values {
		k.frame(v)
	}
}

func (k keyHash) frame(s string) {
	k.number(len(s))
	k.h.Write([]byte(s))
}

func (k keyHash) number(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	k.h.Write(b[:])
}

func (k keyHash) sum() cache.Key { return cache.Key(k.h.Sum(nil)) }

func (k keyHash) platform(p v1.Platform) {
	k.field("platform", p.OS, p.Architecture, p.Variant, p.OSVersion, strings.Join(p.OSFeatures, ","))
}

func (k keyHash) files(files []plan.InlineFile) {
	for _, f := range files {
		k.field("file", f.Name, f.Data, fmt.Sprint(f.Mode))
	}
}

// kindOf is what a cache may know about a step.
func kindOf(op plan.Op) cache.Kind {
	switch op.(type) {
	case plan.Run:
		return cache.KindRun
	case plan.Copy:
		return cache.KindCopy
	}
	return cache.KindOther
}

// Labels of what a key is chained to: a step's definition names the key of the step below; its content names the
// layers that the step below came to.
const (
	byDefinition = "definition"
	byContent    = "content"
)

// defined is the keys of a step by what it is defined to see. They differ for a linked copy alone.
type defined struct {
	// result is what the step's result is filed under.
	result cache.Key
	// files stands for all files that the step leaves, those of the steps below included: for what builds on
	// them or reads them.
	files cache.Key
}

// define returns the keys of a step, which are known before anything has run.
func (s *solver) define(ctx context.Context, n *node) (defined, error) {
	base := cache.Key{}
	if n.base != nil {
		below, err := n.base.defined.wait(ctx)
		if err != nil {
			return defined{}, err
		}
		base = below.files
	}
	result, err := s.definition(ctx, n, base)
	if err == nil && hasLayer(n.step) {
		result = s.asWritten(result)
	}
	if err != nil || !linked(n.step) {
		return defined{result: result, files: result}, err
	}
	k := newKey("link")
	k.field("below", base.String())
	k.field("above", result.String())
	return defined{result: result, files: k.sum()}, nil
}

// definition returns the key of a step on top of those that base stands for.
func (s *solver) definition(ctx context.Context, n *node, base cache.Key) (cache.Key, error) {
	switch op := n.step.Op.(type) {
	case plan.Scratch:
		return newKey("scratch").sum(), nil
	case plan.Pull:
		k := newKey("pull")
		k.field("digest", op.Digest.String())
		k.platform(n.step.Platform)
		return k.sum(), nil
	case plan.Config:
		return base, nil // what has no files changes no key; RUN has the environment in its own
	case plan.HTTP, plan.Git, plan.Local:
		return s.fetchKey(ctx, n)
	case plan.Run:
		mounts, err := s.definedMounts(ctx, op)
		if err != nil {
			return cache.Key{}, err
		}
		return runKey(byDefinition, base.String(), mounts, n.step, op), nil
	case plan.WorkDir:
		return workDirKey(byDefinition, base.String(), op), nil
	case plan.Copy:
		files, err := s.definedFiles(ctx, n, op)
		if err != nil {
			return cache.Key{}, err
		}
		return copyKey(byDefinition, base.String(), files, op), nil
	default:
		return cache.Key{}, fmt.Errorf("compute key: unknown operation %T", op)
	}
}

// asWritten is the key of the layer of the step that k stands for. Rewritten times are the one part of how layers are written
// that changes their files; otherwise the epoch is no input, so that a new one leaves the cache as it is.
func (s *solver) asWritten(k cache.Key) cache.Key {
	if s.o.Layer.Clamp.IsZero() {
		return k
	}
	w := newKey("rewritten times")
	w.field("step", k.String())
	w.field("latest", strconv.FormatInt(s.o.Layer.Clamp.UnixNano(), 10))
	return w.sum()
}

// contentKey returns the key of a step by what it really sees: the layers below it, and the
// files that it copies.
func (s *solver) contentKey(ctx context.Context, n *node, below v1.Hash) (cache.Key, error) {
	if fetches(n.step) {
		keys, err := n.defined.wait(ctx)
		return keys.result, err // it names the files themselves
	}
	k, err := s.content(ctx, n, below)
	return s.asWritten(k), err
}

// content is contentKey of a step that does not fetch, before it is known how its layer is written.
func (s *solver) content(ctx context.Context, n *node, below v1.Hash) (cache.Key, error) {
	switch op := n.step.Op.(type) {
	case plan.Run:
		mounts, err := s.mountedFiles(ctx, op)
		if err != nil {
			return cache.Key{}, err
		}
		return runKey(byContent, below.String(), mounts, n.step, op), nil
	case plan.WorkDir:
		return workDirKey(byContent, below.String(), op), nil
	case plan.Copy:
		sel, err := n.selection.wait(ctx)
		if err != nil {
			return cache.Key{}, err
		}
		sum, err := sel.digest(ctx)
		if err != nil {
			return cache.Key{}, err
		}
		return copyKey(byContent, below.String(), string(sum[:]), op), nil
	default:
		return cache.Key{}, fmt.Errorf("compute key: %T has no files", op)
	}
}

// fetchKey is the key of a step that fetches files: what its source says, or the digest of all that it has.
func (s *solver) fetchKey(ctx context.Context, n *node) (cache.Key, error) {
	src, err := s.source(ctx, n)
	if err != nil {
		return cache.Key{}, err
	}
	key, err := src.Key(ctx)
	if err != nil {
		return cache.Key{}, err
	}
	if key == "" {
		all := plan.Source{Path: "/", From: n.step}
		if key, err = s.digestFiles(ctx, plan.Copy{Sources: []plan.Source{all}, Dest: "/"}); err != nil {
			return cache.Key{}, err
		}
	}
	k := newKey("fetch")
	k.field("files", key)
	return k.sum(), nil
}

// definedFiles stands for the files that a copy reads: the digest of those that are at hand, and the definitions of the
// steps that others come from.
func (s *solver) definedFiles(ctx context.Context, n *node, op plan.Copy) (string, error) {
	if allAtHand(op) {
		sel, err := n.selection.wait(ctx)
		if err != nil {
			return "", err
		}
		sum, err := sel.digest(ctx)
		return string(sum[:]), err
	}
	k := newKey("sources")
	for _, src := range op.Sources {
		if src.Inline != nil {
			k.files([]plan.InlineFile{*src.Inline})
			continue
		}
		if atHand(src.From) {
			one := op
			one.Sources = []plan.Source{src}
			sum, err := s.digestFiles(ctx, one)
			if err != nil {
				return "", err
			}
			k.field("files", sum)
			continue
		}
		from, err := s.nodes[src.From].defined.wait(ctx)
		if err != nil {
			return "", err
		}
		k.field("from", from.files.String(), src.Path)
	}
	return k.sum().String(), nil
}

func runKey(by, base, mounts string, step *plan.Step, op plan.Run) cache.Key {
	k := newKey("run")
	k.field(by, base)
	k.platform(step.Platform)
	k.field("args", op.Args...)
	k.field("env", op.Env...)
	k.field("dir", op.Dir)
	k.field("user", op.User)
	k.field("network", op.Network)
	k.field("hostname", op.Hostname)
	for _, line := range op.Hosts {
		_, name, _ := strings.Cut(line, " ")
		k.field("host", name) // whatever its address is
	}
	k.field("insecure", fmt.Sprint(op.Insecure))
	for _, d := range op.Devices {
		k.field("device", d.Name)
	}
	k.field("mounts", mounts)
	k.files(op.Files)
	return k.sum()
}

func workDirKey(by, base string, op plan.WorkDir) cache.Key {
	k := newKey("workdir")
	k.field(by, base)
	k.field("path", op.Path)
	k.field("user", op.User)
	return k.sum()
}

func copyKey(by, base, files string, op plan.Copy) cache.Key {
	k := newKey("copy")
	if op.Link {
		// A linked layer is independent of what is below it.
		by, base = "linked", ""
	}
	k.field(by, base)
	k.field("files", files)
	for _, src := range op.Sources {
		k.field("source", src.Path, fmt.Sprint(src.Unpack))
	}
	k.field("dest", op.Dest)
	k.field("chown", op.Chown)
	k.field("chmod", op.Chmod)
	k.field("flags", fmt.Sprint(op.Link, op.Parents))
	k.field("exclude", op.Exclude...)
	return k.sum()
}
