package diff

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/inode"
	"github.com/gobuild-dev/gobuild/pkg/snapshot"
)

// kindRecord is the PAX record that holds a change's kind on its way from a child.
const kindRecord = "GOBUILD.kind"

// Encode writes changes as a tar that Decode understands.
func Encode(w io.Writer, changes snapshot.Changes) error {
	tw := tar.NewWriter(w)
	buf := make([]byte, 256<<10)
	for c, err := range changes {
		if err != nil {
			return err
		}
		if err := encode(tw, c, buf); err != nil {
			return fmt.Errorf("send change of %q: %w", c.Header.Name, err)
		}
	}
	return tw.Close()
}

func encode(tw *tar.Writer, c snapshot.Change, buf []byte) error {
	h := *c.Header
	h.Format = tar.FormatPAX
	if c.Kind != snapshot.Add {
		h.PAXRecords = maps.Clone(h.PAXRecords)
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[kindRecord] = strconv.Itoa(int(c.Kind))
	}
	if err := tw.WriteHeader(&h); err != nil {
		return err
	}
	if c.Open == nil {
		return nil
	}
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{tw}, struct{ io.Reader }{r}, buf)
	return err
}

// Decode returns the changes that Encode wrote. The contents of a file have to be read before the next
// change is asked for. finish is called at the end, or when the sequence is abandoned with an error, and its
// error is the sequence's.
func Decode(r io.Reader, finish func(error) error) snapshot.Changes {
	return func(yield func(snapshot.Change, error) bool) {
		err := decode(r, yield)
		stopped := errors.Is(err, errStop)
		if err = finish(err); err != nil && !stopped {
			yield(snapshot.Change{}, err) // when nobody wants the stream any more nobody wants to know
		}
	}
}

func decode(r io.Reader, yield func(snapshot.Change, error) bool) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("receive changes: %w", err)
		}
		c, err := change(h)
		if err != nil {
			return err
		}
		valid := true
		if h.Typeflag == tar.TypeReg && h.Size > 0 {
			c.Open = func() (io.ReadCloser, error) {
				if !valid {
					return nil, fmt.Errorf("open %q: the contents have gone by", h.Name)
				}
				return io.NopCloser(tr), nil
			}
		}
		if !yield(c, nil) {
			return errStop
		}
		valid = false
	}
}

// change takes a header apart again.
func change(h *tar.Header) (snapshot.Change, error) {
	c := snapshot.Change{Header: h}
	if v, ok := h.PAXRecords[kindRecord]; ok {
		kind, err := strconv.ParseUint(v, 10, 8)
		if err != nil {
			return c, fmt.Errorf("receive changes: %q: invalid kind: %w", h.Name, err)
		}
		c.Kind = snapshot.Kind(kind)
	}
	for k := range h.PAXRecords {
		if k != Existed && k != Owned && !isXattr(k) {
			delete(h.PAXRecords, k)
		}
	}
	h.Format = tar.FormatUnknown
	h.Xattrs = nil //nolint:staticcheck // the reader repeats PAXRecords there
	return c, nil
}

func isXattr(record string) bool { return strings.HasPrefix(record, inode.XattrRecord) }
