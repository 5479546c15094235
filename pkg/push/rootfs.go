package push

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// RootTar returns an exporter of the image's root filesystem to a tar file, as BuildKit's tar exporter writes
// it: sorted by path, names without a leading slash, directories with a slash at the end, the further names of a
// file as hard links, and times rounded to seconds, or the artifact's Epoch if it has one. The root itself has no entry. The file appears when it is whole. o says
// where the contents are found.
func RootTar(path string, o rootfs.Options) Exporter {
	return &toFile{path: path, what: "write root filesystem to", write: rootTar(o)}
}

// RootTarTo is [RootTar] to a writer, as [DockerArchiveTo] has it.
func RootTarTo(w io.Writer, o rootfs.Options) Exporter {
	return &toWriter{w: w, what: "write root filesystem", write: rootTar(o)}
}

func rootTar(o rootfs.Options) encode {
	return func(ctx context.Context, w io.Writer, a Artifact) (v1.Hash, error) {
		return withTree(ctx, a, o, func(t *rootfs.LayerTree) error {
			tw := tar.NewWriter(w)
			links := map[uint64]string{}
			err := rootfs.Walk(t, ".", func(name string, e *rootfs.Entry) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if name == "." {
					return nil
				}
				return addEntry(tw, t, name, at(header(name, e), a.Epoch), e.Inode, links)
			})
			if err != nil {
				return err
			}
			return tw.Close()
		})
	}
}

// withTree calls f with the root filesystem and returns the digest of the image.
func withTree(ctx context.Context, a Artifact, o rootfs.Options, f func(*rootfs.LayerTree) error) (_ v1.Hash, err error) {
	digest, err := a.Image.Digest()
	if err != nil {
		return v1.Hash{}, err
	}
	layers, err := a.Image.Layers()
	if err != nil {
		return v1.Hash{}, err
	}
	t, err := rootfs.Of(ctx, layers, o)
	if err != nil {
		return v1.Hash{}, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return digest, f(t)
}

// addEntry writes one file. links has the first name of each file with several, by inode.
func addEntry(tw *tar.Writer, t rootfs.Tree, name string, h *tar.Header, inode uint64, links map[uint64]string) error {
	if first, seen := links[inode]; inode != 0 && seen {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
	} else if inode != 0 {
		links[inode] = name
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	return copyFile(tw, t, name)
}

// header is the entry of a tar for e, with nothing that the file does not have.
func header(name string, e *rootfs.Entry) *tar.Header {
	h := &tar.Header{
		Typeflag: e.Header.Typeflag, Name: name, Linkname: e.Header.Linkname, Mode: e.Header.Mode,
		Uid: e.Header.Uid, Gid: e.Header.Gid, ModTime: e.Header.ModTime,
		Devmajor: e.Header.Devmajor, Devminor: e.Header.Devminor,
	}
	switch h.Typeflag {
	case tar.TypeReg:
		h.Size = e.Header.Size
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeSymlink:
		// A link on a disk has this mode, whatever the layer says.
		h.Mode = 0o777
	}
	for k, v := range e.Header.PAXRecords {
		if strings.HasPrefix(k, xattrPrefix) {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[k] = v
		}
	}
	return h
}

// xattrPrefix marks extended attributes among PAX records.
const xattrPrefix = "SCHILY.xattr."

func copyFile(w io.Writer, t fs.FS, name string) error {
	f, err := t.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}
