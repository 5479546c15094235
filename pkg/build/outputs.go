package build

import (
	"errors"
	"fmt"

	"github.com/gobuild-dev/gobuild/pkg/cache/local"
	"github.com/gobuild-dev/gobuild/pkg/push"
	"github.com/gobuild-dev/gobuild/pkg/registry"
	"github.com/gobuild-dev/gobuild/pkg/rootfs"
)

// toStdout is the path that stands for Options.Stdout.
const toStdout = "-"

// exporters returns everything that the image is to be given to: one exporter for all registries, so that blobs
// are shared between them, then Outputs, then Exporters.
func (o Options) exporters(client *registry.Client, store *local.Store) ([]push.Exporter, error) {
	refs := append([]string(nil), o.Destinations...)
	var list []push.Exporter
	for _, out := range o.Outputs {
		if out.Type == push.OutputImage {
			if out.Push {
				refs = append(refs, out.Names...)
			}
			continue
		}
		e, err := o.exporter(out, rootfs.Options{Indexes: store, TempDir: store.TempDir()})
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	if len(refs) > 0 {
		dest, err := push.Registry(client, refs)
		if err != nil {
			return nil, err
		}
		list = append([]push.Exporter{dest}, list...)
	}
	return append(list, o.Exporters...), nil
}

func (o Options) exporter(out push.Output, files rootfs.Options) (push.Exporter, error) {
	if out.Dest == toStdout {
		return o.streamed(out, files)
	}
	switch out.Type {
	case push.OutputLocal:
		return push.RootDir(out.Dest, files), nil
	case push.OutputTar:
		return push.RootTar(out.Dest, files), nil
	case push.OutputDocker:
		return push.DockerArchive(out.Dest, out.Names)
	case push.OutputOCI:
		if !out.Directory {
			return push.OCIArchive(out.Dest, out.Names)
		}
		tag := ""
		if len(out.Names) > 0 {
			tag = out.Names[0]
		}
		return push.OCILayout(out.Dest, tag), nil
	default:
		return nil, fmt.Errorf("unknown type of output %q", out.Type)
	}
}

// streamed is the exporter of an output that goes to standard output.
func (o Options) streamed(out push.Output, files rootfs.Options) (push.Exporter, error) {
	if o.Stdout == nil {
		return nil, errors.New("an output goes to standard output, but there is none")
	}
	switch out.Type {
	case push.OutputTar:
		return push.RootTarTo(o.Stdout, files), nil
	case push.OutputDocker:
		return push.DockerArchiveTo(o.Stdout, out.Names)
	case push.OutputOCI:
		return push.OCIArchiveTo(o.Stdout, out.Names)
	default:
		return nil, fmt.Errorf("output of type %s cannot go to standard output", out.Type)
	}
}
