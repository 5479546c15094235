package build

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
)

// records keep what the steps of one build were made of apart from those of others, which may share the store. It
// implements solve.Records.
type records struct {
	store *local.Store
	o     Options
}

// id tells builds apart by what is built: a context and a Dockerfile.
func (r *records) id(step string) string {
	context := r.o.Context
	if abs, err := filepath.Abs(context); err == nil && !strings.Contains(context, "://") {
		context = abs
	}
	return strings.Join([]string{context, r.o.Dockerfile, step}, "\x00")
}

func (r *records) Record(ctx context.Context, step string) ([]byte, error) {
	return r.store.Record(ctx, r.id(step))
}

func (r *records) PutRecord(ctx context.Context, step string, data []byte) error {
	return r.store.PutRecord(ctx, r.id(step), data)
}
