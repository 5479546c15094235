package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxNesting is how deep submodules may lie in submodules.
const maxNesting = 32

// gitCheckout writes the files of commits.
type gitCheckout struct {
	session          *gitSession
	keep, submodules bool
}

// into writes the files of a commit, and those of its submodules, to dir.
func (c *gitCheckout) into(ctx context.Context, dir, remote string, t gitTarget, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("submodules are nested deeper than %d", maxNesting)
	}
	var subs []submodule
	err := c.session.with(ctx, remote, t.object, func(repo *gitRepository) error {
		err := os.RemoveAll(dir) // the first attempt may have failed
		if err == nil {
			err = os.Mkdir(dir, 0o755)
		}
		switch {
		case err != nil:
		case c.keep:
			err = repo.clone(ctx, dir, t)
		default:
			err = repo.write(ctx, dir, t.object)
		}
		if err == nil && c.submodules {
			subs, err = repo.submodules(ctx, t.object)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, sub := range subs {
		if err := c.submodule(ctx, dir, remote, sub, depth+1); err != nil {
			return fmt.Errorf("submodule %q: %w", sub.path, err)
		}
	}
	if c.keep && len(subs) > 0 {
		return c.absorb(ctx, dir)
	}
	return nil
}

func (c *gitCheckout) submodule(ctx context.Context, dir, parent string, sub submodule, depth int) error {
	address, err := resolveSubmodule(parent, sub.url)
	if err != nil {
		return err
	}
	remote, user, err := splitRemote(address)
	if err != nil {
		return err
	}
	if user != nil {
		return errors.New("its URL holds credentials, which a repository must not give")
	}
	at, err := below(dir, sub.path)
	if err != nil {
		return err
	}
	return c.into(ctx, at, remote, gitTarget{object: sub.commit, commit: sub.commit}, depth)
}

// write writes the files of an object without a repository.
func (r *gitRepository) write(ctx context.Context, dir, object string) error {
	index := filepath.Join(r.temp, "index")
	defer os.Remove(index)
	g := *r.git
	g.env = append(g.env[:len(g.env):len(g.env)], "GIT_INDEX_FILE="+index)
	_, err := g.output(ctx, nil, "--git-dir="+r.dir, "--work-tree="+dir, "read-tree", "--reset", "-u", object)
	return err
}

// clone makes dir a shallow clone as BuildKit leaves one: at a detached commit, under the remote's name, without
// a trace of how it was made.
func (r *gitRepository) clone(ctx context.Context, dir string, t gitTarget) error {
	in := []string{"--git-dir=" + filepath.Join(dir, ".git"), "--work-tree=" + dir}
	from := fetchedRef(t.object)
	if t.ref != "" {
		from += ":" + t.ref
	}
	local := setting{"protocol.file.allow", "always"}
	for _, args := range [][]string{
		{"init", "--quiet", objectFormat(t.object)},
		{"remote", "add", "origin", r.remote},
		{"fetch", "--quiet", "--update-head-ok", "--depth=1", "--no-tags", "--", "file://" + r.dir, from},
		{"checkout", "--quiet", "--detach", "FETCH_HEAD"},
		{"reflog", "expire", "--all", "--expire=now"},
	} {
		if _, err := r.git.output(ctx, []setting{local}, append(in[:2:2], args...)...); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(dir, ".git", "FETCH_HEAD"))
}

// absorb gives the repositories of submodules the places that git gives them.
func (c *gitCheckout) absorb(ctx context.Context, dir string) error {
	g := *c.session.git
	g.dir = dir
	for _, command := range []string{"init", "absorbgitdirs"} {
		if _, err := g.output(ctx, nil, "submodule", "--quiet", command); err != nil {
			return err
		}
	}
	return nil
}

// submodule is a commit of another repository in the tree of a commit.
type submodule struct{ path, url, commit string }

// submodules lists those of an object that are to be checked out.
func (r *gitRepository) submodules(ctx context.Context, object string) ([]submodule, error) {
	var subs []submodule
	list := &records{each: func(record string) {
		// "160000 commit <id>\t<path>"
		if what, path, ok := strings.Cut(record, "\t"); ok && strings.HasPrefix(what, "160000 commit ") {
			subs = append(subs, submodule{path: path, commit: what[len("160000 commit "):]})
		}
	}}
	err := r.git.run(ctx, list, nil, "--git-dir="+r.dir, "ls-tree", "-r", "-z", "--full-tree", object)
	if err != nil || len(subs) == 0 {
		return nil, err
	}
	modules, err := r.modules(ctx, object)
	if err != nil {
		return nil, err
	}
	wanted := subs[:0]
	for _, sub := range subs {
		m := modules[sub.path]
		if m["update"] == "none" {
			continue
		}
		if sub.url = m["url"]; sub.url == "" {
			return nil, fmt.Errorf("no url found for submodule path %q in .gitmodules", sub.path)
		}
		wanted = append(wanted, sub)
	}
	return wanted, nil
}

// modules reads .gitmodules: what it says of each path.
func (r *gitRepository) modules(ctx context.Context, object string) (map[string]map[string]string, error) {
	out, err := r.output(ctx, "config", "--blob="+object+":.gitmodules", "--null", "--list")
	if err != nil {
		return nil, fmt.Errorf("read .gitmodules: %w", err)
	}
	named := map[string]map[string]string{}
	for record := range strings.SplitSeq(out, "\x00") {
		// "submodule.<name>.<key>\n<value>"
		full, value, _ := strings.Cut(record, "\n")
		full, ok := strings.CutPrefix(full, "submodule.")
		i := strings.LastIndexByte(full, '.')
		if !ok || i < 0 {
			continue
		}
		if named[full[:i]] == nil {
			named[full[:i]] = map[string]string{}
		}
		named[full[:i]][full[i+1:]] = value
	}
	byPath := map[string]map[string]string{}
	for _, m := range named {
		byPath[m["path"]] = m
	}
	return byPath, nil
}

// records calls each with what is written between zero bytes.
type records struct {
	each func(string)
	rest []byte
}

// maxRecord bounds a record, in bytes.
const maxRecord = 1 << 20

func (r *records) Write(p []byte) (int, error) {
	n := len(p)
	for {
		head, tail, ok := bytes.Cut(p, []byte{0})
		r.rest = append(r.rest, head...)
		if len(r.rest) > maxRecord {
			return 0, errors.New("the output is too long")
		}
		if !ok {
			return n, nil
		}
		r.each(string(r.rest))
		r.rest, p = r.rest[:0], tail
	}
}
