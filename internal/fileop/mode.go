package fileop

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	mode "github.com/tonistiigi/dchapes-mode"
)

// The bits of a tar header's mode above the permissions, as in chmod(2).
const (
	modeSetuid = 0o4000
	modeSetgid = 0o2000
	modeSticky = 0o1000
	modeAll    = 0o7777
	modePerm   = 0o777
)

// defaultDirMode is that of directories which are made because something lands in them.
const defaultDirMode = 0o755

// chmod is a parsed --chmod. The zero value keeps modes.
type chmod struct {
	octal    *uint16
	symbolic *mode.Set
}

func parseChmod(s string) (chmod, error) {
	if s == "" {
		return chmod{}, nil
	}
	bad := fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777", s)
	if n, err := strconv.ParseInt(s, 8, 64); err == nil {
		if n < 0 || n > modeAll {
			return chmod{}, bad
		}
		bits := uint16(n)
		return chmod{octal: &bits}, nil
	}
	set, err := mode.ParseWithUmask(s, 0)
	if err != nil {
		if ne := (*strconv.NumError)(nil); errors.As(err, &ne) {
			return chmod{}, bad
		}
		return chmod{}, fmt.Errorf("invalid chmod parameter: '%v': %w", s, err)
	}
	return chmod{symbolic: &set}, nil
}

// dirMode is the mode of parents that have to be made. A symbolic mode says nothing about them.
func (c chmod) dirMode() uint16 {
	if c.octal != nil {
		return *c.octal & modePerm
	}
	return defaultDirMode
}

// apply returns the mode bits of a file that had bits and may be a directory, which "X" looks at.
func (c chmod) apply(bits uint16, dir bool) uint16 {
	switch {
	case c.octal != nil:
		return *c.octal
	case c.symbolic != nil:
		return headerMode(c.symbolic.Apply(fileMode(bits, dir)))
	}
	return bits & modeAll
}

func fileMode(bits uint16, dir bool) fs.FileMode {
	m := fs.FileMode(bits & modePerm)
	if bits&modeSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if bits&modeSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if bits&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	if dir {
		m |= fs.ModeDir
	}
	return m
}

func headerMode(m fs.FileMode) uint16 {
	bits := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		bits |= modeSetuid
	}
	if m&fs.ModeSetgid != 0 {
		bits |= modeSetgid
	}
	if m&fs.ModeSticky != 0 {
		bits |= modeSticky
	}
	return bits
}
