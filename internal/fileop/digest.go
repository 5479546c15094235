package fileop

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Digest is a hash of everything of the selected files that the result of Changes depends on, but for base
// and modification times: their places relative to Dest, types, modes, link targets, kept extended attributes,
// which of them are hard links of each other, contents, and owners where they are kept. Everything is framed, so that
// different selections do not hash the same bytes. It does not cover the other fields of Copy.
//
// Contents whose digest the tree does not know are read, several files at a time.
func (s *Selection) Digest(ctx context.Context) ([sha256.Size]byte, error) {
	if err := s.hashContents(ctx); err != nil {
		return [sha256.Size]byte{}, err
	}
	h := framed{h: sha256.New()}
	h.str("gobuild selection v1")
	h.num(int64(len(s.items)))
	for _, it := range s.items {
		s.hashItem(&h, it)
	}
	return [sha256.Size]byte(h.h.Sum(nil)), nil
}

// hashItem hashes one item. A directory is only the sum of what is in it: neither its name nor
// its own metadata show in the result.
func (s *Selection) hashItem(h *framed, it *item) {
	h.num(int64(it.below.count))
	if !it.file.isDir() {
		h.str("file")
		h.str(it.name)
		s.hashFile(h, &it.file)
		return
	}
	h.str("directory")
	first := map[uint64]int64{}
	for i, f := range it.below.all() {
		h.str(it.rel(f))
		s.hashFile(h, f)
		link := int64(-1)
		if inode := f.rare().inode; inode != 0 && f.typ == tar.TypeReg {
			if n, ok := first[inode]; ok {
				link = n
			} else {
				first[inode] = int64(i)
			}
		}
		h.num(link)
	}
}

func (s *Selection) hashFile(h *framed, f *file) {
	a := &f.attr
	h.num(int64(a.typ))
	h.bool(f.implied)
	h.num(int64(a.mode))
	keep := f.item.src.KeepOwner && s.copy.Chown == ""
	h.bool(keep)
	if keep {
		h.num(int64(a.uid))
		h.num(int64(a.gid))
	}
	rare := a.rare()
	h.str(rare.link)
	h.num(rare.major)
	h.num(rare.minor)
	h.num(int64(len(rare.xattrs)))
	for _, k := range slices.Sorted(maps.Keys(rare.xattrs)) {
		h.str(k)
		h.str(rare.xattrs[k])
	}
	h.num(a.size)
	if a.typ == tar.TypeReg {
		h.str(string(f.digest[:]))
	}
}

// hashContents finds the digests of contents that are not known yet.
func (s *Selection) hashContents(ctx context.Context) error {
	next, stop := iter.Pull(s.unknown())
	defer stop()
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			var buf []byte
			for {
				mu.Lock()
				f, ok := next()
				mu.Unlock()
				if !ok {
					return nil
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if buf == nil {
					buf = make([]byte, 128<<10)
				}
				if err := f.hash(buf); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// unknown returns the regular files of which the digest is not known yet.
func (s *Selection) unknown() iter.Seq[*file] {
	return func(yield func(*file) bool) {
		for _, it := range s.items {
			if it.file.unknown() && !yield(&it.file) {
				return
			}
			for _, f := range it.below.all() {
				if f.unknown() && !yield(f) {
					return
				}
			}
		}
	}
}

func (f *file) unknown() bool { return f.typ == tar.TypeReg && f.sum() == nil }

// hash reads f and sets its digest.
func (f *file) hash(buf []byte) error {
	hash := sha256.New()
	if f.size > 0 {
		r, err := f.read()
		if err != nil {
			return fmt.Errorf("hash contents: %w", err)
		}
		defer func() { _ = r.Close() }()
		n, err := io.CopyBuffer(hash, struct{ io.Reader }{r}, buf)
		if err != nil {
			return fmt.Errorf("hash contents: %w", err)
		}
		if n != f.size {
			return fmt.Errorf("hash contents: %q changed while it was read", show(f.name))
		}
	}
	hash.Sum(f.digest[:0])
	return nil
}

// framed hashes values so that where one ends and the next begins shows in the hash.
type framed struct {
	h   hash.Hash
	buf [binary.MaxVarintLen64]byte
}

func (f *framed) num(n int64) { f.h.Write(f.buf[:binary.PutVarint(f.buf[:], n)]) }

func (f *framed) bool(b bool) {
	if b {
		f.num(1)
	} else {
		f.num(0)
	}
}

func (f *framed) str(s string) {
	f.num(int64(len(s)))
	_, _ = io.WriteString(f.h, s)
}
