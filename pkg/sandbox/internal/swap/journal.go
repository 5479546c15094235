package swap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const journalName = "journal"

// phase is how far an exchange has come: until staged, nothing but the root's own files is in the root; after returned,
// nothing of the stage is.
type phase string

const (
	staged   phase = "staged"
	returned phase = "returned"
)

// record is a line of the journal, written before what it announces is done. Names are JSON strings with bytes that
// are no UTF-8 replaced, and so only of directories and mounts of the container, not of what is in them.
type record struct {
	Spec  *Spec       `json:",omitempty"`
	Dir   *dirRecord  `json:",omitempty"`
	Stays string      `json:",omitempty"`
	File  *fileRecord `json:",omitempty"`
	Phase phase       `json:",omitempty"`
}

// dirRecord is a directory that is merged, as it was.
type dirRecord struct {
	Name       string
	Stays      bool
	Attributes attributes
}

type journal struct {
	f     *os.File
	path  string
	spec  *Spec
	dirs  map[string]dirRecord
	stays []string
	files []fileRecord
	phase phase
}

func newJournal(state string) *journal {
	return &journal{path: filepath.Join(state, journalName), dirs: make(map[string]dirRecord)}
}

// begin makes a journal. There must be none.
func begin(s Spec) (*journal, error) {
	j := newJournal(s.State)
	var err error
	if j.f, err = os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	return j, j.add(record{Spec: &s})
}

// resume reads a journal, to go on with it; it returns nil when there is none, or none that was begun.
func resume(state string) (*journal, error) {
	j := newJournal(state)
	data, err := os.ReadFile(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1 // what was not written to its end was not begun
	for line := range bytes.Lines(data[:whole]) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read %q: %w", j.path, err)
		}
		j.apply(r)
	}
	if j.spec == nil {
		return nil, os.Remove(j.path)
	}
	if err := os.Truncate(j.path, int64(whole)); err != nil {
		return nil, err
	}
	j.f, err = os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	return j, err
}

func (j *journal) add(r record) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = j.f.Write(append(line, '\n'))
	}
	j.apply(r)
	return err
}

func (j *journal) apply(r record) {
	switch {
	case r.Spec != nil:
		j.spec = r.Spec
	case r.Dir != nil:
		j.dirs[r.Dir.Name] = *r.Dir
	case r.Stays != "":
		j.stays = append(j.stays, r.Stays)
	case r.File != nil:
		j.files = append(j.files, *r.File)
	case r.Phase != "":
		j.phase = r.Phase
	}
}

func (j *journal) close() { _ = j.f.Close() } // nothing is buffered
