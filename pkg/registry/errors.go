package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Error says what could not be done with a registry, and what would help. The registry's own answer, where
// there was one, is a *transport.Error below it; see also [Status].
type Error struct {
	// Op is what was done: "pull image", "push image", "upload layer sha256:... to".
	Op string
	// Ref is the reference as the user gave it, or the repository.
	Ref string
	// Hint is what would help, as a clause that starts in lower case; empty when nothing is known.
	Hint string
	Err  error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s %q: %v", e.Op, e.Ref, e.Err)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Status returns the HTTP status with which a registry refused, or 0 when err is not about that.
func Status(err error) int {
	var t *transport.Error
	if errors.As(err, &t) {
		return t.StatusCode
	}
	return 0
}

// NotFound reports whether err is a registry's saying that it has no such thing. It is an
// error that wraps fs.ErrNotExist, too.
func NotFound(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || Status(err) == http.StatusNotFound
}

// saying puts words before an error that it does not repeat.
type saying struct {
	words string
	is    error
	err   error
}

func (e *saying) Error() string   { return e.words + ": " + e.err.Error() }
func (e *saying) Unwrap() []error { return []error{e.err, e.is} }

// fail makes the error of op on ref, which is at host as far as the request got.
func (c *Client) fail(op, ref string, repo name.Repository, who identity, err error) error {
	if c.life.Err() != nil {
		err = context.Cause(c.life)
	}
	var s *sessionError
	if errors.As(err, &s) {
		who = s.who
	}
	e := &Error{Op: op, Ref: ref, Err: err}
	host := repo.RegistryStr()
	// Where plain HTTP was tried after HTTPS, the failure of HTTPS is the one that matters.
	if hintConnection(e, host); e.Hint == "" {
		hintStatus(e, host, who)
	}
	return e
}

// hintStatus explains the answer of a registry.
func hintStatus(e *Error, host string, who identity) {
	var t *transport.Error
	if !errors.As(e.Err, &t) {
		return
	}
	switch t.StatusCode {
	case http.StatusUnauthorized:
		e.Err = &saying{words: "not authorized", is: fs.ErrPermission, err: e.Err}
		e.Hint = who.hint(host)
	case http.StatusForbidden:
		e.Err = &saying{words: "access denied", is: fs.ErrPermission, err: e.Err}
		e.Hint = who.hint(host)
	case http.StatusNotFound:
		e.Err = &saying{words: "not found", is: fs.ErrNotExist, err: e.Err}
		if strings.HasPrefix(e.Op, "pull") {
			e.Hint = "check the name and the tag"
		} else {
			e.Hint = "some registries want the repository to be made before it is pushed to"
		}
	case http.StatusTooManyRequests:
		e.Err = &saying{words: "rate limit", is: syscall.EAGAIN, err: e.Err}
		if who.anonymous {
			e.Hint = "anonymous requests have the lowest limits; " + who.hint(host)
		} else {
			e.Hint = "wait, or use a mirror: --registry-mirror"
		}
	case http.StatusRequestEntityTooLarge:
		e.Hint = "a proxy before " + host + " refuses large bodies: raise its limit"
	}
}

// hint says where credentials were looked for, which is the first thing to know when they are refused.
func (who identity) hint(host string) string {
	in := "no keychain is set"
	if who.asked != "" {
		in = "looked in " + who.asked
	}
	switch {
	case who.problem != nil:
		return fmt.Sprintf("credentials for %s could not be had: %v", host, who.problem)
	case who.anonymous:
		return fmt.Sprintf("no credentials for %s; %s", host, in)
	default:
		return fmt.Sprintf("the credentials for %s were refused; %s", host, in)
	}
}

// hintConnection explains why there was no answer.
func hintConnection(e *Error, host string) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		dns      *net.DNSError
		stalled  *stallError
	)
	switch err := e.Err; {
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		e.Hint = fmt.Sprintf("%s speaks plain HTTP: allow it with --insecure-registry=%s, --insecure for pushes or --insecure-pull for pulls", host, host)
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid):
		e.Hint = fmt.Sprintf("trust its certificate with --registry-certificate=%s=FILE, or --skip-tls-verify-registry=%s", host, host)
	case errors.As(err, &dns):
		e.Hint = fmt.Sprintf("the name %s cannot be resolved from here", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Hint = fmt.Sprintf("nothing listens at %s", host)
	case errors.As(err, &stalled):
		e.Hint = fmt.Sprintf("%s hangs", host)
	}
}
