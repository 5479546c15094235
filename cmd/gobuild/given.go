package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/gobuild-dev/gobuild/pkg/build"
)

// givenFlags say what steps get besides files: further contexts, secrets, ssh agents, entitlements.
type givenFlags struct {
	contexts, secrets, agents, allow []string
	hostname, shmSize                string
	hosts                            []string
}

func (g *givenFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&g.contexts, "build-context", nil, "`name=value` of a further context: a directory, a URL, docker-image://REF, oci-layout://PATH or target:STAGE (repeatable)")
	f.StringArrayVar(&g.secrets, "secret", nil, "`id=ID[,src=FILE|,env=VARIABLE]` of a secret for RUN --mount=type=secret (repeatable)")
	f.StringArrayVar(&g.agents, "ssh", nil, "`ID[=SOCKET|=KEY[,KEY...]]` of an agent for RUN --mount=type=ssh; default is that of SSH_AUTH_SOCK (repeatable)")
	f.StringArrayVar(&g.allow, "allow", nil, "`entitlement` that RUN may ask for: security.insecure, network.host, device or device=NAME (repeatable)")
	f.StringVar(&g.hostname, "hostname", "", "name of the machine that RUN sees (default buildkitsandbox)")
	f.StringArrayVar(&g.hosts, "add-host", nil, "`name:address` that RUN finds in /etc/hosts (repeatable)")
	f.StringVar(&g.shmSize, "shm-size", "", "`size` of the /dev/shm that RUN sees, such as 1g (default 64m)")
}

// apply puts what the flags say into o.
func (g *givenFlags) apply(o *build.Options) error {
	o.Hostname = g.hostname
	var err error
	if o.Hosts, err = parseHosts(g.hosts); err != nil {
		return err
	}
	if g.shmSize != "" {
		if o.ShmSize, err = units.RAMInBytes(g.shmSize); err != nil || o.ShmSize <= 0 {
			return usagef("--shm-size %q is not a size such as 1g", g.shmSize)
		}
	}
	if o.Contexts, err = pairs("build-context", g.contexts); err != nil {
		return err
	}
	for name, value := range o.Contexts {
		if value == "" {
			return usagef("--build-context %s has no value: write %s=DIRECTORY or a URL", name, name)
		}
	}
	o.Secrets = map[string]build.Secret{}
	for _, word := range g.secrets {
		id, file, secret, err := parseSecret(word)
		if err != nil {
			return err
		}
		o.Secrets[id] = secret
		if file != "" {
			o.PrivateFiles = append(o.PrivateFiles, file)
		}
	}
	o.SSH = map[string][]string{}
	for _, word := range g.agents {
		id, paths, err := parseAgent(word)
		if err != nil {
			return err
		}
		if _, twice := o.SSH[id]; twice {
			return usagef("--ssh %s is given twice", id)
		}
		o.SSH[id] = paths
	}
	for _, word := range g.allow {
		switch name, _, _ := strings.Cut(word, "="); {
		case word == "security.insecure", word == "network.host", name == "device":
			o.Allow = append(o.Allow, word)
		default:
			return usagef("--allow %q is none of security.insecure, network.host, device, device=NAME", word)
		}
	}
	return nil
}

// parseHosts turns name:address and name=address into lines of /etc/hosts.
func parseHosts(words []string) (lines []string, err error) {
	for _, word := range words {
		i := strings.IndexAny(word, ":=")
		if i <= 0 {
			return nil, usagef("--add-host %q is not of the form name:address", word)
		}
		name, address := word[:i], strings.Trim(word[i+1:], "[]")
		if net.ParseIP(address) == nil {
			return nil, usagef("--add-host %q: %q is not an address", word, address)
		}
		lines = append(lines, address+" "+name)
	}
	return lines, nil
}

// parseSecret reads the value of --secret, as docker build has it. One without a source is the variable of its name if
// there is one, or else the file, whose path is returned then.
func parseSecret(word string) (id, from string, secret build.Secret, err error) {
	fields, err := csvvalue.Fields(word, nil)
	if err != nil {
		return "", "", nil, usagef("--secret %q: %v", word, err)
	}
	var kind, file, variable string
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return "", "", nil, usagef("--secret %q: %q is not of the form key=value", word, field)
		}
		switch strings.ToLower(key) {
		case "id":
			id = value
		case "type":
			kind = value
		case "src", "source":
			file = value
		case "env":
			variable = value
		default:
			return "", "", nil, usagef("--secret %q: unexpected key %q: want id, type, src or env", word, key)
		}
	}
	switch {
	case id == "":
		return "", "", nil, usagef("--secret %q has no id", word)
	case kind != "" && kind != "file" && kind != "env":
		return "", "", nil, usagef("--secret %q: type %q is neither file nor env", word, kind)
	case file != "" && variable != "":
		return "", "", nil, usagef("--secret %q has both a file and a variable", word)
	case kind == "env" && variable == "":
		variable, file = file, ""
	}
	if file == "" && variable == "" {
		if _, ok := os.LookupEnv(id); ok && kind != "file" || kind == "env" {
			variable = id
		} else {
			file = id
		}
	}
	if variable == "" {
		path, err := filepath.Abs(file)
		return id, path, build.SecretFile(file), err
	}
	value, ok := os.LookupEnv(variable)
	if !ok {
		return "", "", nil, usagef("--secret %q: the variable %s is not set", word, variable)
	}
	return id, "", build.SecretValue([]byte(value)), nil
}

// parseAgent reads the value of --ssh.
func parseAgent(word string) (id string, paths []string, err error) {
	id, list, given := strings.Cut(word, "=")
	if id == "" {
		return "", nil, usagef("--ssh %q has no id: write default or ID=PATH", word)
	}
	if given && list != "" {
		return id, strings.Split(list, ","), nil
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return "", nil, usagef("--ssh %s: SSH_AUTH_SOCK is not set: start an agent, or name a socket or a key with --ssh %s=PATH", id, id)
	}
	return id, []string{socket}, nil
}
