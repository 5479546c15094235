package feign

import (
	"math"
	"runtime"
	"runtime/debug"
)

// Undisturbed calls f, which starts a supervised program.
//
// From the fork to the execution of the program the thread that starts it stands still. It keeps the processor that Go's scheduler has
// lent it, and cannot be asked to stop. The execution is a call that is supervised. So there has to be another processor for
// the supervisor; and nothing may stop the world meanwhile, which would wait for that thread, which waits for the supervisor, which
// waits for the world. What would stop it are collections of garbage, of which f makes little, and new numbers of processors.
func Undisturbed(f func()) {
	// A number that was set is no longer adapted to the limits of a container.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	limit := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(limit)
	percent := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(percent)
	// This waits for a collection that has begun before, too.
	runtime.GC()
	f()
}
