package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// helperFresh is how long an answer of a credential helper is used. The shortest-lived credentials that helpers
	// hand out hold for an hour, and they renew them some minutes before.
	helperFresh = 5 * time.Minute
	// helperTimeout ends helpers that wait for somebody to type.
	helperTimeout = time.Minute
)

// answer is what a helper said; cfg is nil when it has no credentials.
type answer struct {
	cfg *authn.AuthConfig
	at  time.Time
}

// helped is credentials that a helper keeps. They are asked for again when they are no longer fresh, so that a
// build may outlast them.
type helped struct {
	helpers        *helpers
	helper, server string
}

// Authorization implements authn.Authenticator.
func (a *helped) Authorization() (*authn.AuthConfig, error) {
	return a.AuthorizationContext(context.Background())
}

// AuthorizationContext implements authn.ContextAuthenticator.
func (a *helped) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	cfg, err := a.get(ctx)
	if cfg == nil && err == nil {
		// They were there and are gone: anonymous, like Docker's client.
		cfg = &authn.AuthConfig{}
	}
	return cfg, err
}

// get returns nil when there are no credentials.
func (a *helped) get(ctx context.Context) (*authn.AuthConfig, error) {
	key := a.helper + " " + a.server
	a.helpers.mu.Lock()
	defer a.helpers.mu.Unlock()
	if k, ok := a.helpers.known[key]; ok && time.Since(k.at) < helperFresh {
		return k.cfg, nil
	}
	cfg, err := runHelper(ctx, a.helper, a.server)
	if standIn := a.helpers.standIns[a.helper]; standIn != nil && errors.Is(err, exec.ErrNotFound) {
		cfg, err = standIn(ctx, a.server)
	}
	if k := a.helpers.known[key]; k.cfg != nil && errors.Is(err, exec.ErrNotFound) {
		// It was there: in a container whose files are put aside while a step runs it will be again.
		return k.cfg, nil
	}
	if err != nil {
		return nil, err
	}
	a.helpers.known[key] = answer{cfg: cfg, at: time.Now()}
	return cfg, nil
}

// runHelper speaks Docker's credential helper protocol: the server on standard input, JSON on
// standard output.
func runHelper(ctx context.Context, helper, server string) (*authn.AuthConfig, error) {
	program := "docker-credential-" + helper
	if strings.ContainsAny(helper, `/\`) {
		return nil, fmt.Errorf("run credential helper %q: not a name", helper)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stdout.String())
		// The words are part of the protocol.
		if strings.Contains(said, "credentials not found") {
			return nil, nil
		}
		if errors.Is(err, exec.ErrNotFound) {
			return nil, &notInstalled{program}
		}
		if said == "" {
			said = strings.TrimSpace(stderr.String())
		}
		if said != "" {
			return nil, fmt.Errorf("run %s get: %w: %s", program, err, said)
		}
		return nil, fmt.Errorf("run %s get: %w", program, err)
	}
	var got struct{ Username, Secret string }
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		return nil, fmt.Errorf("run %s get: parse its answer: %w", program, err)
	}
	switch {
	case got.Username == "" && got.Secret == "":
		return nil, nil
	case got.Username == "<token>":
		return &authn.AuthConfig{IdentityToken: got.Secret}, nil
	}
	return &authn.AuthConfig{Username: got.Username, Password: got.Secret}, nil
}

// notInstalled is the error of a helper whose program is not in the PATH.
type notInstalled struct{ program string }

func (e *notInstalled) Error() string {
	return "run credential helper: " + e.program + " is not installed"
}
func (*notInstalled) Unwrap() error { return exec.ErrNotFound }
