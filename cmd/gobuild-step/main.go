// Gobuild-step is what gobuild executes for each RUN and for other work in namespaces of its own: the part of gobuild that
// this takes, in a program that starts in half of the time. It is not started by people; gobuild carries it (see scripts/build).
package main

import (
	"fmt"
	"os"

	"github.com/gobuild-dev/gobuild/pkg/sandbox"
)

func main() {
	sandbox.Init()
	fmt.Fprintln(os.Stderr, "gobuild-step is a part of gobuild, which starts it")
	os.Exit(2)
}
