package parts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Web serves files below /http/, and the repositories of a folder below /git/ with Git's own smart protocol.
type Web struct {
	// URL is where it listens.
	URL string
	// Repositories is the folder whose bare repositories are served.
	Repositories string

	server *http.Server
	done   chan error
	mu     sync.Mutex
	pages  map[string]Page
}

// Page is what a Web answers with.
type Page struct {
	File    string
	Headers http.Header
	// Redirect, unless empty, is where the answer leads to.
	Redirect string
}

// StartWeb starts a server on a free port. repositories is the folder of its repositories.
func StartWeb(ctx context.Context, repositories string) (*Web, error) {
	out, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("ask git for its programs: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Web{URL: "http://" + l.Addr().String(), Repositories: repositories, done: make(chan error, 1), pages: map[string]Page{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/http/", w.page)
	mux.Handle("/git/", &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/git",
		Env: []string{"GIT_PROJECT_ROOT=" + repositories, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
	})
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { w.done <- w.server.Serve(l) }()
	return w, nil
}

// Serve lets /http/name be the page.
func (w *Web) Serve(name string, p Page) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages["/http/"+name] = p
}

func (w *Web) page(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	p, ok := w.pages[r.URL.Path]
	w.mu.Unlock()
	switch {
	case !ok:
		http.NotFound(rw, r)
	case p.Redirect != "":
		http.Redirect(rw, r, p.Redirect, http.StatusFound)
	default:
		serveFile(rw, r, p)
	}
}

// serveFile is what http.ServeFile does, without a Last-Modified that the page does not have.
func serveFile(rw http.ResponseWriter, r *http.Request, p Page) {
	f, err := http.Dir(filepath.Dir(p.File)).Open(filepath.Base(p.File))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	for name, values := range p.Headers {
		rw.Header()[name] = values
	}
	modified, _ := http.ParseTime(rw.Header().Get("Last-Modified")) // the zero time is no time
	rw.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(rw, r, "", modified, f)
}

// Stop ends the server.
func (w *Web) Stop() error {
	err := w.server.Close()
	if served := <-w.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
