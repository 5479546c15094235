package rootfs

// WithoutOpenat2 makes a directory tree do as on a kernel that has no openat2.
func WithoutOpenat2(t Tree) Tree {
	t.(*diskTree).plain.Store(true)
	return t
}

// WithoutProc makes a directory tree do as where /proc is not mounted.
func WithoutProc(t Tree) Tree {
	t.(*diskTree).proc = false
	return t
}
