package diff

import (
	"archive/tar"
	"context"
	"errors"
	"io/fs"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// KnownIn returns what layers, the lowest first, say of files; entries are nil for files that they do not have.
func KnownIn(ctx context.Context, layers []v1.Layer, o rootfs.Options, names []string) ([]*Known, error) {
	out := make([]*Known, len(names))
	if len(names) == 0 {
		return out, nil
	}
	tree, err := rootfs.Of(ctx, layers, o)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	for i, name := range names {
		fi, err := tree.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if e := rootfs.EntryOf(fi); e != nil {
			out[i] = knownOf(e)
		}
	}
	return out, nil
}

// FilesIn lists the files that layers, the lowest first, have, as they are walked.
func FilesIn(ctx context.Context, layers []v1.Layer, o rootfs.Options) (files []File, err error) {
	tree, err := rootfs.Of(ctx, layers, o)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	err = rootfs.Walk(tree, ".", func(name string, e *rootfs.Entry) error {
		files = append(files, File{name, e.Header.Typeflag == tar.TypeDir})
		return nil
	})
	return files, err
}

func knownOf(e *rootfs.Entry) *Known {
	k := &Known{Digest: e.Digest, Target: e.Header.Linkname, Xattrs: make(map[string]string)}
	for key, value := range e.Header.PAXRecords {
		if attr, ok := strings.CutPrefix(key, rootfs.XattrPrefix); ok {
			k.Xattrs[attr] = value
		}
	}
	return k
}
