//go:build !amd64 && !arm64

package feign

const (
	arch     = 0
	otherABI = 1 << 31
)

func supervised() []call { return nil }
