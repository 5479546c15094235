package registrytest

import (
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Proxy stands before a registry, counts what is asked of it, and lets a test go between.
type Proxy struct {
	// Host is "127.0.0.1:port".
	Host string

	server *httptest.Server
	mu     sync.Mutex
	seen   []*Request
	faults []Fault
}

// Request is a request that arrived.
type Request struct {
	Method, Path string
	Query        url.Values
	Header       http.Header
	// Length is that of the body, in bytes; -1 when the request does not say.
	Length int64
	// Sent is how many bytes of the body have come so far.
	Sent int64
	// Status is that of the answer, and Answer how many bytes its body had so far.
	Status int
	Answer int64
}

// counter notes what is answered.
type counter struct {
	http.ResponseWriter
	p *Proxy
	r *Request
}

func (c *counter) WriteHeader(code int) {
	c.p.mu.Lock()
	c.r.Status = code
	c.p.mu.Unlock()
	c.ResponseWriter.WriteHeader(code)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.r.Status == 0 {
		c.r.Status = http.StatusOK
	}
	c.r.Answer += int64(n)
	return n, err
}

// body notes what is sent.
type body struct {
	io.ReadCloser
	p *Proxy
	r *Request
}

func (b *body) Read(data []byte) (int, error) {
	n, err := b.ReadCloser.Read(data)
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.r.Sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Fault is asked about each request before it is passed on. It returns a handler to use instead of next, or
// nil for no opinion.
type Fault func(r *http.Request, next http.Handler) http.Handler

// Before starts a proxy before the registry at host, which speaks plain HTTP, until the test ends.
func Before(t testing.TB, host string) *Proxy {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: host}
	back := &httputil.ReverseProxy{
		// The registry makes its locations from the Host header, so it is kept.
		Rewrite:  func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host },
		ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // what is cut behind is cut before
		},
		Transport: &http.Transport{DisableCompression: true},
	}
	p := &Proxy{}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone(), Length: r.ContentLength}
		p.mu.Lock()
		p.seen = append(p.seen, seen)
		faults := p.faults
		p.mu.Unlock()
		if r.Body != http.NoBody { // which the reverse proxy knows
			r.Body = &body{ReadCloser: r.Body, p: p, r: seen}
		}
		var h http.Handler = back
		for _, f := range faults {
			if instead := f(r, h); instead != nil {
				h = instead
			}
		}
		h.ServeHTTP(&counter{ResponseWriter: w, p: p, r: seen}, r)
	}))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.Start()
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	p.Host = strings.TrimPrefix(p.server.URL, "http://")
	return p
}

// Inject adds a fault; it is asked after those that were there.
func (p *Proxy) Inject(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults[:len(p.faults):len(p.faults)], f)
}

// Heal takes all faults away.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Count returns how many requests had this method, any if empty, and this text in their path.
func (p *Proxy) Count(method, inPath string) int { return len(p.Seen(method, inPath)) }

// Seen lists the requests with this method, any if empty, and this text in their path.
func (p *Proxy) Seen(method, inPath string) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Request
	for _, r := range p.seen {
		if (method == "" || r.Method == method) && strings.Contains(r.Path, inPath) {
			list = append(list, *r)
		}
	}
	return list
}

// Reset forgets what was seen.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = nil
}

// Log is what was seen, a line each, for failing tests.
func (p *Proxy) Log() string {
	var b strings.Builder
	for _, r := range p.Seen("", "") {
		fmt.Fprintf(&b, "%s %s %s: %d\n", r.Method, r.Path, r.Query.Encode(), r.Status)
	}
	return b.String()
}

// Times limits a fault to the first n requests with this method and this text in their path.
func Times(n int, method, inPath string, f Fault) Fault {
	var mu sync.Mutex
	return func(r *http.Request, next http.Handler) http.Handler {
		if r.Method != method || !strings.Contains(r.URL.Path, inPath) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n <= 0 {
			return nil
		}
		h := f(r, next)
		if h != nil {
			n--
		}
		return h
	}
}

// Status answers with a status and headers, given as "Name: value".
func Status(code int, headers ...string) Fault {
	return func(*http.Request, http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for _, h := range headers {
				name, value, _ := strings.Cut(h, ": ")
				w.Header().Set(name, value)
			}
			w.WriteHeader(code)
		})
	}
}

// CutResponse closes the connection after n bytes of the body.
func CutResponse(n int) Fault {
	return func(_ *http.Request, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&cutWriter{ResponseWriter: w, left: n}, r)
		})
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Truncate makes an object that has no more than its first n bytes of what is asked for.
func Truncate(n int) Fault {
	return func(_ *http.Request, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			if whole.Code == http.StatusPartialContent {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			body := whole.Body.Bytes()
			maps.Copy(w.Header(), whole.Header())
			w.Header().Set("Content-Length", strconv.Itoa(min(n, len(body))))
			w.WriteHeader(whole.Code)
			_, _ = w.Write(body[:min(n, len(body))])
		})
	}
}

// CutRequest closes the connection after n bytes of the request's body, which the registry has got.
func CutRequest(n int64) Fault {
	return func(_ *http.Request, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = &cutBody{ReadCloser: r.Body, left: n}
			next.ServeHTTP(w, r)
		})
	}
}

type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("cut")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Corrupt changes a byte of the body.
func Corrupt() Fault {
	return func(_ *http.Request, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&corruptWriter{ResponseWriter: w}, r)
		})
	}
}

type corruptWriter struct {
	http.ResponseWriter
	done bool
}

func (w *corruptWriter) Write(p []byte) (int, error) {
	if w.done || len(p) == 0 {
		return w.ResponseWriter.Write(p)
	}
	w.done = true
	q := append([]byte(nil), p...)
	q[0] ^= 1
	return w.ResponseWriter.Write(q)
}

// Hang answers nothing until the client goes away.
func Hang() Fault {
	return func(*http.Request, http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			// Reading the body is how the server notices.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
	}
}
