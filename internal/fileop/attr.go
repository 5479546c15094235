package fileop

import (
	"archive/tar"
	"maps"
	"time"
)

// attr is what a file is, but for its contents. There are hundreds of thousands of them, so that it is small.
type attr struct {
	size     int64
	seconds  int64 // of the time of the last modification, since 1970
	special  *special
	nanos    int32
	uid, gid uint32
	mode     uint16 // as in a tar header, without the type
	typ      byte   // as in a tar header
}

// special is what few files have. It may be shared and is not modified.
type special struct {
	link         string
	major, minor int64
	// xattrs are "SCHILY.xattr." records.
	xattrs map[string]string
	// inode is as in rootfs.Entry.
	inode uint64
}

func attrOf(h *tar.Header) attr {
	a := attr{typ: h.Typeflag, mode: uint16(h.Mode & modeAll), uid: uint32(h.Uid), gid: uint32(h.Gid)}
	a.setTime(h.ModTime)
	if a.typ == tar.TypeReg {
		a.size = h.Size
	}
	s := special{link: h.Linkname, major: h.Devmajor, minor: h.Devminor}
	for k, v := range h.PAXRecords {
		if !keptXattr(k) {
			continue
		}
		if s.xattrs == nil {
			s.xattrs = map[string]string{}
		}
		s.xattrs[k] = v
	}
	if s.link != "" || s.major != 0 || s.minor != 0 || s.xattrs != nil {
		a.special = &s
	}
	return a
}

func (a *attr) isDir() bool { return a.typ == tar.TypeDir }

// time is that of the last modification.
func (a *attr) time() time.Time { return time.Unix(a.seconds, int64(a.nanos)) }

func (a *attr) setTime(t time.Time) { a.seconds, a.nanos = t.Unix(), int32(t.Nanosecond()) }

func (a *attr) setOwner(o *owner) { a.uid, a.gid = uint32(o.uid), uint32(o.gid) }

// rare is what is special about the file, if anything is.
func (a *attr) rare() special {
	if a.special == nil {
		return special{}
	}
	return *a.special
}

func (a *attr) equal(b *attr) bool {
	x, y := *a, *b
	x.special, y.special = nil, nil
	if x != y {
		return false
	}
	r, s := a.rare(), b.rare()
	return r.link == s.link && r.major == s.major && r.minor == s.minor && maps.Equal(r.xattrs, s.xattrs)
}

// addXattrs sets more extended attributes over those of a.
func (a *attr) addXattrs(more map[string]string) {
	if len(more) == 0 {
		return
	}
	s := a.rare()
	all := make(map[string]string, len(s.xattrs)+len(more))
	maps.Copy(all, s.xattrs)
	maps.Copy(all, more)
	s.xattrs = all
	a.special = &s
}
