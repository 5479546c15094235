package parts

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Job is one build. BuildKit does not read a context again where path, size and time of a file are those of an
// earlier build: contexts that differ must differ in one of them.
type Job struct {
	Context, Dockerfile string // Dockerfile is relative to Context
	Target              string
	Platform            string
	BuildArgs           []string
	Labels              []string
	NoCache             bool
	// WorkDir, CacheFrom and CacheTo are for gobuild: where it keeps things, and repositories of results.
	WorkDir, CacheFrom, CacheTo string
	// ImportCache and ExportCache are for BuildKit: references of its caches of results.
	ImportCache, ExportCache string
	// Contexts are named contexts: name=value, the value being a folder or a URL.
	Contexts []string
	// Options are key=value, the keys being those of BuildKit's Dockerfile frontend.
	Options []string
	// Secrets are what --secret takes, and SSH is what --ssh takes.
	Secrets, SSH []string
	Entitlements []string
	// Env is what the program's environment has besides the test's own.
	Env              []string
	RewriteTimestamp bool
	// Destination is where the image is pushed; empty pushes nothing.
	Destination string
	// Output is a value of --output, for what is not pushed.
	Output string
}

// AddEnvSecret adds a secret that is given in a variable of the environment.
func (j *Job) AddEnvSecret(id, value string) {
	name := fmt.Sprintf("TEST_SECRET_%d", len(j.Secrets))
	j.Secrets = append(slices.Clip(j.Secrets), "id="+id+",env="+name)
	j.Env = append(slices.Clip(j.Env), name+"="+value)
}

// Environ is the environment of the program that builds.
func (j Job) Environ() []string { return append(os.Environ(), j.Env...) }

// uses are the arguments for what the build may use, as gobuild and buildctl both have them.
func (j Job) uses() []string {
	var args []string
	for _, s := range j.Secrets {
		args = append(args, "--secret="+s)
	}
	for _, s := range j.SSH {
		args = append(args, "--ssh="+s)
	}
	for _, e := range j.Entitlements {
		args = append(args, "--allow="+e)
	}
	return args
}

// Gobuild are gobuild's arguments for what only some jobs have.
func (j Job) Gobuild() ([]string, error) {
	args := j.uses()
	for _, c := range j.Contexts {
		args = append(args, "--build-context="+c)
	}
	flags := map[string]string{
		"hostname": "hostname", "add-hosts": "add-host", "force-network-mode": "network", "shm-size": "shm-size", "ulimit": "ulimit",
	}
	for _, o := range j.Options {
		key, value, _ := strings.Cut(o, "=")
		if flags[key] == "" {
			return nil, fmt.Errorf("gobuild has no flag for BuildKit's option %q", key)
		}
		args = append(args, "--"+flags[key]+"="+value)
	}
	return args, nil
}

// buildctl are buildctl's arguments for what only some jobs have.
func (j Job) buildctl() ([]string, error) {
	args := j.uses()
	for _, o := range j.Options {
		args = append(args, "--opt="+o)
	}
	if j.ImportCache != "" {
		args = append(args, "--import-cache=type=registry,registry.insecure=true,ref="+j.ImportCache)
	}
	if j.ExportCache != "" {
		args = append(args, "--export-cache=type=registry,registry.insecure=true,mode=max,ref="+j.ExportCache)
	}
	for i, c := range j.Contexts {
		name, value, _ := strings.Cut(c, "=")
		local := fmt.Sprintf("named%d", i)
		layout, isLayout := strings.CutPrefix(value, "oci-layout://")
		switch {
		case isLayout:
			digest, err := layoutDigest(layout)
			if err != nil {
				return nil, err
			}
			args = append(args, "--oci-layout="+local+"="+layout)
			value = "oci-layout://" + local + "@" + digest
		case !strings.Contains(value, "://"):
			args = append(args, "--local="+local+"="+value)
			value = "local:" + local
		}
		args = append(args, "--opt=context:"+name+"="+value)
	}
	return args, nil
}
