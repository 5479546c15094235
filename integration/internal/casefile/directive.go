package casefile

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Named is a value with a name.
type Named struct {
	Name, Value string
}

// Grants are what a build may use.
type Grants struct {
	EnvSecrets   []Named // values
	FileSecrets  []Named // paths as directives have them
	Agents       []string
	Entitlements []string
}

// WebFile is what a server answers with.
type WebFile struct {
	Name string
	// Path is the file, as directives have it; empty for a redirect.
	Path string
	// Redirect is the URL that the name leads to.
	Redirect string
	Headers  []Named
}

// GitStep is one change to a repository.
type GitStep struct {
	Repository, Verb string // Verb is "commit", "submodule", "branch", "tag" or "annotate"
	Args             []string
}

// Layout is an OCI layout of an image.
type Layout struct {
	Path, Image string
}

// wants says how many words a directive takes: at least, and at most.
type wants struct{ least, most int }

// counts is for the directives that change no file.
var counts = map[string]wants{
	"build-arg": {1, 1}, "target": {1, 1}, "label": {1, 1}, "platform": {1, 1}, "dockerfile": {1, 1},
	"fail": {1, 1}, "refuse": {2, 2}, "beyond": {1, 1}, "exact-times": {0, 0}, "rewrite-timestamp": {0, 0}, "allow": {2, 2}, "except": {2, 2},
	"base": {2, 2}, "image": {2, 99}, "oci-layout": {2, 2},
	"secret": {3, 3}, "ssh": {1, 1}, "allow-entitlement": {1, 1}, "option": {2, 2}, "build-context": {2, 2},
	"http": {2, 5}, "redirect": {2, 2}, "git": {3, 4},
}

func (c *Case) directive(line int, words []string) error {
	name, args := words[0], words[1:]
	want, ok := counts[name]
	if n, changes := arity[name]; changes {
		want, ok = wants{n, n}, true
	}
	if !ok {
		return fmt.Errorf("unknown directive %q", name)
	}
	if len(args) < want.least || len(args) > want.most {
		return fmt.Errorf("%s: want %d to %d words, got %d", name, want.least, want.most, len(args))
	}
	if arity[name] > 0 {
		c.ops = append(c.ops, op{line, words})
		return nil
	}
	for _, read := range []func(string, []string) (bool, error){c.option, c.result, c.image, c.grant, c.server} {
		if done, err := read(name, args); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("unknown directive %q", name)
}

// option reads the options of the build.
func (c *Case) option(name string, args []string) (bool, error) {
	switch name {
	case "build-arg":
		c.BuildArgs = append(c.BuildArgs, args[0])
	case "target":
		c.Target = args[0]
	case "label":
		c.Labels = append(c.Labels, args[0])
	case "platform":
		c.Platform = args[0]
	case "dockerfile":
		c.Dockerfile = args[0]
	case "option":
		c.Options = append(c.Options, Named{args[0], args[1]})
	case "build-context":
		c.Contexts = append(c.Contexts, Named{args[0], args[1]})
	default:
		return false, nil
	}
	return true, nil
}

// result reads what is expected of the build.
func (c *Case) result(name string, args []string) (bool, error) {
	switch name {
	case "fail":
		if c.Fail = args[0]; c.Fail == "" {
			return false, fmt.Errorf("fail: want a text")
		}
	case "beyond":
		c.Beyond = args[0]
	case "refuse":
		c.Refuse = &Refusal{Entry: args[0], Text: args[1]}
	case "rewrite-timestamp":
		c.RewriteTimestamp = true
	case "exact-times":
		c.ExactTimes = true
	case "except":
		c.Exceptions[args[0]] = args[1]
	case "allow":
		re, err := regexp.Compile(args[1])
		if err != nil {
			return false, err
		}
		c.Allows = append(c.Allows, Allow{Entry: args[0], Pattern: re})
	default:
		return false, nil
	}
	return true, nil
}

// image reads what images the build begins with.
func (c *Case) image(name string, args []string) (bool, error) {
	switch name {
	case "base":
		c.Bases = append(c.Bases, Base{Name: args[0], Dockerfile: args[1]})
	case "image":
		c.Images = append(c.Images, Image{Name: args[0], Layers: args[1:]})
	case "oci-layout":
		c.Layouts = append(c.Layouts, Layout{Path: args[0], Image: args[1]})
	default:
		return false, nil
	}
	return true, nil
}

// grant reads what the build may use.
func (c *Case) grant(name string, args []string) (bool, error) {
	g := &c.Grants
	switch {
	case name == "secret" && args[1] == "env":
		g.EnvSecrets = append(g.EnvSecrets, Named{args[0], args[2]})
	case name == "secret" && args[1] == "file":
		g.FileSecrets = append(g.FileSecrets, Named{args[0], args[2]})
	case name == "secret":
		return false, fmt.Errorf("secret: want env or file, got %q", args[1])
	case name == "ssh":
		g.Agents = append(g.Agents, args[0])
	case name == "allow-entitlement":
		g.Entitlements = append(g.Entitlements, args[0])
	default:
		return false, nil
	}
	return true, nil
}

// server reads what servers have for the build.
func (c *Case) server(name string, args []string) (bool, error) {
	switch name {
	case "http":
		f := WebFile{Name: args[0], Path: args[1]}
		for _, word := range args[2:] {
			h, err := header(word)
			if err != nil {
				return false, err
			}
			f.Headers = append(f.Headers, h)
		}
		c.Files = append(c.Files, f)
	case "redirect":
		c.Files = append(c.Files, WebFile{Name: args[0], Redirect: args[1]})
	case "git":
		want := map[string]int{"commit": 1, "branch": 1, "tag": 1, "annotate": 1, "submodule": 2}[args[1]]
		if want == 0 || len(args) != 2+want {
			return false, fmt.Errorf("git: %q does not take %d words", args[1], len(args)-2)
		}
		c.Commits = append(c.Commits, GitStep{Repository: args[0], Verb: args[1], Args: args[2:]})
	default:
		return false, nil
	}
	return true, nil
}

// header reads the word for a header of an answer.
func header(word string) (Named, error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "etag":
		return Named{"ETag", `"` + value + `"`}, nil
	case "last-modified":
		t, err := time.Parse(time.RFC3339, value)
		return Named{"Last-Modified", t.UTC().Format("Mon, 02 Jan 2006 15:04:05") + " GMT"}, err
	case "disposition":
		return Named{"Content-Disposition", `attachment; filename="` + value + `"`}, nil
	}
	return Named{}, fmt.Errorf("http: unknown header %q", key)
}
