package registry_test

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/cache/cachetest"
	cacheregistry "github.com/gobuild-dev/gobuild/pkg/cache/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/registry/registrytest"
)

func newClient(t *testing.T) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{Retries: 2, RetryDelay: time.Millisecond, StallTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// open gives the store as another machine has it, which knows nothing of what was pushed before.
func open(t *testing.T, repo string) *cacheregistry.Store {
	t.Helper()
	s, err := cacheregistry.Open(newClient(t), repo, cacheregistry.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	p := registrytest.Before(t, registrytest.Start(t, registrytest.Config{}).Host)
	cachetest.RunShared(t, cachetest.Proxied(p, "/blobs/", func(t *testing.T) cachetest.Shared {
		return open(t, p.Host+"/app/cache")
	}))
}

// TestConformanceElsewhere runs against go-containerregistry's registry, which knows no deletion of what has a tag.
func TestConformanceElsewhere(t *testing.T) {
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	cachetest.Run(t, func(t *testing.T) cache.Store { return open(t, host+"/app/cache") })
}
