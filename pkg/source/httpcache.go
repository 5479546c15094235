package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// httpCache keeps the last file of one URL, and what its server needs to be asked whether it is still the same. Any number of
// processes may use it: files get their names when they are whole, and a file that is removed stays
// readable for those who opened it. What cannot be kept is fetched again.
type httpCache struct {
	dir  string // empty: nothing is kept
	stem string // begins the names of the URL's files: <stem>.json, <stem>.<digest>, <stem>.tmp-*
}

// httpEntry describes a file that is kept.
type httpEntry struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	Disposition  string `json:"contentDisposition,omitempty"`
	SHA256       string `json:"sha256"`
	Size         int64  `json:"size"`
}

// keptFile is a file that is kept, open.
type keptFile struct {
	entry httpEntry
	file  *os.File
}

// maxEntry bounds the size of an entry, in bytes.
const maxEntry = 1 << 20

func newHTTPCache(dir, address string) httpCache {
	if dir == "" {
		return httpCache{}
	}
	sum := sha256.Sum256([]byte(address))
	return httpCache{dir: filepath.Join(dir, "http"), stem: hex.EncodeToString(sum[:16])}
}

func (c httpCache) path(suffix string) string { return filepath.Join(c.dir, c.stem+"."+suffix) }

// load returns what is kept, or nil.
func (c httpCache) load() *keptFile {
	if c.dir == "" {
		return nil
	}
	f, err := os.Open(c.path("json"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var k keptFile
	if err := json.NewDecoder(io.LimitReader(f, maxEntry)).Decode(&k.entry); err != nil {
		return nil
	}
	if b, err := hex.DecodeString(k.entry.SHA256); err != nil || len(b) != sha256.Size {
		return nil
	}
	if k.file, err = os.Open(c.path(k.entry.SHA256)); err != nil {
		return nil
	}
	if fi, err := k.file.Stat(); err != nil || fi.Size() != k.entry.Size {
		k.close()
		return nil
	}
	touch(c.path("json"))
	touch(c.path(k.entry.SHA256))
	return &k
}

// touch says that something that is kept was used. Whoever cleans up goes by that.
func touch(name string) {
	now := time.Now()
	_ = os.Chtimes(name, now, now) // it is cleaned up too early otherwise, and fetched again
}

// create makes the file that a body is written to: in the cache, or else in temp.
func (c httpCache) create(temp string) (*os.File, error) {
	if c.dir != "" && os.MkdirAll(c.dir, 0o700) == nil {
		if f, err := os.CreateTemp(c.dir, c.stem+".tmp-*"); err == nil {
			return f, nil
		}
	}
	return os.CreateTemp(temp, "http-*")
}

// keep gives file its place, and removes what was there before.
func (c httpCache) keep(e httpEntry, file *os.File) {
	if filepath.Dir(file.Name()) != c.dir || e.ETag == "" && e.LastModified == "" {
		return
	}
	if os.Rename(file.Name(), c.path(e.SHA256)) != nil || c.write(e) != nil {
		return
	}
	removeFiles(c.dir, func(name string) bool {
		suffix, ours := strings.CutPrefix(name, c.stem+".")
		return ours && suffix != "json" && suffix != e.SHA256
	})
}

// removeFiles removes the files of a directory that are old, as far as it can.
func removeFiles(dir string, old func(name string) bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if old(e.Name()) && !e.IsDir() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func (c httpCache) write(e httpEntry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(c.dir, c.stem+".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), c.path("json"))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (k *keptFile) close() {
	if k != nil {
		k.file.Close()
	}
}

// condition lets the server answer that the file is the same.
func (k *keptFile) condition(req *http.Request) {
	if k.entry.ETag != "" {
		req.Header.Set("If-None-Match", k.entry.ETag)
	}
	if k.entry.LastModified != "" {
		req.Header.Set("If-Modified-Since", k.entry.LastModified)
	}
}

// confirmedBy says that the server has the same file. Some servers know their ETags but do not answer 304: a strong one
// will do for the same bytes.
func (k *keptFile) confirmedBy(resp *http.Response) bool {
	etag := resp.Header.Get("ETag")
	switch resp.StatusCode {
	case http.StatusNotModified:
		return true
	case http.StatusOK:
		return etag != "" && etag == k.entry.ETag && !strings.HasPrefix(etag, "W/") &&
			resp.Header.Get("Last-Modified") == k.entry.LastModified
	}
	return false
}
