// Package blobtest starts object stores on loopback for tests: real ones, or the emulators that their makers test with.
package blobtest

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the servers are started with.
const (
	// Container is the name of the bucket in each server, but for Azure's, where the first Put makes it.
	Container = "cache"
	// S3AccessKey and S3SecretKey are the credentials of [S3].
	S3AccessKey = "test"
	S3SecretKey = "testsecret"
	// AzureAccount and AzureKey are those that Azurite always has.
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// S3 starts a Versity S3 gateway until the test ends, and returns its "127.0.0.1:port".
func S3(t testing.TB) string {
	t.Helper()
	root, meta := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(root, Container), 0o755); err != nil {
		t.Fatal(err)
	}
	host := freeHost(t)
	start(t, host, tool(t, "bin/versitygw"), "--port", host, "--access", S3AccessKey, "--secret", S3SecretKey, "--quiet",
		"posix", "--sidecar", meta, root)
	return host
}

// GCS starts a fake-gcs-server until the test ends, and returns its "127.0.0.1:port".
func GCS(t testing.TB) string {
	t.Helper()
	host := freeHost(t)
	_, port, _ := strings.Cut(host, ":")
	start(t, host, tool(t, "bin/fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", port,
		"-backend", "memory", "-log-level", "error", "-public-host", host)
	body := strings.NewReader(`{"name":"` + Container + `"}`)
	resp, err := http.Post("http://"+host+"/storage/v1/b?project=test", "application/json", body) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("make bucket: %s", resp.Status)
	}
	return host
}

// Azure starts Azurite until the test ends, and returns its "127.0.0.1:port".
func Azure(t testing.TB) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("find node, which Debian's package nodejs has: %v", err)
	}
	host := freeHost(t)
	_, port, _ := strings.Cut(host, ":")
	start(t, host, node, tool(t, "azurite/node_modules/azurite/dist/src/blob/main.js"), "--blobPort", port,
		"--location", t.TempDir(), "--silent", "--skipApiVersionCheck", "--disableTelemetry")
	return host
}

// tool is the path of a program that scripts/setup has installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd() //nolint:forbidigo // a test's own folder
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	path := filepath.Join(dir, ".tools", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run scripts/setup test", err)
	}
	return path
}

// freeHost is an address of loopback where nobody listens.
func freeHost(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a server until the test ends, and waits until it listens.
func start(t testing.TB, host string, words ...string) {
	t.Helper()
	// The shell ends the server when its standard input ends, which it does even if the test is killed.
	cmd := exec.Command("sh", append([]string{"-c", `"$@" & read -r _; kill $!; wait $!`, "sh"}, words...)...) //nolint:noctx // see above
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = stdin.Close()
		_ = cmd.Wait() // the status is that of a process that was killed
	}
	for range 600 {
		if c, err := net.Dial("tcp", host); err == nil { //nolint:noctx // loopback
			c.Close()
			t.Cleanup(stop)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	t.Fatalf("%s does not listen at %s:\n%s", filepath.Base(words[0]), host, out.String())
}
