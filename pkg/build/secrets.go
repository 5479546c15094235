package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// MaxSecret is how many bytes a secret may have. It is the limit of BuildKit.
const MaxSecret = 500 << 10

// Secret gives the value of a secret when a step, or the download of a source, asks for it. It may be called more than once,
// and concurrently.
type Secret func(ctx context.Context) ([]byte, error)

// SecretValue is a secret that is at hand.
func SecretValue(value []byte) Secret {
	return func(context.Context) ([]byte, error) { return value, nil }
}

// SecretFile is a secret that is read from a file.
func SecretFile(path string) Secret {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		value, err := io.ReadAll(io.LimitReader(f, MaxSecret+1))
		if err == nil && len(value) > MaxSecret {
			err = fmt.Errorf("%q is larger than %d KiB", path, MaxSecret>>10)
		}
		return value, err
	}
}

// secret returns the secret id; an error that wraps fs.ErrNotExist when it was not given, and only then.
func (o Options) secret(ctx context.Context, id string) ([]byte, error) {
	s := o.Secrets[id]
	if s == nil {
		return nil, fmt.Errorf("secret %s: %w", id, fs.ErrNotExist)
	}
	value, err := s(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New(err.Error()) // a secret that was given and cannot be read is more than one that is missing
	}
	return value, err
}

// remembered makes secrets that are read once. Those that cannot be read are tried again.
func remembered(secrets map[string]Secret) map[string]Secret {
	out := make(map[string]Secret, len(secrets))
	for id, s := range secrets {
		var mu sync.Mutex
		var value []byte
		known := false
		out[id] = func(ctx context.Context) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if known {
				return value, nil
			}
			var err error
			value, err = s(ctx)
			known = err == nil
			return value, err
		}
	}
	return out
}

// readSecrets reads all secrets, for places where their files cannot be reached while a step runs. One that
// cannot be read matters when it is asked for.
func (o Options) readSecrets(ctx context.Context) {
	for _, s := range o.Secrets {
		_, _ = s(ctx)
	}
}
