package plan

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	mode "github.com/tonistiigi/dchapes-mode"
)

func (k *call) add(c *instructions.AddCommand) error {
	if err := k.checkAdd(c); err != nil {
		return err
	}
	op := Copy{
		Chown:   c.Chown,
		Chmod:   c.Chmod,
		Unpack:  c.Unpack == nil || *c.Unpack,
		Link:    c.Link,
		Exclude: c.ExcludePatterns,
	}
	return k.copyFiles("ADD", op, c.SourcesAndDest, c.String())
}

// checkAdd refuses what is wrong, and then what cannot be done yet.
func (k *call) checkAdd(c *instructions.AddCommand) error {
	if c.Checksum != "" {
		if len(c.SourcePaths) != 1 {
			return errors.New("checksum can't be specified for multiple sources")
		}
		if kind, err := remoteKind(c.SourcePaths[0]); err != nil {
			return err
		} else if kind == "" {
			return errors.New("checksum requires HTTP(S) or Git sources")
		}
	}
	for _, src := range c.SourcePaths {
		kind, err := remoteKind(src)
		if err != nil {
			return err
		}
		if kind != "" {
			return fmt.Errorf("ADD from a %s is not supported yet", kind)
		}
	}
	if c.KeepGitDir != nil {
		return errors.New("ADD --keep-git-dir is not supported yet")
	}
	return nil
}

func (k *call) copy(c *instructions.CopyCommand) error {
	for _, src := range c.SourcePaths {
		kind, err := remoteKind(src)
		if err != nil {
			return err
		}
		if kind != "" {
			return fmt.Errorf("source can't be a %s for COPY", kind)
		}
	}
	op := Copy{
		Chown:   c.Chown,
		Chmod:   c.Chmod,
		Link:    c.Link,
		Parents: c.Parents,
		Exclude: c.ExcludePatterns,
	}
	return k.copyFiles("COPY", op, c.SourcesAndDest, c.String())
}

// remoteKind is "git ref" or "URL" for what ADD fetches, and empty for a path.
func remoteKind(src string) (string, error) {
	ref, isGit, err := dfgitutil.ParseGitRef(src)
	if err != nil && isGit {
		return "", err
	}
	switch {
	case err == nil && !ref.IndistinguishableFromLocal:
		return "git ref", nil
	case strings.HasPrefix(src, "http://"), strings.HasPrefix(src, "https://"):
		return "URL", nil
	}
	return "", nil
}

// copyFiles completes op with sources and destination.
func (k *call) copyFiles(verb string, op Copy, files instructions.SourcesAndDest, code string) error {
	if op.Chown != "" && op.Link && namesOwner(op.Chown) {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", op.Chown)
	}
	if err := checkMode(op.Chmod); err != nil {
		return err
	}
	// BuildKit, too, links only without a mode.
	op.Link = op.Link && op.Chmod == ""
	op.Dest = joinDest(k.s.dir, files.DestPath)

	if err := k.copyFrom(&op, files); err != nil {
		return err
	}
	k.op = op
	k.name = k.g.commandName(k.s, k.cmd, k.g.expand, code)
	return k.record(copyHistory(verb, op, files), true)
}

// copyFrom adds the sources to op.
func (k *call) copyFrom(op *Copy, files instructions.SourcesAndDest) error {
	var from *Step
	if src := k.cmd.from; src != nil {
		var err error
		if from, err = k.g.source(src); err != nil {
			return err
		}
		if from == nil {
			name := k.cmd.Command.(*instructions.CopyCommand).From
			return fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", name, k.s.label)
		}
		k.uses = []*Step{from}
	}
	for _, src := range files.SourcePaths {
		op.Sources = append(op.Sources, Source{Path: sourcePath(src, op.Parents), From: from})
	}
	for _, src := range files.SourceContents {
		name, err := heredocName(src.Path)
		if err != nil {
			return err
		}
		op.Sources = append(op.Sources, Source{Inline: &InlineFile{Name: name, Data: src.Data, Mode: 0o644}})
	}
	return nil
}

// namesOwner tells whether an owner has to be looked up.
func namesOwner(chown string) bool {
	user, group, _ := strings.Cut(chown, ":")
	return user != "" && !isID(user) || group != "" && !isID(group)
}

// isID tells whether BuildKit takes s for a number: root is one.
func isID(s string) bool {
	_, err := strconv.ParseInt(s, 10, 32)
	return err == nil || s == "root"
}

// checkMode checks the value of --chmod, in octal or as chmod(1) takes it.
func checkMode(s string) error {
	if s == "" {
		return nil
	}
	notOctal := fmt.Errorf("invalid chmod parameter: '%v'. it should be octal string and between 0 and 07777", s)
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return notOctal
		}
		return nil
	}
	if _, err := mode.Parse(s); err != nil {
		if _, ok := errors.AsType[*strconv.NumError](err); ok {
			return notOctal
		}
		return fmt.Errorf("parse chmod parameter %q: %w", s, err)
	}
	return nil
}

// joinDest is the absolute destination. What says that it is a directory stays.
func joinDest(dir, dest string) string {
	if dest == "" || dest == "." {
		dest = "./"
	}
	p := path.Clean(dest)
	if !path.IsAbs(p) {
		p = path.Join("/", dir, p)
	}
	switch {
	case strings.HasSuffix(dest, "/") && p != "/":
		p += "/"
	case strings.HasSuffix(dest, "/."):
		p = strings.TrimSuffix(p, "/") + "/."
	}
	return p
}

// sourcePath is a path or a pattern from the root on. With --parents the part before "/./" is only where to begin.
func sourcePath(src string, parents bool) string {
	if parents {
		if begin, kept, ok := strings.Cut(src, "/./"); ok {
			return strings.TrimSuffix(path.Join("/", begin), "/") + "/." + path.Join("/", kept)
		}
	}
	return path.Join("/", src)
}

// copyHistory is what the history shows: not all flags, but words as they are after expansion.
func copyHistory(verb string, op Copy, files instructions.SourcesAndDest) string {
	words := []string{verb}
	if op.Parents {
		words = append(words, "--parents")
	}
	if op.Chown != "" {
		words = append(words, "--chown="+op.Chown)
	}
	if op.Chmod != "" {
		words = append(words, "--chmod="+op.Chmod)
	}
	words = append(words, files.SourcePaths...)
	for _, src := range files.SourceContents {
		words = append(words, "<<"+src.Path)
	}
	return strings.Join(append(words, files.DestPath), " ") + historySuffix
}
