package casefile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// archive writes a tar of what is in dir to file. Links of one file are hard links. With root the archive is as
// "tar -C dir ." makes it: it has an entry for dir itself, and names begin with "./".
func archive(compression, file, dir string, root bool) error {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	names := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir && !root {
			return err
		}
		h, err := tarHeader(dir, path, e, names)
		if err != nil {
			return err
		}
		if root && path != dir {
			h.Name = "./" + h.Name
		}
		if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = tw.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	data, err := compress(compression, buf.Bytes())
	if err != nil {
		return err
	}
	return write(file, string(data))
}

// tarHeader describes one file. names holds the first name of each inode with several.
func tarHeader(dir, path string, e fs.DirEntry, names map[uint64]string) (*tar.Header, error) {
	fi, err := e.Info()
	if err != nil {
		return nil, err
	}
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return nil, err
	}
	h.Name = rel
	if fi.IsDir() {
		h.Name += "/"
	}
	h.Format, h.Uname, h.Gname = tar.FormatPAX, "", ""
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, err
	}
	if st.Nlink > 1 && fi.Mode().IsRegular() {
		if first := names[st.Ino]; first != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			names[st.Ino] = h.Name
		}
	}
	return h, nil
}

func compress(kind string, data []byte) ([]byte, error) {
	var out bytes.Buffer
	switch kind {
	case "none":
		return data, nil
	case "gzip":
		w := gzip.NewWriter(&out)
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
		err := w.Close()
		return out.Bytes(), err
	case "xz":
		w, err := xz.NewWriter(&out)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
		err = w.Close()
		return out.Bytes(), err
	case "zstd":
		w, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, err
		}
		return w.EncodeAll(data, nil), w.Close()
	case "bzip2":
		// Go reads bzip2 but does not write it.
		cmd := exec.Command("bzip2", "-c")
		cmd.Stdin, cmd.Stdout = bytes.NewReader(data), &out
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("run bzip2: %w", err)
		}
		return out.Bytes(), nil
	}
	return nil, fmt.Errorf("unknown compression %q", strings.TrimSpace(kind))
}

// gzipFile compresses a file as so many members of about the same size.
func gzipFile(path, members string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(members)
	if err != nil {
		return err
	}
	var packed []byte
	for i := range n {
		member, err := compress("gzip", data[i*len(data)/n:(i+1)*len(data)/n])
		if err != nil {
			return err
		}
		packed = append(packed, member...)
	}
	return os.WriteFile(path, packed, 0o644)
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
