package registry

import (
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// TestHelperThatIsGone: a helper that was there and cannot be found now, because a step has its place, has said
// something that holds longer than it is fresh. One that was never there has not.
func TestHelperThatIsGone(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	h := newHelpers()
	h.known["gone reg.example"] = answer{cfg: &authn.AuthConfig{Username: "u"}, at: time.Now().Add(-2 * helperFresh)}
	h.known["nothing reg.example"] = answer{at: time.Now().Add(-2 * helperFresh)}
	cfg, err := (&helped{helpers: h, helper: "gone", server: "reg.example"}).get(t.Context())
	if err != nil || cfg == nil || cfg.Username != "u" {
		t.Errorf("got %+v, %v", cfg, err)
	}
	for _, name := range []string{"nothing", "never"} {
		if cfg, err := (&helped{helpers: h, helper: name, server: "reg.example"}).get(t.Context()); err == nil {
			t.Errorf("%s: got %+v", name, cfg)
		}
	}
}
