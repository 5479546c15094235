// Package auth finds credentials for registries whose operators give them out on request, for a short time: a cloud's, to who
// has an identity there, and a CI server's, to its jobs.
//
// Nobody is asked for anything before a registry of theirs is used. The packages below this one have the sources that
// need the client library of a cloud; this one has those that need none.
package auth

import (
	"context"
	"errors"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// ErrNone is what a Source returns when nobody has given it anything for a registry, which is no problem if the
// registry lets everybody in.
var ErrNone = errors.New("no credentials")

// Source gives out credentials for the registries of one operator. Implementations are safe for concurrent use.
type Source interface {
	// Name is what users call it, such as "ecr".
	Name() string
	// Serves reports whether host, a registry as in a reference, with or without a port, is one of the operator's. It decides
	// who gets to see credentials: a host that only looks alike must not pass.
	Serves(host string) bool
	// Get asks for credentials. They are told with the time until which they hold; the zero time means for ever.
	// The error is ErrNone, or says what is missing and what would help, without any secret. Get ends with ctx.
	Get(ctx context.Context, host string) (authn.AuthConfig, time.Time, error)
}
