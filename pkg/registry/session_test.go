package registry

import (
	"net/url"
	"testing"
)

// TestRegistriesLeadNoOneHome: what a registry answers must not turn requests to the machine that asks, nor to the metadata
// service of its cloud, while storage in a private network is fine.
func TestRegistriesLeadNoOneHome(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"https://reg.example/v2/", "https://storage.example/x", true},
		{"https://reg.example/v2/", "https://10.1.2.3:9000/bucket", true},
		{"https://reg.example/v2/", "http://169.254.169.254/latest/meta-data", false},
		{"https://reg.example/v2/", "http://127.0.0.1:8080/", false},
		{"https://reg.example/v2/", "http://[::1]:8080/", false},
		{"https://reg.example/v2/", "http://0.0.0.0/", false},
		{"http://127.0.0.1:5000/v2/", "http://127.0.0.1:9000/", true},
		{"http://localhost:5000/v2/", "http://127.0.0.1:9000/", true},
	} {
		from, err := url.Parse(tc.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := url.Parse(tc.to)
		if err != nil {
			t.Fatal(err)
		}
		if err := mayLead(from, to); (err == nil) != tc.ok {
			t.Errorf("from %s to %s: %v", tc.from, tc.to, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	b := backoff{left: 3, delay: 100}
	if d, ok := b.next(0); !ok || d < 100 || d > 125 {
		t.Errorf("first wait %v, %v", d, ok)
	}
	if d, ok := b.next(1000); !ok || d != 1000 {
		t.Errorf("the registry asked for 1000, got %v, %v", d, ok)
	}
	if _, ok := b.next(maxRetryAfter + 1); ok {
		t.Error("waits longer than anybody would")
	}
	if _, ok := b.next(0); !ok {
		t.Error("a refusal used up a retry")
	}
	if _, ok := b.next(0); ok {
		t.Error("more retries than there are")
	}
}
