package casefile

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// epoch is the time that directories of a case bear. It is no whole second, so that a builder that rounds shows.
func epoch() time.Time { return time.Date(2020, 2, 3, 4, 5, 6, 789012345, time.UTC) }

// timeOf is the time that a file bears: another one for other contents. BuildKit asks for no more than path, size and
// time to take a file for one that it has seen, in whatever build; and all builders take a copy for done that
// had the same contents, whatever their time. So what differs between cases must differ in time, and what
// does not must not.
func timeOf(path string, e fs.DirEntry) (time.Time, error) {
	h := fnv.New32a()
	switch {
	case e.Type().IsRegular():
		f, err := os.Open(path)
		if err != nil {
			return time.Time{}, err
		}
		defer f.Close()
		if _, err := io.Copy(h, f); err != nil {
			return time.Time{}, err
		}
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return time.Time{}, err
		}
		io.WriteString(h, target) //nolint:errcheck // never fails
	default:
		return epoch(), nil
	}
	return epoch().Add(time.Duration(h.Sum32()/64) * time.Second), nil
}

// Dirs are where a case is laid out.
type Dirs struct {
	Context, Aside string
}

// Path returns where a path of a directive lies on disk.
func (d Dirs) Path(name string) string {
	if rest, ok := strings.CutPrefix(name, "aside/"); ok {
		return filepath.Join(d.Aside, rest)
	}
	return filepath.Join(d.Context, name)
}

// Mentions says whether a file of the case holds text.
func (c *Case) Mentions(text string) bool {
	return slices.ContainsFunc(c.archive.Files, func(f txtar.File) bool { return bytes.Contains(f.Data, []byte(text)) })
}

// Runs says whether a Dockerfile of the case may hold a RUN.
func (c *Case) Runs() bool {
	for _, f := range c.archive.Files {
		if bytes.Contains(bytes.ToUpper(f.Data), []byte("RUN ")) {
			return true
		}
	}
	return false
}

// Lay writes the files of the case below dir, which exists and is empty. refs are the references of images by name.
func (c *Case) Lay(dir string, refs map[string]string) (Dirs, error) {
	d := Dirs{Context: filepath.Join(dir, "context"), Aside: filepath.Join(dir, "aside")}
	for _, sub := range []string{d.Context, d.Aside} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			return Dirs{}, err
		}
	}
	var pairs []string
	for name, ref := range refs {
		pairs = append(pairs, "{{"+name+"}}", ref)
	}
	replacer := strings.NewReplacer(pairs...)
	c.replace(replacer)
	for _, f := range c.archive.Files {
		if err := write(d.Path(f.Name), replacer.Replace(string(f.Data))); err != nil {
			return Dirs{}, err
		}
	}
	// Times come in two turns: before archives are made, and again after directives have touched directories.
	if err := settle(dir, nil); err != nil {
		return Dirs{}, err
	}
	times := map[string]time.Time{}
	for _, o := range c.ops {
		for i, w := range o.words {
			o.words[i] = replacer.Replace(w)
		}
		if err := o.do(d, times); err != nil {
			return Dirs{}, fmt.Errorf("%s.txtar:%d: %w", c.Name, o.line, err)
		}
		if o.words[0] != "tar" {
			if err := settle(dir, times); err != nil {
				return Dirs{}, err
			}
		}
	}
	return d, settle(dir, times)
}

// replace puts references into directives that change no file.
func (c *Case) replace(r *strings.Replacer) {
	for _, list := range [][]Named{c.Contexts, c.Options} {
		for i := range list {
			list[i].Value = r.Replace(list[i].Value)
		}
	}
	for i, arg := range c.BuildArgs {
		c.BuildArgs[i] = r.Replace(arg)
	}
	for i := range c.Files {
		c.Files[i].Redirect = r.Replace(c.Files[i].Redirect)
	}
}

func write(path, data string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(data), 0o644)
}

// settle gives everything below dir its time: that of times, or else that of its contents.
func settle(dir string, times map[string]time.Time) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		t, ok := times[path]
		if !ok {
			if t, err = timeOf(path, e); err != nil {
				return err
			}
		}
		ts := []unix.Timespec{unix.NsecToTimespec(t.UnixNano()), unix.NsecToTimespec(t.UnixNano())}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// arity is how many words follow the name of each directive that changes files.
var arity = map[string]int{
	"mkdir": 2, "chmod": 2, "chown": 2, "mtime": 2, "setxattr": 3, "write": 2, "fill": 2, "remove": 1,
	"symlink": 2, "link": 2, "mkfifo": 2, "mknod": 5, "mksock": 1, "tar": 3, "gzip": 1, "members": 2, "append": 2,
}

func (o op) do(d Dirs, times map[string]time.Time) error {
	args := o.words[1:]
	last := d.Path(args[len(args)-1])
	switch o.words[0] {
	case "mkdir":
		if err := os.MkdirAll(last, 0o755); err != nil {
			return err
		}
		return chmod(last, args[0])
	case "chmod":
		return chmod(last, args[0])
	case "chown":
		return chown(last, args[0])
	case "mtime":
		t, err := time.Parse(time.RFC3339Nano, args[0])
		times[last] = t
		return err
	case "setxattr":
		return unix.Lsetxattr(last, args[0], []byte(args[1]), 0)
	case "write":
		return write(d.Path(args[0]), args[1])
	case "fill":
		return fill(last, args[0])
	case "remove":
		return os.RemoveAll(last)
	case "symlink":
		if err := os.MkdirAll(filepath.Dir(last), 0o755); err != nil {
			return err
		}
		return os.Symlink(args[0], last)
	case "link":
		return os.Link(d.Path(args[0]), last)
	case "mkfifo", "mknod", "mksock":
		return special(o.words[0], last, args)
	case "tar":
		return archive(args[0], d.Path(args[1]), last, strings.HasSuffix(args[2], "/."))
	case "gzip":
		return gzipFile(last, "1")
	case "members":
		return gzipFile(last, args[0])
	case "append":
		return appendTo(last, args[0])
	}
	return fmt.Errorf("unknown directive %q", o.words[0])
}

// chmod sets mode bits as chmod(2) does, without Go's own idea of where setuid stands.
func chmod(path, octal string) error {
	mode, err := strconv.ParseUint(octal, 8, 12)
	if err != nil {
		return err
	}
	return unix.Chmod(path, uint32(mode))
}

func chown(path, owner string) error {
	u, g, _ := strings.Cut(owner, ":")
	uid, err := strconv.Atoi(u)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g)
	if err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}

// fill writes size bytes that do not compress to nothing and are the same each time.
func fill(path, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	data := make([]byte, n)
	for i, x := 0, uint32(1); i < n; i++ {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	return write(path, string(data))
}

func special(kind, path string, args []string) error {
	if kind == "mksock" {
		l, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		return l.Close()
	}
	mode, err := strconv.ParseUint(args[0], 8, 12)
	if err != nil {
		return err
	}
	if kind == "mkfifo" {
		err = unix.Mkfifo(path, uint32(mode))
	} else {
		bits := uint32(unix.S_IFCHR)
		if args[1] == "b" {
			bits = unix.S_IFBLK
		}
		var major, minor uint64
		if major, err = strconv.ParseUint(args[2], 10, 32); err != nil {
			return err
		}
		if minor, err = strconv.ParseUint(args[3], 10, 32); err != nil {
			return err
		}
		err = unix.Mknod(path, bits|uint32(mode), int(unix.Mkdev(uint32(major), uint32(minor))))
	}
	if err != nil {
		return err
	}
	return unix.Chmod(path, uint32(mode))
}
