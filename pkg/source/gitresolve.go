package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// gitTarget is what a reference stands for.
type gitTarget struct {
	object string // id of a commit, or of an annotated tag
	commit string // id of the commit, where that is known without fetching; else object
	ref    string // full name of the reference; empty when there is none
}

// isCommit reports whether s is a whole object id, in SHA-1 or SHA-256.
func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && isHex(s) && strings.ToLower(s) == s
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// checkGit finds what is wrong with the options themselves.
func checkGit(o GitOptions) error {
	switch {
	case strings.HasPrefix(o.Ref, "-") || strings.ContainsFunc(o.Ref, unicode.IsControl):
		return fmt.Errorf("invalid git ref %q", o.Ref)
	case o.Checksum != "" && !isHex(o.Checksum):
		return fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", o.Checksum)
	case isCommit(o.Ref):
		if !strings.HasPrefix(o.Ref, o.Checksum) {
			return fmt.Errorf("expected checksum to match %s, got %s", o.Checksum, o.Ref)
		}
	case o.FetchByCommit && o.Checksum == "":
		return errors.New("fetch-by-commit requires a checksum or a commit SHA ref")
	case o.FetchByCommit && !isCommit(o.Checksum):
		return fmt.Errorf("fetch-by-commit requires a full commit SHA checksum, got %q", o.Checksum)
	}
	return nil
}

// resolve finds what the reference stands for, asking the remote only for a name.
func (r *gitRemote) resolve(ctx context.Context) (gitTarget, error) {
	if isCommit(r.o.Ref) {
		return gitTarget{object: r.o.Ref, commit: r.o.Ref}, nil
	}
	if r.o.FetchByCommit {
		t := gitTarget{object: r.o.Checksum, commit: r.o.Checksum, ref: r.o.Ref}
		if t.ref != "" && !strings.HasPrefix(t.ref, "refs/") {
			t.ref = "refs/heads/" + t.ref
		}
		return t, nil
	}
	s, err := r.session(ctx)
	if err != nil {
		return gitTarget{}, err
	}
	t, err := s.listRemote(ctx, r.remote, r.o.Ref)
	if err != nil {
		return gitTarget{}, err
	}
	if sum := r.o.Checksum; !strings.HasPrefix(t.object, sum) && !strings.HasPrefix(t.commit, sum) {
		got := t.object
		if t.commit != t.object {
			got += " or " + t.commit
		}
		return gitTarget{}, fmt.Errorf("expected checksum to match %s, got %s", sum, got)
	}
	return t, nil
}

// listRemote asks remote for ref; empty is its default branch.
func (s *gitSession) listRemote(ctx context.Context, remote, ref string) (gitTarget, error) {
	more, err := s.reach(remote)
	if err != nil {
		return gitTarget{}, err
	}
	if ref == "" || ref == "HEAD" {
		out, err := s.git.output(ctx, more, "ls-remote", "--symref", "--", "origin", "HEAD")
		if err != nil {
			return gitTarget{}, err
		}
		return parseHead(out)
	}
	out, err := s.git.output(ctx, more, "ls-remote", "--", "origin", ref, ref+"^{}")
	if err != nil {
		return gitTarget{}, err
	}
	return parseRefs(out, ref)
}

// parseHead reads the answer about HEAD.
func parseHead(out string) (gitTarget, error) {
	var t gitTarget
	for line := range strings.Lines(out) {
		what, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name != "HEAD" {
			continue
		}
		if ref, ok := strings.CutPrefix(what, "ref: "); ok {
			if strings.HasPrefix(ref, "refs/") {
				t.ref = ref
			}
		} else {
			t.object = what
		}
	}
	if !isCommit(t.object) {
		return gitTarget{}, errors.New("repository has no default branch; name a branch, a tag or a commit")
	}
	t.commit = t.object
	return t, nil
}

// parseRefs picks ref from the answer: a full name, or else a branch, or else a tag.
func parseRefs(out, ref string) (gitTarget, error) {
	ids := map[string]string{}
	for line := range strings.Lines(out) {
		id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ok && isCommit(id) {
			ids[name] = id
		}
	}
	for _, name := range []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"),
		"refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"),
		"refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"),
	} {
		id, ok := ids[name]
		if !ok {
			continue
		}
		t := gitTarget{object: id, commit: id, ref: name}
		if peeled, ok := ids[name+"^{}"]; ok {
			t.commit = peeled
		}
		return t, nil
	}
	return gitTarget{}, fmt.Errorf("repository does not contain ref %s", ref)
}
