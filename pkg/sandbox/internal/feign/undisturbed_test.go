package feign

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestUndisturbed holds that nothing stops the world while a program is started, and that there is a processor for its supervisor.
func TestUndisturbed(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const small = 1 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(small))
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumGC
	}
	Undisturbed(func() {
		if runtime.GOMAXPROCS(0) < 2 {
			t.Error("there is one processor")
		}
		before := collections()
		var kept [][]byte
		for range 100 {
			kept = append(kept, make([]byte, small))
		}
		runtime.KeepAlive(kept)
		if n := collections() - before; n > 0 {
			t.Errorf("%d collections", n)
		}
	})
	if debug.SetGCPercent(1) != 1 || debug.SetMemoryLimit(-1) != small {
		t.Error("the collector is not what it was")
	}
}
