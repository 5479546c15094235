// Package cachedir keeps directories that outlive builds: each is prepared once, whoever comes first.
//
// A directory that is used as a cache has in it
//
//	data  the files
//	new   what will become data, or rubbish that a killed process left behind
//	lock  held by the process that is preparing data
//
// and, when somebody else knows a state of its files, a record of that: see Remember.
//
// It is data's being there that says that the cache is prepared.
package cachedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/pkg/sandbox/internal/mark"
)

const (
	dataName = "data"
	newName  = "new"
)

// Beginning is what a cache begins as.
type Beginning struct {
	// Seed is a file or directory that is copied with all its attributes; when it is "" the cache is an empty directory
	// with this owner and mode.
	Seed     string
	UID, GID int
	Mode     int64
	// OneOwner says that files can have but one owner.
	OneOwner bool
}

// Prepared reports whether there is a cache in dir.
func Prepared(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, dataName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Prepare makes the cache in dir, unless it is there, and returns the path of its files.
func Prepare(dir string, b Beginning) (string, error) {
	data := filepath.Join(dir, dataName)
	if ok, err := Prepared(dir); ok || err != nil {
		return data, err
	}
	held, err := Hold(dir)
	if err != nil {
		return "", err
	}
	defer held.Close()
	if ok, err := Prepared(dir); ok || err != nil {
		return data, err // somebody else was first
	}
	if err := begin(dir, b); err != nil {
		return "", fmt.Errorf("prepare cache: %w", err)
	}
	return data, nil
}

func begin(dir string, b Beginning) error {
	next := filepath.Join(dir, newName)
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	var err error
	if b.Seed != "" {
		err = Copy(b.Seed, dir, newName, b.OneOwner)
	} else {
		err = makeEmpty(next, b)
	}
	if err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, dataName))
}

func makeEmpty(dir string, b Beginning) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if !b.OneOwner {
		err := os.Lchown(dir, b.UID, b.GID)
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("owner %d:%d is not mapped here: give this user more subordinate ids in /etc/subuid and /etc/subgid: %w", b.UID, b.GID, err)
		}
		if err != nil {
			return err
		}
	} else if err := mark.Write(dir, mark.Owner{UID: b.UID, GID: b.GID}); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return unix.Chmod(dir, uint32(b.Mode)&0o7777)
}

// Rubbish is what a killed process may have left behind in dir.
func Rubbish(dir string) string { return filepath.Join(dir, newName) }

// Forget makes the cache in dir rubbish, of which there must be none.
func Forget(dir string) error {
	err := os.Rename(filepath.Join(dir, dataName), filepath.Join(dir, newName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
