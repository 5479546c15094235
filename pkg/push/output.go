package push

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
)

// OutputType is the kind of place that an output names.
type OutputType string

// The types of buildx that make sense without a daemon; "registry" is an image that is pushed.
const (
	// OutputLocal is the root filesystem in a directory: [RootDir].
	OutputLocal OutputType = "local"
	// OutputTar is the root filesystem in a tar file: [RootTar].
	OutputTar OutputType = "tar"
	// OutputOCI is an OCI image layout, in a tar file or, with tar=false, in a directory: [OCIArchive], [OCILayout].
	OutputOCI OutputType = "oci"
	// OutputDocker is a tar file for docker load: [DockerArchive].
	OutputDocker OutputType = "docker"
	// OutputImage is a registry: [Registry].
	OutputImage OutputType = "image"
)

// Output is one value of --output.
type Output struct {
	Type OutputType
	// Dest is a path, or "-" for standard output; empty for OutputImage.
	Dest string
	// Names are references, for the types that name images.
	Names []string
	// Push is whether an OutputImage goes to its registries. One that does not is only built.
	Push bool
	// Directory is whether OutputOCI is a directory instead of a tar file.
	Directory bool
	// RewriteTimestamp asks for an image whose new layers have no file that is younger than SOURCE_DATE_EPOCH. A build makes one
	// image for all of its outputs: when one asks, all get it.
	RewriteTimestamp bool
}

// outputKeys lists what each type understands.
var outputKeys = map[OutputType][]string{ //nolint:gochecknoglobals // a constant table
	OutputLocal:  {"dest"},
	OutputTar:    {"dest"},
	OutputOCI:    {"dest", "name", "rewrite-timestamp", "tar"},
	OutputDocker: {"dest", "name", "rewrite-timestamp", "tar"},
	OutputImage:  {"name", "push", "rewrite-timestamp"},
}

// notYet lists what buildx understands besides.
var notYet = []string{ //nolint:gochecknoglobals // a constant table
	"annotation", "attestation-inline", "attestation-prefix", "compression", "compression-level", "dangling-name-prefix",
	"force-compression", "mode", "name-canonical", "oci-artifact", "oci-mediatypes", "platform-split", "prefer-nondist-layers",
	"push-by-digest", "registry.insecure", "source-date-epoch", "src", "store", "unpack",
}

// ParseOutput reads a value of --output as buildx does: comma-separated key=value pairs in CSV, as in
// type=local,dest=out. A lone word is a directory for OutputLocal, and a lone "-" OutputTar on standard output.
// The error names a key or type that is not known, and what it may have meant.
func ParseOutput(s string) (Output, error) {
	o, err := parseOutput(s)
	if err != nil {
		return Output{}, fmt.Errorf("parse output %q: %w", s, err)
	}
	return o, nil
}

func parseOutput(s string) (Output, error) {
	r := csv.NewReader(strings.NewReader(s))
	fields, err := r.Read()
	if err != nil || len(fields) == 0 {
		return Output{}, errors.New("write key=value pairs with commas between them, such as type=local,dest=out")
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		if fields[0] == "-" {
			return Output{Type: OutputTar, Dest: "-"}, nil
		}
		return Output{Type: OutputLocal, Dest: fields[0]}, nil
	}
	values := map[string]string{}
	var keys []string
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return Output{}, fmt.Errorf("%q is not key=value", f)
		}
		if _, twice := values[key]; twice {
			return Output{}, fmt.Errorf("%q is there twice", key)
		}
		values[key] = value
		keys = append(keys, key)
	}
	return typed(values, keys)
}

// typed makes the output of the pairs, of which keys has the order.
func typed(values map[string]string, keys []string) (Output, error) {
	o := Output{Type: OutputType(values["type"])}
	if o.Type == "" {
		return Output{}, errors.New("the type is missing: type=local, tar, oci, docker, image or registry")
	}
	if o.Type == "registry" {
		o.Type, o.Push = OutputImage, true
	}
	known, ok := outputKeys[o.Type]
	if !ok {
		return Output{}, unknown("type", string(o.Type), []string{"local", "tar", "oci", "docker", "image", "registry"})
	}
	for _, key := range keys {
		if key == "type" {
			continue
		}
		if !slices.Contains(known, key) {
			return Output{}, refuse(o.Type, key, known)
		}
		if err := o.set(key, values[key]); err != nil {
			return Output{}, err
		}
	}
	return o, o.check()
}

func (o *Output) set(key, value string) (err error) {
	switch key {
	case "dest":
		o.Dest = value
	case "name":
		for n := range strings.SplitSeq(value, ",") {
			if n = strings.TrimSpace(n); n != "" {
				o.Names = append(o.Names, n)
			}
		}
	case "push":
		if o.Push, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("push=%q is neither true nor false", value)
		}
	case "rewrite-timestamp":
		if o.RewriteTimestamp, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("rewrite-timestamp=%q is neither true nor false", value)
		}
	case "tar":
		tar, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("tar=%q is neither true nor false", value)
		}
		o.Directory = !tar
	}
	return nil
}

// check finds what is missing.
func (o *Output) check() error {
	switch {
	case o.Type == OutputDocker && o.Directory:
		return errors.New("tar=false: docker load reads nothing but a tar file; use type=oci")
	case o.Type == OutputDocker && o.Dest == "":
		return errors.New("dest is missing: there is no daemon to load the image into; pipe dest=- to docker load")
	case o.Type != OutputImage && o.Dest == "":
		return errors.New("dest is missing")
	case o.Dest == "-" && (o.Type == OutputLocal || o.Directory):
		return errors.New("dest=- is no directory")
	case o.Type == OutputImage && o.Push && len(o.Names) == 0:
		return errors.New("name is missing: where is the image pushed to?")
	}
	return nil
}

func refuse(t OutputType, key string, known []string) error {
	if slices.Contains(notYet, key) || strings.HasPrefix(key, "annotation") {
		return fmt.Errorf("key %q is not supported for type=%s yet", key, t)
	}
	for other, keys := range outputKeys {
		if slices.Contains(keys, key) && other != t {
			return fmt.Errorf("type=%s has no key %q; it has %s", t, key, strings.Join(known, ", "))
		}
	}
	return unknown("key", key, known)
}

// unknown suggests the word that is meant, if one is near.
func unknown(what, word string, known []string) error {
	best, distance := "", 3
	for _, k := range known {
		if d := levenshtein.Distance(strings.ToLower(word), k, nil); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Errorf("unknown %s %q; did you mean %q?", what, word, best)
	}
	return fmt.Errorf("unknown %s %q; known are %s", what, word, strings.Join(known, ", "))
}
