package cache

import "context"

type hurryKey struct{}

// Hurried returns a context for a backend that has failed just now in spite of all retries: it is to try once, so that the
// build does not wait as long for each of many keys. See [InHurry].
func Hurried(ctx context.Context) context.Context { return context.WithValue(ctx, hurryKey{}, true) }

// InHurry says whether a backend should make one attempt only.
func InHurry(ctx context.Context) bool { return ctx.Value(hurryKey{}) != nil }
