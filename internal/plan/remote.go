package plan

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	digest "github.com/opencontainers/go-digest"

	"github.com/gobuild-dev/gobuild/internal/gitref"
)

// unnamed is what a file is called whose URL has no name for it.
const unnamed = "__unnamed__"

// remoteOp is what fetches a URL or a git repository; nil for what is a path.
func remoteOp(src string) (Op, error) {
	ref, err := gitref.Parse(src)
	switch {
	case err != nil:
		return nil, fmt.Errorf("parse git reference %q: %w", shownURL(src), err)
	case ref != nil && !ref.MaybePath:
		return Git(ref.Ref), nil
	case strings.HasPrefix(src, "http://"), strings.HasPrefix(src, "https://"):
		return HTTP{URL: src, Name: urlName(src)}, nil
	}
	return nil, nil
}

// urlName is the last component of a URL's path.
func urlName(src string) string {
	u, err := url.Parse(src)
	if err != nil {
		return unnamed
	}
	if base := path.Base(u.Path); base != "." && base != "/" {
		return base
	}
	return unnamed
}

// shownURL is a URL for people, without a password.
func shownURL(src string) string {
	u, err := url.Parse(src)
	if err != nil || u.User == nil {
		return src
	}
	return u.Redacted()
}

// remoteSource is a source of ADD that is fetched, with the flags of the instruction; nil for a path.
func remoteSource(c *instructions.AddCommand, src string) (Op, error) {
	op, err := remoteOp(src)
	if err != nil {
		return nil, err
	}
	switch op := op.(type) {
	case HTTP:
		if c.Checksum != "" {
			if _, err := digest.Parse(c.Checksum); err != nil {
				return nil, fmt.Errorf("parse checksum %q: %w", c.Checksum, err)
			}
			op.Checksum = c.Checksum
		}
		return op, nil
	case Git:
		return gitSource(c, src, op)
	}
	return op, nil
}

// gitSource adds the flags, which must not contradict what the reference says.
func gitSource(c *instructions.AddCommand, src string, op Git) (Op, error) {
	if c.KeepGitDir != nil {
		ref, err := gitref.Parse(src)
		if err != nil {
			return nil, err
		}
		if ref.SaysKeepDir && op.KeepDir != *c.KeepGitDir {
			return nil, errors.New("inconsistent keep-git-dir configuration")
		}
		op.KeepDir = *c.KeepGitDir
	}
	if c.Checksum != "" {
		if op.Checksum != "" && op.Checksum != c.Checksum {
			return nil, fmt.Errorf("checksum mismatch %q != %q", c.Checksum, op.Checksum)
		}
		op.Checksum = c.Checksum
	}
	return op, nil
}

// fetch makes the step that fetches op, which src stands for in the file.
func (k *call) fetch(op Op, src string) *Step {
	step := &Step{
		Op:       op,
		Platform: toV1(*k.s.platform),
		Source:   k.g.file.Position(k.cmd.Location()),
		Name:     "[internal] load " + shownURL(src),
		Image:    bareImage(*k.s.platform),
	}
	k.g.steps = append(k.g.steps, step)
	return step
}
