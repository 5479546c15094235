package snapshot

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Verify returns the bytes of r, with an error in place of io.EOF when they do not have the
// digest, a SHA-256, or the size; a negative size is not known. When it is known, false bytes are withheld from the read that
// would be the last: who sends that many bytes and no more, and takes the answer for success, must not have sent them. More bytes than size
// are an error as soon as they appear, so that nobody can fill a disk. Close closes r.
func Verify(r io.ReadCloser, digest v1.Hash, size int64) io.ReadCloser {
	return &verifier{r: r, digest: digest, size: size, hash: sha256.New()}
}

type verifier struct {
	r      io.ReadCloser
	digest v1.Hash
	size   int64
	n      int64
	hash   hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	switch {
	case v.size >= 0 && v.n > v.size:
		return n, fmt.Errorf("verify %v: more than %d bytes", v.digest, v.size)
	case n > 0 && v.n == v.size && (err == nil || err == io.EOF):
		if wrong := v.check(); wrong != nil {
			return 0, wrong
		}
		return n, err
	case err != io.EOF:
		return n, err
	case v.size >= 0 && v.n != v.size:
		return n, fmt.Errorf("verify %v: %d bytes instead of %d: %w", v.digest, v.n, v.size, io.ErrUnexpectedEOF)
	}
	if wrong := v.check(); wrong != nil {
		return n, wrong
	}
	return n, io.EOF
}

// check compares the digest of what was read.
func (v *verifier) check() error {
	if got := digestOf(v.hash); got != v.digest {
		return fmt.Errorf("verify %v: the bytes have digest %v", v.digest, got)
	}
	return nil
}

func (v *verifier) Close() error { return v.r.Close() }
