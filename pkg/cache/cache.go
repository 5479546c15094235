// Package cache defines what a step's result is filed under and where results are kept.
package cache

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Key is a hash of everything a step can see. It says what went in and is never a v1.Hash,
// which says what came out.
type Key [32]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Entry is the result of a step.
type Entry struct {
	// Layer holds the files that the step changed; nil when it changed none. Its bytes are fetched when they are asked for.
	Layer v1.Layer
	// Created is when the step was run.
	Created time.Time
	// Below is the chain ID of the layers that the step worked on (image-spec, config.md), zero when there were none.
	Below v1.Hash
	// Content is the key by what the step really saw, whichever key the entry is found under; zero when it is not known.
	Content Key
	// Step is the step as people know it, for listings.
	Step string
	// Kind is that of the step: KindRun, KindCopy or KindOther. It is for those who do not keep all entries, and is not kept.
	Kind Kind
}

// Kind says what a step does.
type Kind string

// Kinds of steps.
const (
	KindRun   Kind = "run"  // RUN
	KindCopy  Kind = "copy" // COPY and ADD
	KindOther Kind = "other"
)

// ErrMiss says that a store has no entry for a key.
var ErrMiss = errors.New("no cache entry")

// Store keeps results by key. Implementations are safe for concurrent use, by other processes too.
type Store interface {
	// Get returns an error that wraps ErrMiss when there is no entry; any other error means that the backend is
	// in trouble, which callers report and treat as a miss.
	Get(ctx context.Context, k Key) (Entry, error)
	// Put keeps e under k. It is idempotent; of two entries for one key, either may stay.
	Put(ctx context.Context, k Key, e Entry) error
}
