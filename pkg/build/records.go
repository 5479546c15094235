package build

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/local"
)

// records keep what the steps of one build were made of apart from those of others, which may share the store. It
// implements solve.Records.
type records struct {
	store *local.Store
	o     Options
	// shared are those of other machines.
	shared *sharedRecords
}

// id tells builds apart by what is built: a context and a Dockerfile.
func (r *records) id(step string) string {
	context := r.o.Context
	if abs, err := filepath.Abs(context); err == nil && !strings.Contains(context, "://") {
		context = abs
	}
	return strings.Join([]string{context, r.o.Dockerfile, step}, "\x00")
}

func (r *records) Records(ctx context.Context, step string) (list [][]byte, err error) {
	data, err := r.store.Record(ctx, r.id(step))
	if err == nil {
		list = append(list, data)
	} else if !errors.Is(err, cache.ErrMiss) {
		return nil, err
	}
	return append(list, r.shared.of(ctx, step)...), nil
}

func (r *records) PutRecord(ctx context.Context, step string, data []byte) error {
	return r.store.PutRecord(ctx, r.id(step), data)
}

// noteName is the name of the note of what the steps of this build are made of. It is the same on other machines, where the
// context lies in another directory, which is called the same, or is fetched with other credentials, at another commit.
func (o Options) noteName() string {
	platform := o.Platform
	if platform.OS == "" {
		platform = HostPlatform()
	}
	context, dockerfile := sameElsewhere(o.Context), o.Dockerfile
	if abs, err := filepath.Abs(o.Context); err == nil && filepath.IsAbs(dockerfile) {
		if rel, err := filepath.Rel(abs, dockerfile); err == nil && filepath.IsLocal(rel) {
			dockerfile = rel
		}
	}
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	return strings.Join([]string{
		"gobuild inputs 1", context, filepath.Clean(o.ContextDir), filepath.Clean(dockerfile), o.Target, platform.String(),
	}, "\x00")
}

// sameElsewhere is what identifies a context on every machine.
func sameElsewhere(context string) string {
	place, fragment, _ := strings.Cut(context, "#")
	_, dir, _ := strings.Cut(fragment, ":") // behind the commit
	if u, err := url.Parse(place); err == nil && u.Host != "" {
		return strings.Join([]string{u.Host, u.Path, dir}, "\x00")
	}
	if context == "-" {
		return context
	}
	abs, err := filepath.Abs(context)
	if err != nil {
		return context
	}
	return filepath.Base(abs)
}
