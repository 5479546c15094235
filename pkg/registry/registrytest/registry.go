// Package registrytest starts real registries on loopback for tests, and proxies before them that count
// requests and go wrong on demand.
package registrytest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// Registry is a running CNCF distribution.
type Registry struct {
	// Host is "127.0.0.1:port".
	Host string
	// Root is the folder of its storage.
	Root string
	// CA is the file of the certificate that it shows, when it speaks TLS.
	CA string
}

// Config says what kind of registry to start.
type Config struct {
	// TLS makes it speak HTTPS with a certificate that nobody trusts.
	TLS bool
	// Names are further host names for the certificate.
	Names []string
	// Htpasswd is lines of "user:bcrypt" for basic authentication; empty for none.
	Htpasswd string
}

// Alice is a line for Config.Htpasswd: user alice, password secret.
const Alice = "alice:$2a$04$zeRKRLyOPC5vZYCzes23qOK3/cGQJxYAJeMC.3Kk/gHtt4fjE/uZ2\n"

// Start runs Debian's docker-registry until the test ends.
func Start(t testing.TB, c Config) *Registry {
	t.Helper()
	dir := t.TempDir()
	r := &Registry{Root: filepath.Join(dir, "storage")}
	var conf bytes.Buffer
	fmt.Fprintf(&conf, "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n", r.Root)
	if c.TLS {
		key := filepath.Join(dir, "key.pem")
		r.CA = filepath.Join(dir, "cert.pem")
		writeCertificate(t, r.CA, key, c.Names)
		fmt.Fprintf(&conf, "  tls: {certificate: %s, key: %s}\n", r.CA, key)
	}
	if c.Htpasswd != "" {
		file := filepath.Join(dir, "htpasswd")
		write(t, file, []byte(c.Htpasswd))
		fmt.Fprintf(&conf, "auth: {htpasswd: {realm: test, path: %s}}\n", file)
	}
	file := filepath.Join(dir, "config.yml")
	write(t, file, conf.Bytes())

	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Fatalf("find docker-registry, which Debian's package of that name has: %v", err)
	}
	// The shell ends the registry when its standard input ends, which it does even if the test is killed.
	cmd := exec.Command("sh", "-c", `docker-registry serve "$1" & read -r _; kill $!; wait $!`, "sh", file)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // the status is that of a process that was killed
	})
	r.Host = listening(t, stderr)
	return r
}

// listening reads the registry's log up to the address, and goes on reading it so that it is never blocked.
func listening(t testing.TB, log io.Reader) string {
	t.Helper()
	re := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	found := make(chan string, 1)
	var seen bytes.Buffer
	go func() {
		defer close(found)
		lines := bufio.NewScanner(log)
		told := false
		for lines.Scan() {
			if told {
				continue
			}
			seen.Write(append(lines.Bytes(), '\n'))
			if m := re.FindSubmatch(lines.Bytes()); m != nil {
				found <- string(m[1])
				told = true
			}
		}
	}()
	select {
	case host, ok := <-found:
		if !ok {
			t.Fatalf("docker-registry ended:\n%s", seen.String())
		}
		return host
	case <-time.After(30 * time.Second):
		t.Fatal("docker-registry did not say where it listens")
	}
	return ""
}

func write(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCertificate makes a certificate for loopback and these names that signs itself.
func writeCertificate(t testing.TB, certFile, keyFile string, names []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registrytest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: append([]string{"localhost"}, names...),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}
