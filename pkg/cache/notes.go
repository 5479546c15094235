package cache

import "context"

// MaxNote is how many bytes a note may have.
const MaxNote = 8 << 20

// Notes are small documents that a backend keeps beside entries, by the hash of a name: what helps people to understand a build,
// and no build needs. Implementations are safe for concurrent use, by other processes too.
type Notes interface {
	// Note returns what was put last under name. The error wraps ErrMiss when there is nothing, or nothing that is whole; any
	// other error means that the backend is in trouble.
	Note(ctx context.Context, name Key) ([]byte, error)
	// PutNote keeps data under name, in place of what is there. Of two at once either may stay, whole. A backend that takes no
	// name twice keeps what it has, which is no error.
	PutNote(ctx context.Context, name Key, data []byte) error
}
