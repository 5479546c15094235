// Package azblob is a bucket in a container of Azure Blob Storage.
package azblob

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

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/retry"
)

const (
	// defaultContainer is BuildKit's.
	defaultContainer = "buildkit-cache"
	// blockSize times concurrency is the memory of an upload.
	blockSize   = 8 << 20
	concurrency = 2
)

// Options say where the container is.
type Options struct {
	// AccountURL is the URL of the storage account, such as https://name.blob.core.windows.net. With a query it is one that
	// carries its rights with it (a shared access signature).
	AccountURL string
	// Container is its name, "buildkit-cache" when empty. It is made when it is not there.
	Container string
	// Prefix is put before the names of all objects, as it is.
	Prefix string
	// SecretAccessKey is the account's key. When it is empty and the URL has no rights, credentials are looked for as
	// Azure's tools do: in the environment, as the identity of the workload or the machine, and where their command line
	// is logged in.
	SecretAccessKey string
}

// patience is ctx, without another attempt in a hurry.
func patience(ctx context.Context) context.Context {
	if cache.InHurry(ctx) {
		return policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1})
	}
	return ctx
}

// OptionsOf reads the options of a place of type azblob.
func OptionsOf(p cache.Place) Options {
	return Options{
		AccountURL: p.Values["account_url"], Container: p.Values["container"], Prefix: p.Values["prefix"],
		SecretAccessKey: p.Values["secret_access_key"],
	}
}

// Bucket is a container of Azure Blob Storage.
type Bucket struct {
	o      Options
	client *azblob.Client
}

var _ blob.Bucket = (*Bucket)(nil)

// Open returns the container without asking for it.
func Open(o Options) (*Bucket, error) {
	if o.Container == "" {
		o.Container = defaultContainer
	}
	u, err := url.Parse(o.AccountURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("open cache in Azure Blob Storage: the account's URL is not like https://name.blob.core.windows.net")
	}
	client, err := o.client(u)
	if err != nil {
		return nil, fmt.Errorf("open cache in Azure Blob Storage: %w", err)
	}
	return &Bucket{o: o, client: client}, nil
}

func (o Options) client(u *url.URL) (*azblob.Client, error) {
	switch {
	case o.SecretAccessKey != "":
		key, err := azblob.NewSharedKeyCredential(account(u), o.SecretAccessKey)
		if err != nil {
			return nil, err
		}
		return azblob.NewClientWithSharedKeyCredential(o.AccountURL, key, clientOptions())
	case u.RawQuery != "":
		return azblob.NewClientWithNoCredential(o.AccountURL, clientOptions())
	}
	identity, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	return azblob.NewClient(o.AccountURL, identity, clientOptions())
}

func clientOptions() *azblob.ClientOptions {
	o := &azblob.ClientOptions{}
	o.Retry.ShouldRetry = func(resp *http.Response, err error) bool {
		if err != nil {
			return !unreachable(err)
		}
		return retry.Passing(resp.StatusCode)
	}
	return o
}

func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// account is the name of the account: the first label of its host, or the path of a server that has an address instead.
func account(u *url.URL) string {
	if path := strings.Trim(u.Path, "/"); path != "" {
		return path
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}

// String is the container's URL, without the query, which may hold a signature.
func (b *Bucket) String() string {
	base, _, _ := strings.Cut(b.o.AccountURL, "?")
	return strings.TrimSuffix(base, "/") + "/" + b.o.Container + "/" + b.o.Prefix
}

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	resp, err := b.client.DownloadStream(patience(ctx), b.o.Container, b.o.Prefix+name, &azblob.DownloadStreamOptions{
		Range: azblob.HTTPRange{Offset: off},
	})
	if err != nil {
		return nil, explain(err)
	}
	return resp.Body, nil
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	err := b.upload(ctx, name, open)
	if bloberror.HasCode(err, bloberror.ContainerNotFound) {
		_, err = b.client.CreateContainer(patience(ctx), b.o.Container, nil)
		if err == nil || bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
			err = b.upload(ctx, name, open)
		}
	}
	return explain(err)
}

func (b *Bucket) upload(ctx context.Context, name string, open func() (io.ReadCloser, error)) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	// Blocks are committed at the end, so an upload that breaks leaves no blob.
	_, err = b.client.UploadStream(patience(ctx), b.o.Container, b.o.Prefix+name, rc, &azblob.UploadStreamOptions{
		BlockSize: blockSize, Concurrency: concurrency,
	})
	return err
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, name string) (blob.Object, error) {
	props, err := b.client.ServiceClient().NewContainerClient(b.o.Container).NewBlobClient(b.o.Prefix+name).GetProperties(patience(ctx), nil)
	if err != nil {
		return blob.Object{}, explain(err)
	}
	o := blob.Object{Name: name}
	if props.ContentLength != nil {
		o.Size = *props.ContentLength
	}
	if props.LastModified != nil {
		o.Modified = *props.LastModified
	}
	return o, nil
}

// List implements blob.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		prefix := b.o.Prefix + prefix
		pages := b.client.NewListBlobsFlatPager(b.o.Container, &azblob.ListBlobsFlatOptions{Prefix: &prefix})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if bloberror.HasCode(err, bloberror.ContainerNotFound) {
				return // nothing was put yet
			}
			if err != nil {
				yield(blob.Object{}, explain(err))
				return
			}
			for _, item := range page.Segment.BlobItems {
				if !yield(b.object(item), nil) {
					return
				}
			}
		}
	}
}

func (b *Bucket) object(item *container.BlobItem) blob.Object {
	var o blob.Object
	if item.Name != nil {
		o.Name = strings.TrimPrefix(*item.Name, b.o.Prefix)
	}
	if p := item.Properties; p != nil && p.ContentLength != nil {
		o.Size = *p.ContentLength
	}
	if p := item.Properties; p != nil && p.LastModified != nil {
		o.Modified = *p.LastModified
	}
	return o
}

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	_, err := b.client.DeleteBlob(ctx, b.o.Container, b.o.Prefix+name, nil)
	if err = explain(err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// explain sorts errors into those that blob.Bucket tells apart.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var answer *azcore.ResponseError
	status := 0
	if errors.As(err, &answer) {
		status = answer.StatusCode
	}
	var identity *azidentity.AuthenticationFailedError
	switch {
	// A container that is not there is made by the first Put.
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, short(err))
	case status == http.StatusUnauthorized, status == http.StatusForbidden, errors.As(err, &identity),
		unreachable(err):
		return fmt.Errorf("%w: %w", cache.ErrUnusable, short(err))
	}
	return short(err)
}
