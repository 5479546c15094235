// Package gcs is a bucket of Google Cloud Storage, over its JSON API: Google's own client library weighs twenty
// times what the five requests that a cache needs do.
package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
)

const (
	defaultEndpoint = "https://storage.googleapis.com"
	scope           = "https://www.googleapis.com/auth/devstorage.read_write"
)

// Options say where the bucket is.
type Options struct {
	// Bucket is its name. It has to exist.
	Bucket string
	// Prefix is put before the names of all objects, as it is.
	Prefix string
	// Endpoint is the URL of a server other than Google's. One that begins with http:// gets no credentials, which could be
	// read on the way.
	Endpoint string
	// Client makes the requests. Nil: one with credentials that are looked for as Google's tools do (Application Default
	// Credentials): in the file that the environment names, where gcloud has logged in, and as the identity of the
	// workload or the machine.
	Client *http.Client
}

// OptionsOf reads the options of a place of type gcs.
func OptionsOf(p cache.Place) Options {
	return Options{Bucket: p.Values["bucket"], Prefix: p.Values["prefix"], Endpoint: p.Values["endpoint_url"]}
}

// Bucket is a bucket of Google Cloud Storage.
type Bucket struct {
	o    Options
	base string
}

var _ blob.Bucket = (*Bucket)(nil)

// Open finds the credentials and returns the bucket without asking for it. Tokens are had in the lifetime of ctx.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	if o.Endpoint == "" {
		o.Endpoint = defaultEndpoint
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("open cache in Google Cloud Storage: endpoint %q is not like https://host", o.Endpoint)
	}
	if o.Client == nil && u.Scheme == "http" {
		o.Client = &http.Client{}
	}
	if o.Client == nil {
		creds, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, fmt.Errorf("open cache in Google Cloud Storage: find credentials: %w", err)
		}
		o.Client = oauth2.NewClient(ctx, creds.TokenSource)
	}
	return &Bucket{o: o, base: strings.TrimSuffix(u.String(), "/")}, nil
}

// String is the bucket's URL.
func (b *Bucket) String() string { return "gs://" + b.o.Bucket + "/" + b.o.Prefix }

// url is the address of an object, or of all when name is empty.
func (b *Bucket) url(name string, query url.Values) string {
	u := b.base + "/storage/v1/b/" + url.PathEscape(b.o.Bucket) + "/o"
	if name != "" {
		u += "/" + url.PathEscape(b.o.Prefix+name)
	}
	return u + "?" + query.Encode()
}

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	resp, err := b.do(ctx, request{method: http.MethodGet, url: b.url(name, url.Values{"alt": {"media"}}), off: off})
	if err != nil {
		return nil, err
	}
	if off > 0 && resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return nil, fmt.Errorf("asked for the bytes from %d on, and the server answered %s", off, resp.Status)
	}
	return resp.Body, nil
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	u := b.base + "/upload/storage/v1/b/" + url.PathEscape(b.o.Bucket) + "/o?" +
		url.Values{"uploadType": {"media"}, "name": {b.o.Prefix + name}}.Encode()
	resp, err := b.do(ctx, request{method: http.MethodPost, url: u, size: size, open: open})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// object is what the JSON API says of an object.
type object struct {
	Name    string    `json:"name"`
	Size    string    `json:"size"`
	Updated time.Time `json:"updated"`
}

func (b *Bucket) object(o object) (blob.Object, error) {
	size, err := strconv.ParseInt(o.Size, 10, 64)
	return blob.Object{Name: strings.TrimPrefix(o.Name, b.o.Prefix), Size: size, Modified: o.Updated}, err
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, name string) (blob.Object, error) {
	var o object
	if err := b.json(ctx, b.url(name, url.Values{"fields": {"name,size,updated"}}), &o); err != nil {
		return blob.Object{}, err
	}
	return b.object(o)
}

// List implements blob.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		query := url.Values{"prefix": {b.o.Prefix + prefix}, "fields": {"nextPageToken,items(name,size,updated)"}}
		for {
			var page struct {
				Items         []object `json:"items"`
				NextPageToken string   `json:"nextPageToken"`
			}
			if err := b.json(ctx, b.url("", query), &page); err != nil {
				yield(blob.Object{}, err)
				return
			}
			for _, item := range page.Items {
				if o, err := b.object(item); !yield(o, err) || err != nil {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			query.Set("pageToken", page.NextPageToken)
		}
	}
}

// maxJSON bounds an answer. A page of a thousand objects has some 200 kB.
const maxJSON = 16 << 20

func (b *Bucket) json(ctx context.Context, u string, into any) error {
	resp, err := b.do(ctx, request{method: http.MethodGet, url: u})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxJSON)).Decode(into); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	resp, err := b.do(ctx, request{method: http.MethodDelete, url: b.url(name, nil)})
	var refused *statusError
	if errors.As(err, &refused) && refused.status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
