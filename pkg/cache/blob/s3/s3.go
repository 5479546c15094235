// Package s3 is a bucket of Amazon S3, or of another server that speaks its protocol.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/retry"
)

// partSize is that of large uploads. One part of a layer that is not in a file is kept in memory.
const partSize = 8 << 20

// maxRetries is how often the library makes a request again, at most a second apart. It does so for hosts that cannot be
// reached, too.
const maxRetries = 5

// defaultEndpoint is Amazon's. The host of a region is made from it.
const defaultEndpoint = "https://s3.amazonaws.com"

// Options say where the bucket is.
type Options struct {
	// Bucket is its name. It has to exist.
	Bucket string
	// Prefix is put before the names of all objects, as it is.
	Prefix string
	// Region is asked for when it is empty.
	Region string
	// Endpoint is the URL of a server other than Amazon's.
	Endpoint string
	// PathStyle puts the bucket's name into the path instead of the host.
	PathStyle bool
	// AccessKeyID, SecretAccessKey and SessionToken are credentials. When the first is empty, they are looked for as Amazon's
	// tools do: in the environment, in the shared credentials file, and with what the machine, container or
	// Kubernetes service account has been given.
	AccessKeyID, SecretAccessKey, SessionToken string
}

// OptionsOf reads the options of a place of type s3.
func OptionsOf(p cache.Place) Options {
	return Options{
		Bucket: p.Values["bucket"], Prefix: p.Values["prefix"], Region: p.Values["region"],
		Endpoint: p.Values["endpoint_url"], PathStyle: p.Values["use_path_style"] == "true",
		AccessKeyID: p.Values["access_key_id"], SecretAccessKey: p.Values["secret_access_key"],
		SessionToken: p.Values["session_token"],
	}
}

// Bucket is a bucket of S3.
type Bucket struct {
	o Options
	// patient makes requests again that failed, once does not.
	patient, once *minio.Core
}

var _ blob.Bucket = (*Bucket)(nil)

// Open returns the bucket without asking for it.
func Open(o Options) (*Bucket, error) {
	if o.Endpoint == "" {
		o.Endpoint = defaultEndpoint
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("open cache in S3: endpoint %q is not like https://host", o.Endpoint)
	}
	lookup := minio.BucketLookupAuto
	if o.PathStyle {
		lookup = minio.BucketLookupPath
	}
	b := &Bucket{o: o}
	creds := o.credentials()
	for core, tries := range map[**minio.Core]int{&b.patient: maxRetries, &b.once: 1} {
		if *core, err = minio.NewCore(u.Host, &minio.Options{
			Creds: creds, Secure: u.Scheme == "https", Region: o.Region, BucketLookup: lookup, MaxRetries: tries,
		}); err != nil {
			return nil, fmt.Errorf("open cache in S3: %w", err)
		}
	}
	return b, nil
}

func (b *Bucket) core(ctx context.Context) *minio.Core {
	if cache.InHurry(ctx) {
		return b.once
	}
	return b.patient
}

func (o Options) credentials() *credentials.Credentials {
	if o.AccessKeyID != "" {
		return credentials.NewStaticV4(o.AccessKeyID, o.SecretAccessKey, o.SessionToken)
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})
}

// String is the bucket's URL.
func (b *Bucket) String() string { return "s3://" + b.o.Bucket + "/" + b.o.Prefix }

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	if off > 0 {
		if err := opts.SetRange(off, 0); err != nil {
			return nil, err
		}
	}
	rc, _, _, err := b.core(ctx).GetObject(ctx, b.o.Bucket, b.o.Prefix+name, opts)
	if err != nil {
		return nil, explain(err)
	}
	return rc, nil
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	// The library makes requests again whose bodies it can rewind, which ours are not.
	return explain(retry.Do(ctx, func() error { return b.upload(ctx, name, size, open) }, again))
}

func (b *Bucket) upload(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	rc, err := open()
	if err != nil {
		return &retry.SourceError{Err: err}
	}
	body := &retry.Source{ReadCloser: rc}
	defer body.Close()
	_, err = b.core(ctx).Client.PutObject(ctx, b.o.Bucket, b.o.Prefix+name, body, size, minio.PutObjectOptions{PartSize: partSize})
	return body.Blame(err)
}

// again tells what may pass: busy servers and lost connections, but neither other refusals nor hosts that cannot be
// reached at all.
func again(err error) (time.Duration, bool) {
	if status := minio.ToErrorResponse(err).StatusCode; status != 0 {
		return 0, retry.Passing(status)
	}
	return 0, !unreachable(err)
}

func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, name string) (blob.Object, error) {
	info, err := b.core(ctx).StatObject(ctx, b.o.Bucket, b.o.Prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return blob.Object{}, explain(err)
	}
	return b.object(info), nil
}

func (b *Bucket) object(info minio.ObjectInfo) blob.Object {
	return blob.Object{Name: strings.TrimPrefix(info.Key, b.o.Prefix), Size: info.Size, Modified: info.LastModified}
}

// List implements blob.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		opts := minio.ListObjectsOptions{Prefix: b.o.Prefix + prefix, Recursive: true}
		for info := range b.core(ctx).ListObjectsIter(ctx, b.o.Bucket, opts) {
			if info.Err != nil {
				yield(blob.Object{}, explain(info.Err))
				return
			}
			if !yield(b.object(info), nil) {
				return
			}
		}
	}
}

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	return explain(b.core(ctx).RemoveObject(ctx, b.o.Bucket, b.o.Prefix+name, minio.RemoveObjectOptions{}))
}

// explain sorts errors into those that blob.Bucket tells apart.
func explain(err error) error {
	if err == nil {
		return nil
	}
	answer := minio.ToErrorResponse(err)
	switch {
	case answer.Code == minio.NoSuchBucket, answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden,
		unreachable(err):
		return fmt.Errorf("%w: %w", cache.ErrUnusable, err)
	case answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
