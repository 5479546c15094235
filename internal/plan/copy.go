package plan

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	mode "github.com/tonistiigi/dchapes-mode"
)

func (k *call) add(c *instructions.AddCommand) error {
	if err := checkChecksum(c); err != nil {
		return err
	}
	op := Copy{
		Chown:   c.Chown,
		Chmod:   c.Chmod,
		Link:    c.Link,
		Exclude: c.ExcludePatterns,
	}
	for _, src := range c.SourcePaths {
		s, err := k.addSource(c, src)
		if err != nil {
			return err
		}
		op.Sources = append(op.Sources, s)
	}
	return k.copyFiles("ADD", op, c.SourcesAndDest, c.String())
}

// checkChecksum refuses a checksum of what is not fetched.
func checkChecksum(c *instructions.AddCommand) error {
	if c.Checksum == "" {
		return nil
	}
	if len(c.SourcePaths) != 1 {
		return errors.New("checksum can't be specified for multiple sources")
	}
	op, err := remoteOp(c.SourcePaths[0])
	if err == nil && op == nil {
		err = errors.New("checksum requires HTTP(S) or Git sources")
	}
	return err
}

// addSource is a source of ADD: a path in the context, of which archives are unpacked unless the flag says otherwise, a
// file that is fetched, and unpacked only when the flag says so, or the files of a commit.
func (k *call) addSource(c *instructions.AddCommand, src string) (Source, error) {
	op, err := remoteSource(c, src)
	if err != nil {
		return Source{}, err
	}
	if op == nil {
		return Source{Path: sourcePath(src, false), Unpack: c.Unpack == nil || *c.Unpack}, nil
	}
	s := Source{Path: "/", From: k.fetch(op, src), Literal: true}
	if op, ok := op.(HTTP); ok {
		s.Path = "/" + op.Name
		s.Unpack = c.Unpack != nil && *c.Unpack
	}
	k.uses = append(k.uses, s.From)
	return s, nil
}

func (k *call) copy(c *instructions.CopyCommand) error {
	for _, src := range c.SourcePaths {
		op, err := remoteOp(src)
		if err != nil {
			return err
		}
		switch op.(type) {
		case Git:
			return errors.New("source can't be a git ref for COPY")
		case HTTP:
			return errors.New("source can't be a URL for COPY")
		}
	}
	op := Copy{
		Chown:   c.Chown,
		Chmod:   c.Chmod,
		Link:    c.Link,
		Parents: c.Parents,
		Exclude: c.ExcludePatterns,
	}
	from, err := k.copyFrom(c)
	if err != nil {
		return err
	}
	for _, src := range c.SourcePaths {
		op.Sources = append(op.Sources, Source{Path: sourcePath(src, op.Parents), From: from})
	}
	return k.copyFiles("COPY", op, c.SourcesAndDest, c.String())
}

// copyFrom is the step that COPY --from names; nil without the flag.
func (k *call) copyFrom(c *instructions.CopyCommand) (*Step, error) {
	src := k.cmd.mountSource(0)
	if src == nil {
		return nil, nil
	}
	from, err := k.g.source(src)
	if err != nil {
		return nil, err
	}
	if from == nil {
		return nil, fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", c.From, k.s.label)
	}
	k.uses = []*Step{from}
	return from, nil
}

// copyFiles completes op with heredocs and the destination.
func (k *call) copyFiles(verb string, op Copy, files instructions.SourcesAndDest, code string) error {
	if op.Chown != "" && op.Link && namesOwner(op.Chown) {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", op.Chown)
	}
	if err := checkMode(op.Chmod); err != nil {
		return err
	}
	k.lintIgnored(verb, files.SourcePaths, op.Sources)
	op.Dest = joinDest(k.s.dir, files.DestPath)

	for _, src := range files.SourceContents {
		name, err := heredocName(src.Path)
		if err != nil {
			return err
		}
		op.Sources = append(op.Sources, Source{Inline: &InlineFile{Name: name, Data: src.Data, Mode: 0o644}})
	}
	k.op = op
	k.name = k.g.commandName(k.s, k.cmd, k.g.expand, k.s.vars, code)
	return k.record(copyHistory(verb, op, files), true)
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
