package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gobuild-dev/gobuild/integration/internal/casefile"
	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// lay writes a case's files below dir, makes the images, servers and agents that it refers to, and returns its build.
func lay(t *testing.T, c *casefile.Case, dir string) parts.Job {
	refs := references(t, c)
	dirs, err := c.Lay(dir, refs)
	if err != nil {
		t.Fatal(err)
	}
	layImages(t, c, dirs, refs)
	layPages(t, c, dirs)
	layRepositories(t, c, dirs, refs["git"])
	job := parts.Job{
		Context: dirs.Context, Dockerfile: c.Dockerfile, Target: c.Target, Platform: c.Platform,
		BuildArgs: c.BuildArgs, Labels: c.Labels, RewriteTimestamp: c.RewriteTimestamp,
		Entitlements: c.Grants.Entitlements,
	}
	for _, o := range c.Options {
		job.Options = append(job.Options, o.Name+"="+o.Value)
	}
	for _, n := range c.Contexts {
		job.Contexts = append(job.Contexts, n.Name+"="+contextValue(dirs, n.Value))
	}
	for _, s := range c.Grants.EnvSecrets {
		job.AddEnvSecret(s.Name, s.Value)
	}
	for _, s := range c.Grants.FileSecrets {
		job.Secrets = append(job.Secrets, "id="+s.Name+",src="+dirs.Path(s.Value))
	}
	for _, id := range c.Grants.Agents {
		job.SSH = append(job.SSH, id+"="+agent(t).Socket)
	}
	return job
}

// references are what placeholders of a case stand for.
func references(t *testing.T, c *casefile.Case) map[string]string {
	refs := map[string]string{"registry": registry(t).Addr, "busybox": busybox(t)}
	if c.Mentions("{{debian}}") {
		refs["debian"] = debian(t)
	}
	if len(c.Files)+len(c.Commits) > 0 {
		refs["http"] = web(t).URL + "/http/" + c.Name
		refs["git"] = web(t).URL + "/git/" + c.Name
	}
	for _, i := range c.Images {
		refs[i.Name] = fmt.Sprintf("%s/cases/%s/%s:1", registry(t).Addr, c.Name, i.Name)
	}
	for _, b := range c.Bases {
		refs[b.Name] = fmt.Sprintf("%s/cases/%s/%s:1", registry(t).Addr, c.Name, b.Name)
	}
	return refs
}

// contextValue makes the paths in the value of a named context those of the case as it is laid out.
func contextValue(dirs casefile.Dirs, value string) string {
	if path, ok := strings.CutPrefix(value, "oci-layout://"); ok {
		return "oci-layout://" + dirs.Path(path)
	}
	if strings.Contains(value, "://") || strings.HasPrefix(value, "target:") {
		return value
	}
	return dirs.Path(value)
}

func layImages(t *testing.T, c *casefile.Case, dirs casefile.Dirs, refs map[string]string) {
	ctx := t.Context()
	for _, i := range c.Images {
		var layers []v1.Layer
		for _, file := range i.Layers {
			l, err := parts.Layer(dirs.Path(file))
			if err != nil {
				t.Fatal(err)
			}
			layers = append(layers, l)
		}
		img, err := parts.Image(layers...)
		if err != nil {
			t.Fatal(err)
		}
		if err := parts.Push(ctx, refs[i.Name], img); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range c.Bases {
		job := parts.Job{Context: dirs.Context, Dockerfile: b.Dockerfile, Destination: refs[b.Name]}
		if err := buildkit(t).Build(ctx, job); err != nil {
			t.Fatalf("base %s: %v", b.Name, err)
		}
	}
	for _, l := range c.Layouts {
		if err := parts.WriteLayout(dirs.Path(l.Path), pull(ctx, t, refs[l.Image])); err != nil {
			t.Fatal(err)
		}
	}
}

// layPages lets the server have the case's files.
func layPages(t *testing.T, c *casefile.Case, dirs casefile.Dirs) {
	for _, f := range c.Files {
		p := parts.Page{Redirect: f.Redirect, Headers: http.Header{}}
		if f.Path != "" {
			p.File = dirs.Path(f.Path)
		}
		for _, h := range f.Headers {
			p.Headers.Add(h.Name, h.Value)
		}
		web(t).Serve(c.Name+"/"+f.Name, p)
	}
}

// layRepositories makes the case's repositories, which are served below url.
func layRepositories(t *testing.T, c *casefile.Case, dirs casefile.Dirs, url string) {
	ctx := t.Context()
	repos := map[string]*parts.Repository{}
	for _, s := range c.Commits {
		r := repos[s.Repository]
		if r == nil {
			var err error
			if r, err = parts.NewRepository(ctx, filepath.Join(web(t).Repositories, c.Name, s.Repository+".git")); err != nil {
				t.Fatal(err)
			}
			repos[s.Repository] = r
		}
		var err error
		switch s.Verb {
		case "commit":
			err = r.Commit(ctx, dirs.Path(s.Args[0]))
		case "branch":
			err = r.Branch(ctx, s.Args[0])
		case "tag", "annotate":
			err = r.Tag(ctx, s.Args[0], s.Verb == "annotate")
		case "submodule":
			if repos[s.Args[1]] == nil {
				t.Fatalf("git %s submodule: there is no repository %q yet", s.Repository, s.Args[1])
			}
			err = r.Submodule(ctx, s.Args[0], url+"/"+s.Args[1]+".git", repos[s.Args[1]])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
