package source

import (
	"context"
	"crypto/sha256"
	_ "crypto/sha512" // for checksums
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// HTTPOptions name a file that a URL gives.
type HTTPOptions struct {
	URL string
	// Name is what the file is called in the root of the tree; empty is what the server or the URL calls it, or else
	// "download".
	Name string
	// Checksum, as algorithm:hex, is that which the file must have.
	Checksum string
}

// fileMode is that of a file from a URL.
const fileMode = 0o600

// httpRemote is the Remote of a URL.
type httpRemote struct {
	o        HTTPOptions
	f        Fetch
	checksum digest.Digest // empty: any
	client   *http.Client
	cache    httpCache
	fetched  once[*download]
}

// download is the file, and what its server said of it.
type download struct {
	file     *os.File
	size     int64
	sha256   string // hex
	name     string
	modified time.Time // zero: unknown
}

// NewHTTP returns the remote of a URL: a tree with one file in its root, of mode 0600, whose time of modification is
// its Last-Modified or else the beginning of 1970.
//
// With Fetch.Dir a file is downloaded again only if its server does not confirm, by ETag or
// Last-Modified, that it is the same; and not asked for at all if it has the checksum.
func NewHTTP(o HTTPOptions, f Fetch) (Remote, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("fetch %q: it is no http or https URL", shown(o.URL))
	}
	h := &httpRemote{o: o, f: f.withDefaults()}
	if o.Checksum != "" {
		if h.checksum, err = digest.Parse(o.Checksum); err != nil {
			return nil, fmt.Errorf("fetch %q: checksum %q: %w", shown(o.URL), o.Checksum, err)
		}
	}
	h.client = h.f.newClient()
	h.cache = newHTTPCache(h.f.Dir, o.URL)
	h.fetched.do = h.fetch
	return h, nil
}

// Key implements Remote. A checksum says what the contents are without asking.
func (h *httpRemote) Key(ctx context.Context) (string, error) {
	if h.checksum != "" && h.o.Name != "" {
		return h.key(h.checksum.String(), safeName(h.o.Name), time.Time{}), nil
	}
	d, err := h.fetched.get(ctx)
	if err != nil {
		return "", err
	}
	return h.key(d.sum(h.checksum), d.name, d.modified), nil
}

func (h *httpRemote) key(sum, name string, modified time.Time) string {
	stamp := ""
	if !modified.IsZero() {
		stamp = modified.UTC().Format(http.TimeFormat)
	}
	return fmt.Sprintf("http name=%q mode=%o modified=%q contents=%s", name, fileMode, stamp, sum)
}

// sum is the digest of the file, as the user gave it if he did: it was compared.
func (d *download) sum(checksum digest.Digest) string {
	if checksum != "" {
		return checksum.String()
	}
	return "sha256:" + d.sha256
}

// Tree implements Remote.
func (h *httpRemote) Tree(ctx context.Context) (rootfs.Tree, error) {
	d, err := h.fetched.get(ctx)
	if err != nil {
		return nil, err
	}
	return newFileTree(d), nil
}

// Time implements Remote.
func (h *httpRemote) Time(ctx context.Context) (time.Time, error) {
	d, err := h.fetched.get(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return d.modified, nil
}

// Close implements Remote.
func (h *httpRemote) Close() error {
	h.client.CloseIdleConnections()
	if d, ok := h.fetched.peek(); ok {
		return d.file.Close()
	}
	return nil
}

// fetch gets the file from the cache or from the server.
func (h *httpRemote) fetch(ctx context.Context) (*download, error) {
	d, err := h.find(ctx)
	if err == nil {
		err = h.verify(d)
		if err != nil {
			d.file.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", shown(h.o.URL), err)
	}
	return d, nil
}

func (h *httpRemote) find(ctx context.Context) (*download, error) {
	kept := h.cache.load()
	if kept != nil && h.checksum != "" && h.checksum.String() == "sha256:"+kept.entry.SHA256 {
		return h.reuse(kept), nil
	}
	resp, err := h.request(ctx, kept)
	if err != nil {
		kept.close()
		return nil, err
	}
	defer resp.Body.Close()
	if kept != nil && kept.confirmedBy(resp) {
		return h.reuse(kept), nil
	}
	kept.close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp)
	}
	return h.receive(resp)
}

