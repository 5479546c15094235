package s3_test

import (
	"errors"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/blobtest"
	"github.com/gobuild-dev/gobuild/pkg/cache/blob/s3"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func bucket(t *testing.T, words string) blob.Bucket {
	t.Helper()
	place, err := cache.ParsePlace(words, cache.To)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s3.Open(s3.OptionsOf(place))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	p := registrytest.Before(t, blobtest.S3(t))
	words := "type=s3,region=us-east-1,use_path_style=true,access_key_id=" + blobtest.S3AccessKey +
		",secret_access_key="
	at := func(host, bucket string) string { return ",bucket=" + bucket + ",endpoint_url=http://" + host }
	blobtest.Run(t, p, blobtest.Buckets{
		Open: func(t *testing.T, prefix string) blob.Bucket {
			return bucket(t, words+blobtest.S3SecretKey+at(p.Host, blobtest.Container)+",prefix="+prefix)
		},
		Refused: func(t *testing.T) blob.Bucket {
			return bucket(t, words+"wrong"+at(p.Host, blobtest.Container))
		},
		Unreachable: func(t *testing.T, host string) blob.Bucket {
			return bucket(t, words+blobtest.S3SecretKey+at(host, blobtest.Container))
		},
	})
	t.Run("no-bucket", func(t *testing.T) {
		b := bucket(t, words+blobtest.S3SecretKey+at(p.Host, "other"))
		if _, err := b.Get(t.Context(), "steps/a", 0); !errors.Is(err, cache.ErrUnusable) {
			t.Errorf("Get: %v, want ErrUnusable", err)
		}
	})
}

func TestCredentialsFromTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", blobtest.S3AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", blobtest.S3SecretKey)
	host := blobtest.S3(t)
	blobtest.Usable(t, bucket(t, "type=s3,bucket="+blobtest.Container+",use_path_style=true,endpoint_url=http://"+host))
}

func TestEndpointErrors(t *testing.T) {
	for _, endpoint := range []string{"host", "ftp://host", "http://host/path", "http://"} {
		if _, err := s3.Open(s3.Options{Bucket: "b", Endpoint: endpoint}); err == nil {
			t.Errorf("endpoint %q was taken", endpoint)
		}
	}
}
