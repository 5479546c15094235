package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// planted is what no output and no file may hold. It is long enough for a secret that has to be found, and as no text holds
// it by chance.
const planted = "QmxvY2tlZC1tYXJrZXI"

// TestSecretsStaySecret plants a marker in every place through which a secret passes, and looks for it everywhere that
// a build writes to: its output in each form, the image, and the work directory with everything in it.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+planted+"-http" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte("fetched"))
	}))
	defer server.Close()
	host, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string]string{"Dockerfile": "FROM " + busybox(t) + `
ADD ` + server.URL + `/f /f
RUN --mount=type=secret,id=file,uid=3,mode=0440 cat /run/secrets/file | tr -d '\n' | sha256sum > /sum && cp /run/secrets/file /dev/shm/x && cat /run/secrets/file >&2
RUN --mount=type=secret,id=file,target=/deep/down/secret test -s /deep/down/secret
RUN --mount=type=secret,id=env,env=TOKEN set -x; test -n "$TOKEN" && echo "it is $TOKEN" && env
RUN --mount=type=secret,id=env,env=TOKEN --mount=type=cache,target=/cache echo "$TOKEN" | sha256sum > /cache/x
FROM scratch AS wrong
COPY --from=0 / /
RUN --mount=type=secret,id=file --mount=type=secret,id=env,env=TOKEN cat /run/secrets/file; echo "$TOKEN"; exit 4
`})
	secret := filepath.Join(s.dir, "secret")
	if err := os.WriteFile(secret, []byte(planted+"-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "IN_ENVIRONMENT="+planted+"-env", "OF_HTTP="+planted+"-http")
	given := []string{
		"--secret", "id=file,src=" + secret, "--secret", "id=env,env=IN_ENVIRONMENT",
		"--secret", "id=HTTP_AUTH_TOKEN_" + host.Hostname() + ",env=OF_HTTP",
	}
	build := func(ends bool, more ...string) {
		t.Helper()
		// The last --progress counts.
		out, err := s.build(append(append([]string{"-v", "debug"}, given...), more...)...)
		if ends != (err == nil) {
			t.Errorf("gobuild %q: %v", more, err)
		}
		if bytes.Contains([]byte(out), []byte(planted)) {
			t.Errorf("gobuild %q prints the secret:\n%s", more, out)
		}
	}
	ref := repo(t, "1")
	build(true, "--target", "0", "--destination", ref, "--oci-layout-path", filepath.Join(s.dir, "layout"), "--digest-file", filepath.Join(s.dir, "digest"))
	build(true, "--target", "0", "--destination", ref, "--progress", "json", "--no-cache")
	build(false, "--progress", "json", "--no-push")
	build(false, "--progress", "plain", "--no-push")
	out, err := s.start("plan", "--context", s.context, "--insecure-pull", "--format", "json", "--secret", "id=env,env=IN_ENVIRONMENT").wait()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains([]byte(out), []byte(planted)) {
		t.Errorf("the plan holds the secret:\n%s", out)
	}
	// The image was built, and with the secret.
	if got := files(t, pull(t.Context(), t, ref)); got["f"] != "fetched" || len(got["sum"]) != 68 {
		t.Errorf("image has f %q and sum %q", got["f"], got["sum"])
	}
	notPlanted(t, s.dir, secret)
}

// notPlanted looks into all files below dir but one, compressed ones too.
func notPlanted(t *testing.T, dir, but string) {
	t.Helper()
	forms := [][]byte{
		[]byte(planted), []byte(hex.EncodeToString([]byte(planted))), []byte(base64.StdEncoding.EncodeToString([]byte(planted)))[:24],
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == but || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			var unpacked bytes.Buffer
			if _, err := unpacked.ReadFrom(z); err == nil {
				data = append(data, unpacked.Bytes()...)
			}
		}
		for _, form := range forms {
			if bytes.Contains(data, form) || bytes.Contains([]byte(path), form) {
				t.Errorf("%s holds the secret", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
