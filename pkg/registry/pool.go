package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Limits of the pool.
const (
	// idlePerHost connections are kept for the next burst: those of the mounts and look-ups that run at once (see
	// maxQuestions). The number of open connections isn't limited: an upload may read its layer from the registry
	// it writes to, and would wait for itself.
	idlePerHost = maxQuestions
	// bufferSize of a connection, each way. The 4 KiB of net/http cost a system call for every 4 KiB of a layer.
	bufferSize = 32 << 10
)

// pool has one http.Transport for each way of doing TLS, which is one for nearly everybody.
type pool struct {
	o     Options
	roots map[string]*x509.CertPool   // by registry
	certs map[string]*tls.Certificate // by registry

	mu         sync.Mutex
	transports map[tlsProfile]*http.Transport
}

// tlsProfile is all that makes two transports differ.
type tlsProfile struct {
	skipVerify bool
	registry   string // of the certificates; empty when it has none
}

func newPool(o Options) (*pool, error) {
	p := &pool{
		o:          o,
		roots:      map[string]*x509.CertPool{},
		certs:      map[string]*tls.Certificate{},
		transports: map[tlsProfile]*http.Transport{},
	}
	for registry, file := range o.Certificates {
		roots, err := readRoots(file)
		if err != nil {
			return nil, fmt.Errorf("read certificates for registry %q: %w", registry, err)
		}
		p.roots[canonical(registry)] = roots
	}
	for registry, f := range o.ClientCerts {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate for registry %q: %w", registry, err)
		}
		p.certs[canonical(registry)] = &cert
	}
	return p, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		// A system without certificates still has those of the file.
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, &os.PathError{Op: "parse", Path: file, Err: errors.New("no PEM certificate in it")}
	}
	return roots, nil
}

// transport returns the connections to use on behalf of registry: to itself, to its token
// server, and to the storage that it redirects to.
func (p *pool) transport(registry string, skipVerify bool) *http.Transport {
	key := tlsProfile{skipVerify: skipVerify}
	if p.roots[registry] != nil || p.certs[registry] != nil {
		key.registry = registry
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.transports[key]
	if t == nil {
		t = p.open(key)
		p.transports[key] = t
	}
	return t
}

func (p *pool) open(key tlsProfile) *http.Transport {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: key.skipVerify, // asked for by name
		RootCAs:            p.roots[key.registry],
	}
	if cert := p.certs[key.registry]; cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy:                 p.o.Proxy,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     !p.o.HTTP1,
		MaxIdleConnsPerHost:   idlePerHost,
		IdleConnTimeout:       90 * time.Second,
		WriteBufferSize:       bufferSize,
		ReadBufferSize:        bufferSize,
		// Blobs are what they are: nobody may decompress them on the way.
		DisableCompression: true,
	}
	if p.o.HTTP1 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	return t
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transports {
		t.CloseIdleConnections()
	}
}