// verify compares the file with its checksum. The words are those that users of BuildKit look for.
func (h *httpRemote) verify(d *download) error {
	if h.checksum == "" {
		return nil
	}
	got := digest.NewDigestFromEncoded(digest.SHA256, d.sha256)
	if h.checksum.Algorithm() != digest.SHA256 {
		var err error
		if got, err = h.checksum.Algorithm().FromReader(io.NewSectionReader(d.file, 0, d.size)); err != nil {
			return err
		}
	}
	if got != h.checksum {
		return fmt.Errorf("digest mismatch for %s: %s (expected: %s)", shown(h.o.URL), got, h.checksum)
	}
	return nil
}

// request asks for the file, on the condition that it is not the one that is kept.
func (h *httpRemote) request(ctx context.Context, kept *keptFile) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.o.URL, nil)
	if err != nil {
		return nil, plainError(ctx, err)
	}
	req.Header.Set("User-Agent", h.f.UserAgent)
	if kept != nil {
		kept.condition(req)
	}
	host := req.URL.Hostname()
	secret, which, err := h.f.secret(ctx, "HTTP_AUTH_TOKEN_"+host, "HTTP_AUTH_HEADER_"+host)
	if err != nil {
		return nil, fmt.Errorf("get credentials for %q: %w", host, err)
	}
	switch which {
	case 0:
		req.Header.Set("Authorization", "Bearer "+secret)
	case 1:
		req.Header.Set("Authorization", secret)
	}
	if err := checkHeader(req.Header.Get("Authorization")); err != nil {
		return nil, fmt.Errorf("get credentials for %q: %w", host, err)
	}
	return h.f.send(ctx, h.client, req)
}

// checkHeader refuses what net/http would, which then would print it.
func checkHeader(value string) error {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("they hold a line break or a control character")
	}
	return nil
}

func statusError(resp *http.Response) error {
	hint := ""
	if s := resp.StatusCode; s == http.StatusUnauthorized || s == http.StatusForbidden {
		host := resp.Request.URL.Hostname()
		hint = fmt.Sprintf(" (credentials are taken from the secret HTTP_AUTH_TOKEN_%s or HTTP_AUTH_HEADER_%s)", host, host)
	}
	return fmt.Errorf("the server answers %d %s%s", resp.StatusCode, http.StatusText(resp.StatusCode), hint)
}

func (h *httpRemote) reuse(kept *keptFile) *download {
	e := kept.entry
	return &download{
		file: kept.file, size: e.Size, sha256: e.SHA256, modified: parseTime(e.LastModified),
		name: fileName(h.o.Name, e.Disposition, h.o.URL),
	}
}

// receive writes the body to a file, in the cache if it can be of use there.
func (h *httpRemote) receive(resp *http.Response) (_ *download, err error) {
	header := resp.Header
	entry := httpEntry{
		ETag: header.Get("ETag"), LastModified: header.Get("Last-Modified"), Disposition: header.Get("Content-Disposition"),
	}
	file, err := h.cache.create(h.f.TempDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		os.Remove(file.Name()) // unless the cache gave it another name
		if err != nil {
			file.Close()
		}
	}()
	sum := sha256.New()
	if entry.Size, err = io.Copy(io.MultiWriter(file, sum), resp.Body); err != nil {
		return nil, fmt.Errorf("after %d bytes: %w", entry.Size, err)
	}
	entry.SHA256 = hex.EncodeToString(sum.Sum(nil))
	h.cache.keep(entry, file)
	return h.reuse(&keptFile{entry: entry, file: file}), nil
}

// parseTime reads a date of HTTP; the zero time stands for none.
func parseTime(s string) time.Time {
	t, err := http.ParseTime(s)
	if err != nil {
		return time.Time{}
	}
	return t
}
