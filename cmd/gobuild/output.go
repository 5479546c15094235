package main

import (
	"errors"
	"os"

	"github.com/spf13/pflag"

	"github.com/gobuild-dev/gobuild/pkg/build"
	"github.com/gobuild-dev/gobuild/pkg/push"
)

// outputFlags say where the image goes.
type outputFlags struct {
	destinations, outputs []string
	noPush                bool
	ociLayout, tar        string

	digestFile, nameWithDigestFile, nameTagWithDigestFile string
}

func (f *outputFlags) register(set *pflag.FlagSet) {
	set.StringArrayVarP(&f.destinations, "destination", "d", nil, "`reference` to push the image to (repeatable)")
	set.BoolVar(&f.noPush, "no-push", false, "do not push; destinations only name the image")
	set.StringVar(&f.ociLayout, "oci-layout-path", "", "write the image to an OCI layout in this `directory`")
	set.StringVar(&f.tar, "tar-path", "", "write the image to an archive at this `path`, for 'docker load'")
	set.StringArrayVarP(&f.outputs, "output", "o", nil, "`type=...` of output: local,dest=DIR or tar,dest=FILE (the root filesystem), oci, docker or registry (repeatable)")
	set.StringVar(&f.digestFile, "digest-file", "", "write the image's digest to this `path`")
	set.StringVar(&f.nameWithDigestFile, "image-name-with-digest-file", "", "write name@digest of each destination to this `path`")
	set.StringVar(&f.nameTagWithDigestFile, "image-name-tag-with-digest-file", "", "write name:tag@digest of each destination to this `path`")
}

// apply tells o where the image goes.
func (f *outputFlags) apply(o *build.Options) error {
	for _, word := range f.outputs {
		out, err := push.ParseOutput(word)
		if err != nil {
			return &usageError{err}
		}
		o.Outputs = append(o.Outputs, out)
	}
	if f.ociLayout != "" {
		o.Outputs = append(o.Outputs, push.Output{Type: push.OutputOCI, Dest: f.ociLayout, Directory: true})
	}
	if f.tar != "" {
		o.Outputs = append(o.Outputs, push.Output{Type: push.OutputDocker, Dest: f.tar, Names: f.destinations})
	}
	if len(f.destinations) == 0 && !f.noPush && len(o.Outputs) == 0 {
		return usagef("nothing to do with the image: give a --destination or an --output, or say --no-push")
	}
	if !f.noPush {
		o.Destinations = f.destinations
	}
	o.Stdout = os.Stdout
	return nil
}

// writeDigests writes the files that were asked for.
func (f *outputFlags) writeDigests(r *build.Result) error {
	var errs [3]error
	if f.digestFile != "" {
		errs[0] = push.WriteDigestFile(f.digestFile, r.Digest)
	}
	if f.nameWithDigestFile != "" {
		errs[1] = push.WriteImageNameWithDigestFile(f.nameWithDigestFile, f.destinations, r.Digest)
	}
	if f.nameTagWithDigestFile != "" {
		errs[2] = push.WriteImageNameTagWithDigestFile(f.nameTagWithDigestFile, f.destinations, r.Digest)
	}
	return errors.Join(errs[:]...)
}
