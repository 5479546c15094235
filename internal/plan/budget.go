package plan

import (
	"fmt"
	"sync/atomic"
)

const (
	// maxText is how much text the plans for all platforms may hold. A Dockerfile within dockerfile.MaxSize can ask for
	// gigabytes: ENV a=$a$a doubles a variable, and each RUN carries all of them. Real plans need some hundred KiB.
	maxText = 32 << 20

	// maxWord is the longest result of one expansion. A variable or a label that long is of no use, and Linux takes
	// no more than 128 KiB; the bodies of heredocs may be longer.
	maxWord = 1 << 20

	// entrySize is what an element of a slice or a map costs besides its text, about.
	entrySize = 32

	// stepSize is what a step costs besides text, entries and its part of the history, about.
	stepSize = 1 << 10
)

// budget counts the text and the entries that a plan has made. It may be used concurrently.
type budget struct{ spent atomic.Int64 }

func (b *budget) spend(bytes int) error {
	if b.spent.Add(int64(bytes)) > maxText {
		return fmt.Errorf("plan needs more than %d MiB of text", maxText>>20)
	}
	return nil
}
