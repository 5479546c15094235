package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"unicode"
)

// splitRemote checks a git remote and takes the credentials out of it, so that they are neither on a command line
// nor in a repository's configuration.
func splitRemote(remote string) (plain string, user *url.Userinfo, err error) {
	if strings.ContainsFunc(remote, unicode.IsControl) {
		return "", nil, errors.New("the remote holds a control character")
	}
	if !strings.Contains(remote, "://") {
		host, path, ok := strings.Cut(remote, ":")
		if _, h, at := strings.Cut(host, "@"); at {
			host = h
		}
		if !ok || host == "" || path == "" || strings.HasPrefix(remote, "-") || strings.HasPrefix(host, "-") || strings.Contains(host, "/") {
			return "", nil, fmt.Errorf("%q is neither a URL nor of the form user@host:path", remote)
		}
		return remote, nil, nil
	}
	u, err := url.Parse(remote)
	if err != nil {
		return "", nil, errors.New("the remote is a malformed URL")
	}
	user, u.User = u.User, nil
	switch u.Scheme {
	case "http", "https":
	case "ssh":
		if user != nil {
			u.User = url.User(user.Username())
		}
		user = nil
	case "git":
		user = nil
	default:
		return "", nil, fmt.Errorf("%q: git repositories are fetched with http, https, ssh or git", shown(remote))
	}
	if u.Host == "" || strings.HasPrefix(u.Host, "-") {
		return "", nil, fmt.Errorf("%q names no host", shown(remote))
	}
	return u.String(), user, nil
}

func isHTTP(remote string) bool {
	return strings.HasPrefix(remote, "http://") || strings.HasPrefix(remote, "https://")
}

// askAgent lets ssh use the agent, and looks for the known hosts. Submodules may be reached by ssh when their repository is not, but for those the
// agent is not meant.
func (g *git) askAgent(ctx context.Context, f Fetch) error {
	if f.KnownHosts != "" {
		if _, err := os.Stat(f.KnownHosts); err != nil { // ssh would say that the host is not known
			return fmt.Errorf("find known hosts: %w", err)
		}
	}
	if f.SSHAgent == nil {
		return nil
	}
	socket, err := f.SSHAgent(ctx)
	if err != nil {
		return fmt.Errorf("get ssh agent: %w", err)
	}
	if socket != "" {
		g.env = append(g.env, "SSH_AUTH_SOCK="+socket)
	}
	return nil
}

// authorize gives g the credentials for remote: those of a secret, or else those that were in its URL.
func (g *git) authorize(ctx context.Context, f Fetch, remote string, user *url.Userinfo) error {
	if strings.HasPrefix(remote, "ssh://") || !strings.Contains(remote, "://") {
		return g.askAgent(ctx, f)
	}
	if !isHTTP(remote) {
		return nil
	}
	u, err := url.Parse(remote)
	if err != nil {
		return errors.New("the remote is a malformed URL")
	}
	names := []string{"GIT_AUTH_HEADER." + u.Host, "GIT_AUTH_TOKEN." + u.Host, "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"}
	secret, which, err := f.secret(ctx, names...)
	if err != nil {
		return fmt.Errorf("get credentials for %q: %w", u.Host, err)
	}
	header, scope := secret, tokenScope(remote)
	switch which {
	case 1, 3:
		g.secrets = append(g.secrets, secret)
		header = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+secret))
	case -1:
		if user == nil {
			return nil
		}
		password, _ := user.Password()
		if g.secrets = append(g.secrets, password); password == "" {
			g.secrets = append(g.secrets, user.Username()) // a token mostly
		}
		header = "basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
		// As part of the URL they would hold for submodules beside it, too.
		scope = u.Scheme + "://" + u.Host + "/"
	}
	if err := checkHeader(header); err != nil {
		return fmt.Errorf("get credentials for %q: %w", u.Host, err)
	}
	_, encoded, _ := strings.Cut(header, " ")
	g.secrets = slices.DeleteFunc(append(g.secrets, header, encoded), func(s string) bool { return s == "" })
	g.config = append(g.config, setting{"http." + scope + ".extraHeader", "Authorization: " + header})
	return nil
}

// tokenScope is the URL below which a token is sent: the remote, or all of github.com, whose submodules mostly lie there.
// That is BuildKit's rule.
func tokenScope(remote string) string {
	for _, prefix := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, prefix) {
			return prefix
		}
	}
	return remote
}

// resolveSubmodule makes a submodule's URL, which may be relative to that of its repository, absolute.
func resolveSubmodule(parent, address string) (string, error) {
	if !strings.HasPrefix(address, "./") && !strings.HasPrefix(address, "../") {
		return address, nil
	}
	host, base := splitHost(strings.TrimSuffix(parent, "/"))
	absolute := strings.HasPrefix(base, "/") || strings.Contains(host, "://")
	for {
		if rest, ok := strings.CutPrefix(address, "./"); ok {
			address = rest
			continue
		}
		rest, ok := strings.CutPrefix(address, "../")
		if !ok {
			break
		}
		if base == "" {
			return "", fmt.Errorf("its URL leads out of %q", host)
		}
		address, base = rest, base[:max(0, strings.LastIndexByte(base, '/'))]
	}
	if base != "" || absolute {
		base += "/"
	}
	return host + base + address, nil
}

// splitHost returns the part of a remote that names the host, "scheme://host" or "user@host:", and the path.
func splitHost(remote string) (host, path string) {
	if scheme, rest, ok := strings.Cut(remote, "://"); ok {
		i := strings.IndexByte(rest+"/", '/')
		return scheme + "://" + rest[:i], rest[i:]
	}
	i := strings.IndexByte(remote, ':') + 1
	return remote[:i], remote[i:]
}
