// Gobuild builds a container image from a Dockerfile and pushes it to a registry, in one process, without a
// daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

// Exit codes besides 0.
const (
	exitFailed      = 1   // the build, or whatever was asked for, failed; or a check has found something
	exitUsage       = 2   // the command line makes no sense
	exitInterrupted = 130 // as shells report SIGINT
)

func main() {
	sandbox.Init()
	limitMemory()
	os.Exit(run(os.Args[0], os.Args[1:]))
}

// run executes the command line of the program by this name and returns the exit code.
func run(name string, args []string) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	log := logrus.New()
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
	cmd := invoked(log, name)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFailed
	}
	printError(os.Stderr, err)
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	return exitFailed
}

// errInterrupted is the cause of a build's end when a signal ends it.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that ends with the first SIGINT, SIGTERM or SIGHUP, so that the build can
// kill its steps and remove its temporary files. The second signal ends the process as it would have without us.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case sig := <-signals:
			signal.Stop(signals)
			cancel(fmt.Errorf("%w by signal %q", errInterrupted, sig))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
