package solve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/gobuild-dev/gobuild/internal/plan"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// mountedName is what the files of a mount are called in the layer that is made of them.
const mountedName = "mounted"

// shownFiles identifies files that are mounted and have no layer of their own: a path in what a step fetches, or in the
// build context.
type shownFiles struct {
	from *plan.Step
	path string // resolved
}

// mountLayers makes a layer of files that are mounted from where there are no layers, once for each path. It is
// written without compression, for this build alone, and as the driver keeps what it has extracted, files
// that have not changed need not be extracted by the next build.
func (s *solver) mountLayers(ctx context.Context, m plan.Mount) (*stack, error) {
	tree, err := s.files(ctx, m.From)
	if err != nil {
		return nil, err
	}
	path, err := resolveMount(tree, m.Source)
	if err != nil {
		return nil, err
	}
	shown := shownFiles{m.From, path}
	s.mu.Lock()
	f := s.mountable[shown]
	mine := f == nil
	if mine {
		f = newFuture[*stack]()
		s.mountable[shown] = f
	}
	s.mu.Unlock()
	if mine {
		f.set(s.writeMounted(ctx, tree, path))
	}
	return f.wait(ctx)
}

func (s *solver) writeMounted(ctx context.Context, tree rootfs.Tree, path string) (*stack, error) {
	o := s.o.Layer
	o.Compression, o.Level, o.Clamp = snapshot.Uncompressed, 0, time.Time{} // processes see files as they are
	blob, err := snapshot.Write(ctx, snapshot.FromTreeAs(tree, path, mountedName), o)
	if err != nil {
		return nil, fmt.Errorf("read files to mount: %w", err)
	}
	var layers *stack
	return layers.push(ready(Layer{Layer: blob})), nil
}

// resolveMount finds what path stands for in tree. Its error is in BuildKit's words.
func resolveMount(tree rootfs.Tree, path string) (string, error) {
	at, err := rootfs.Resolve(tree, path)
	if err == nil {
		_, err = tree.Lstat(at)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", fmt.Errorf("%q: not found", path)
	}
	return at, err
}
