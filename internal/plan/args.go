package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// platformArgs are the arguments that exist without a declaration before the first FROM. A build argument of the same
// name replaces each.
func platformArgs(build, target ocispec.Platform, stage string, buildArgs map[string]string) *vars {
	if stage == "" {
		stage = "default"
	}
	v := newVars()
	for _, kv := range [][2]string{
		{"BUILDPLATFORM", platforms.Format(build)},
		{"BUILDOS", build.OS},
		{"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture},
		{"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", stage},
	} {
		value, given := buildArgs[kv[0]]
		if !given {
			value = kv[1]
		}
		v.set(kv[0], value)
	}
	return v
}

// addGlobalArgs adds the arguments before the first FROM. A default may use those before it.
func addGlobalArgs(v *vars, args []instructions.ArgCommand, buildArgs map[string]string, f *dockerfile.File, e *expander) error {
	for _, c := range args {
		for _, arg := range c.Args {
			if value, given := buildArgs[arg.Key]; given {
				v.set(arg.Key, value)
				continue
			}
			if arg.Value == nil {
				continue
			}
			res, err := e.word(*arg.Value, v)
			if err != nil {
				return f.Error(c.Location(), err)
			}
			v.set(arg.Key, res.Result)
		}
	}
	return nil
}

// proxyNames may be given as build arguments without a declaration, in upper or lower case.
var proxyNames = [...]string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"} //nolint:gochecknoglobals // a constant table

// proxies are the variables that the predefined proxy arguments put into every process. Where both spellings are given the
// lower one wins.
func proxies(buildArgs map[string]string) []string {
	given := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(buildArgs)) {
		given[strings.ToUpper(k)] = buildArgs[k]
	}
	var env []string
	for _, name := range proxyNames {
		if v := given[name]; v != "" {
			env = append(env, name+"="+v, strings.ToLower(name)+"="+v)
		}
	}
	return env
}

// unusedArgs are the build arguments that nothing declares and that have no meaning of their own. BuildKit
// ignores them without a word, which hides misspellings.
func unusedArgs(buildArgs map[string]string, declared map[string]bool) []string {
	var unused []string
	for _, k := range slices.Sorted(maps.Keys(buildArgs)) {
		switch {
		case declared[k], strings.HasPrefix(k, "BUILDKIT_"), k == epochArg:
		case slices.Contains(proxyNames[:], strings.ToUpper(k)):
		case isPlatformArg(k):
		default:
			unused = append(unused, k)
		}
	}
	return unused
}

func isPlatformArg(k string) bool {
	_, ok := platformArgs(ocispec.Platform{}, ocispec.Platform{}, "", nil).Get(k)
	return ok
}

// declaredArgs are the names that ARG declares anywhere in the file.
func declaredArgs(stages []instructions.Stage, global []instructions.ArgCommand) map[string]bool {
	names := map[string]bool{}
	for _, c := range global {
		for _, a := range c.Args {
			names[a.Key] = true
		}
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if c, ok := c.(*instructions.ArgCommand); ok {
				for _, a := range c.Args {
					names[a.Key] = true
				}
			}
		}
	}
	return names
}
