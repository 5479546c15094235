package azblob_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/azblob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/blobtest"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func bucket(t *testing.T, words string) blob.Bucket {
	t.Helper()
	place, err := cache.ParsePlace(words, cache.To)
	if err != nil {
		t.Fatal(err)
	}
	b, err := azblob.Open(azblob.OptionsOf(place))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	p := registrytest.Before(t, blobtest.Azure(t))
	words := func(host, key string) string {
		return "type=azblob,account_url=http://" + host + "/" + blobtest.AzureAccount + ",secret_access_key=" + key
	}
	blobtest.Run(t, p, blobtest.Buckets{
		Open: func(t *testing.T, prefix string) blob.Bucket {
			return bucket(t, words(p.Host, blobtest.AzureKey)+",prefix="+prefix)
		},
		Refused: func(t *testing.T) blob.Bucket {
			return bucket(t, words(p.Host, base64.StdEncoding.EncodeToString([]byte("wrong"))))
		},
		Unreachable: func(t *testing.T, host string) blob.Bucket { return bucket(t, words(host, blobtest.AzureKey)) },
	})
}

func TestSharedAccessSignature(t *testing.T) {
	account := "http://" + blobtest.Azure(t) + "/" + blobtest.AzureAccount
	blobtest.Usable(t, bucket(t, "type=azblob,account_url="+account+",secret_access_key="+blobtest.AzureKey)) // makes the container
	key, err := service.NewSharedKeyCredential(blobtest.AzureAccount, blobtest.AzureKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := service.NewClientWithSharedKeyCredential(account, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := c.GetSASURL(sas.AccountResourceTypes{Object: true, Container: true},
		sas.AccountPermissions{Read: true, Write: true, Create: true, List: true, Delete: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := bucket(t, `type=azblob,"account_url=`+signed+`"`)
	blobtest.Usable(t, b)
	if strings.Contains(b.String(), "sig=") {
		t.Errorf("the signature is in the bucket's name: %s", b)
	}
	nobody := bucket(t, `type=azblob,"account_url=http://127.0.0.1:1/`+blobtest.AzureAccount+`?sig=hunter2"`)
	if _, err := nobody.Get(t.Context(), "steps/a", 0); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error with a signature in it: %v", err)
	}
}
