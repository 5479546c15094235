package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"

	"github.com/spf13/pflag"
)

// profileFlags ask for what go tool pprof and go tool trace read. Work that a step's own processes do, such as the
// extraction of layers in a user namespace, is in none of them.
type profileFlags struct{ cpu, heap, trace string }

func (p *profileFlags) register(f *pflag.FlagSet) {
	f.StringVar(&p.cpu, "cpuprofile", "", "`file` to write where processor time is spent to, for go tool pprof")
	f.StringVar(&p.heap, "memprofile", "", "`file` to write what holds memory at the end to, for go tool pprof")
	f.StringVar(&p.trace, "trace", "", "`file` to write an execution trace to, for go tool trace")
}

// start begins to record. The returned function ends it and writes what is asked for at the end.
func (p *profileFlags) start() (stop func() error, err error) {
	var ends []func() error
	stop = func() error {
		var errs []error
		for _, end := range ends {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	}
	begin := func(file string, start func(*os.File) error, end func(*os.File) error) {
		if file == "" || err != nil {
			return
		}
		var f *os.File
		if f, err = os.Create(file); err != nil {
			err = fmt.Errorf("write profile: %w", err)
			return
		}
		if err = start(f); err != nil {
			err = errors.Join(fmt.Errorf("write profile %s: %w", file, err), f.Close())
			return
		}
		ends = append(ends, func() error { return errors.Join(end(f), f.Close()) })
	}
	begin(p.cpu, func(f *os.File) error { return pprof.StartCPUProfile(f) },
		func(*os.File) error { pprof.StopCPUProfile(); return nil })
	begin(p.trace, func(f *os.File) error { return trace.Start(f) },
		func(*os.File) error { trace.Stop(); return nil })
	begin(p.heap, func(*os.File) error { return nil }, func(f *os.File) error {
		runtime.GC() // so that what is live now is in the profile
		return pprof.Lookup("heap").WriteTo(f, 0)
	})
	return stop, err
}
