package registrytest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// Tunnel starts an HTTP proxy that leads every connection to host, a server that speaks TLS, whatever name was asked for: so tests
// can use a registry under the name of a cloud's. It ends with the test.
func Tunnel(t testing.TB, host string) func(*http.Request) (*url.URL, error) {
	t.Helper()
	var open sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		back, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		front, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			back.Close()
			return
		}
		_, _ = io.WriteString(front, "HTTP/1.1 200 OK\r\n\r\n")
		open.Add(2)
		for _, way := range [][2]net.Conn{{front, back}, {back, front}} {
			go func() {
				defer open.Done()
				_, _ = io.Copy(way[0], way[1]) // ends when either side does
				front.Close()
				back.Close()
			}()
		}
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return http.ProxyURL(u)
}
