package rootfs

import "errors"

// Resolve follows every symbolic link in name, the last component included, as a process
// chrooted into t would: absolute targets start at the root of t and ".." never leads above it. name may be
// absolute or relative; both start at the root.
//
// Components that do not exist are kept as they are, so the result may name a file that is yet to
// be made. The result is clean and relative, and "." for the root. More than 255 links end in an
// error that wraps syscall.ELOOP.
func Resolve(t Tree, name string) (string, error) {
	return "", errors.ErrUnsupported
}

// ResolveParent is [Resolve] for all components but the last, which is kept even when it is a link.
func ResolveParent(t Tree, name string) (string, error) {
	return "", errors.ErrUnsupported
}

// Walk calls visit for name and everything below it: parents before their children, siblings in
// bytewise order of their names. It follows no link. An error from visit ends the walk, but
// fs.SkipDir, which leaves out what is below that directory.
func Walk(t Tree, name string, visit func(name string, e *Entry) error) error {
	return errors.ErrUnsupported
}

// Dir returns the tree of a directory on disk. Owners, modes, extended attributes, device
// numbers and hard links are those on disk; digests are not known. Sockets are left out.
func Dir(path string) (Tree, error) {
	return nil, errors.ErrUnsupported
}
