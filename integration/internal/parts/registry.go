package parts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// Registry is a CNCF distribution registry that speaks plain HTTP.
type Registry struct {
	// Addr is host:port.
	Addr string
	p    *process
}

// RegistryOptions are what a registry may need besides a place.
type RegistryOptions struct {
	// Htpasswd is the contents of a password file with bcrypt hashes; empty lets everybody in.
	Htpasswd string
}

// StartRegistry starts a registry on a free port. It keeps its data below dir, which it makes.
func StartRegistry(ctx context.Context, dir string, o RegistryOptions) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`version: 0.1
log: {level: info, formatter: text, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0", secret: test}
`, filepath.Join(dir, "data"))
	if o.Htpasswd != "" {
		pw := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(pw, []byte(o.Htpasswd), 0o600); err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", pw)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	r := &Registry{}
	listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	p, err := start(ctx, exec.Command("docker-registry", "serve", file), func(line string) bool {
		m := listening.FindStringSubmatch(line)
		if m != nil {
			r.Addr = m[1]
		}
		return m != nil
	})
	r.p = p
	return r, err
}

// Stop ends the registry. Its data stays.
func (r *Registry) Stop() error { return r.p.stop() }
