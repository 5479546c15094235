package rootfs

// OldKernel makes a directory tree do as on a kernel that has neither openat2 nor listxattrat.
func OldKernel(t Tree) Tree {
	t.(*diskTree).plain.Store(true)
	t.(*diskTree).noListxattrat.Store(true)
	return t
}

// WithoutProc makes a directory tree do as where /proc is not mounted, and the kernel has no listxattrat.
func WithoutProc(t Tree) Tree {
	t.(*diskTree).proc = false
	t.(*diskTree).noListxattrat.Store(true)
	return t
}
