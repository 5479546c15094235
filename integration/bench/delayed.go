package main

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// delayed starts a proxy before the registry at addr that answers each request so much later. Close ends it.
func delayed(addr string, by time.Duration) (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	back := &httputil.ReverseProxy{
		// The registry makes its locations from the Host header, so it is kept.
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL = target(r.In.URL, addr) },
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100},
	}
	s := &http.Server{
		Addr:              l.Addr().String(),
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(by)
			back.ServeHTTP(w, r)
		}),
	}
	go s.Serve(l) //nolint:errcheck // it ends with Close
	return s, nil
}

func target(u *url.URL, host string) *url.URL {
	to := *u
	to.Scheme, to.Host = "http", host
	return &to
}
