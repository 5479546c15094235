package build

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
)

const (
	// maxInputsNote bounds what a note is unpacked to.
	maxInputsNote = 64 << 20
	// inputsTimeout is how long is waited for the notes of all places: they explain, and no more.
	inputsTimeout = 20 * time.Second
)

// notePlace is a place that keeps notes.
type notePlace struct {
	name  string
	notes cache.Notes
	// givenUp is why results are no longer looked for in the place, or put there, which has been told; nil if they are.
	givenUp func() error
}

// sharedRecords are what the steps of a build were made of when it was built last on any machine: one note in each place that
// machines share. They are read when a step has to be explained, and written when a build has made something.
type sharedRecords struct {
	name     cache.Key
	from, to []notePlace
	warn     func(error)

	once sync.Once
	read []map[string]json.RawMessage

	life context.Context //nolint:containedctx // what is under way outlives the call that began it
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []func() // what to say if nobody else has
}

func newSharedRecords(ctx context.Context, o Options, breakers map[cache.Store]*cache.Breaker) *sharedRecords {
	s := &sharedRecords{name: sha256.Sum256([]byte(o.noteName())), warn: o.warnCache, life: ctx}
	add := func(list []notePlace, p CacheStore, store cache.Store, reason func(*cache.Breaker) error) []notePlace {
		notes, ok := store.(cache.Notes)
		if !ok {
			return list
		}
		return append(list, notePlace{name: p.Name, notes: notes, givenUp: func() error {
			if b := breakers[store]; b != nil {
				return reason(b)
			}
			return nil
		}})
	}
	read := func(b *cache.Breaker) error { r, _ := b.Reason(); return r }
	write := func(b *cache.Breaker) error { _, w := b.Reason(); return w }
	for _, p := range o.CacheFrom {
		s.from = add(add(s.from, p, p.Store, read), p, p.Else, read)
	}
	for _, p := range o.CacheTo {
		s.to = add(s.to, p, p.Store, write)
	}
	return s
}

// of returns what is known of a step, from each place that knows it.
func (s *sharedRecords) of(ctx context.Context, step string) (list [][]byte) {
	s.once.Do(func() { s.read = s.ask(ctx) })
	for _, steps := range s.read {
		if data := steps[step]; data != nil {
			list = append(list, data)
		}
	}
	return list
}

// ask reads the notes of all places at once.
func (s *sharedRecords) ask(ctx context.Context) []map[string]json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, inputsTimeout)
	defer cancel()
	found := make([]map[string]json.RawMessage, len(s.from))
	var wg sync.WaitGroup
	for i, p := range s.from {
		wg.Go(func() {
			if p.givenUp() != nil {
				return
			}
			data, err := p.notes.Note(ctx, s.name)
			if err == nil {
				found[i], err = decodeInputs(data)
			}
			if err != nil && !errors.Is(err, cache.ErrMiss) && p.givenUp() == nil {
				s.warn(fmt.Errorf("cache %s: read what steps were made of: %w", p.name, err))
			}
		})
	}
	wg.Wait()
	return found
}

// share is put; nil when there is no place for records.
func (s *sharedRecords) share() func(map[string]json.RawMessage) {
	if len(s.to) == 0 {
		return nil
	}
	return s.put
}

// put keeps records of all steps, while the caller goes on.
func (s *sharedRecords) put(records map[string]json.RawMessage) {
	s.wg.Go(func() {
		data, err := encodeInputs(records)
		if err != nil {
			s.warn(fmt.Errorf("encode what steps were made of: %w", err))
			return
		}
		if len(data) > cache.MaxNote {
			return // nobody would read so much of it
		}
		for _, p := range s.to {
			s.wg.Go(func() { s.putTo(p, data) })
		}
	})
}

func (s *sharedRecords) putTo(p notePlace, data []byte) {
	if p.givenUp() != nil {
		return
	}
	err := p.notes.PutNote(s.life, s.name, data)
	if err == nil || context.Cause(s.life) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, func() {
		if p.givenUp() == nil {
			s.warn(fmt.Errorf("cache %s: write what steps were made of: %w", p.name, err))
		}
	})
}

// wait returns when everything has been put. Trouble of a place is told of unless results met it as well.
func (s *sharedRecords) wait() {
	s.wg.Wait()
	for _, tell := range s.errs {
		tell()
	}
}

// inputsNote is a note as it is written, compressed.
type inputsNote struct {
	Version int                        `json:"version"`
	Steps   map[string]json.RawMessage `json:"steps"`
}

const inputsVersion = 1

func encodeInputs(steps map[string]json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	err := json.NewEncoder(w).Encode(inputsNote{Version: inputsVersion, Steps: steps})
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

// decodeInputs reads what encodeInputs wrote. What another version wrote is missing.
func decodeInputs(data []byte) (map[string]json.RawMessage, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxInputsNote))
	if err != nil {
		return nil, err
	}
	var n inputsNote
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, err
	}
	if n.Version != inputsVersion {
		return nil, cache.ErrMiss
	}
	return n.Steps, nil
}
