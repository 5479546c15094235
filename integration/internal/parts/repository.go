package parts

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Repository is a bare Git repository. Its commits are dated and signed so that the same files always make the same
// commits.
type Repository struct {
	dir     string
	branch  string
	commits int
}

// NewRepository makes an empty one in dir. Any of its commits can be fetched by its id.
func NewRepository(ctx context.Context, dir string) (*Repository, error) {
	r := &Repository{dir: dir, branch: "main"}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := r.git(ctx, "", "init", "--quiet", "--bare", "--initial-branch=main"); err != nil {
		return nil, err
	}
	_, err := r.git(ctx, "", "config", "uploadpack.allowAnySHA1InWant", "true")
	return r, err
}

// Commit lets the branch's next commit have the files of tree.
func (r *Repository) Commit(ctx context.Context, tree string) error {
	if _, err := r.git(ctx, tree, "add", "--all", "--force", "."); err != nil {
		return err
	}
	return r.commit(ctx)
}

// Submodule lets the next commit have the last commit of other at path, besides the files of the last one.
func (r *Repository) Submodule(ctx context.Context, path, url string, other *Repository) error {
	id, err := other.git(ctx, "", "rev-parse", "refs/heads/"+other.branch)
	if err != nil {
		return err
	}
	tree, err := os.MkdirTemp(filepath.Dir(r.dir), ".modules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree) //nolint:errcheck // the caller's folder goes too
	modules := fmt.Sprintf("[submodule %q]\n\tpath = %s\n\turl = %s\n", path, path, url)
	if err := os.WriteFile(filepath.Join(tree, ".gitmodules"), []byte(modules), 0o644); err != nil {
		return err
	}
	if _, err := r.git(ctx, tree, "add", ".gitmodules"); err != nil {
		return err
	}
	if _, err := r.git(ctx, "", "update-index", "--add", "--cacheinfo", "160000,"+id+","+path); err != nil {
		return err
	}
	return r.commit(ctx)
}

// commit makes a commit of the index.
func (r *Repository) commit(ctx context.Context) error {
	tree, err := r.git(ctx, "", "write-tree")
	if err != nil {
		return err
	}
	r.commits++
	args := []string{"commit-tree", tree, "-m", fmt.Sprintf("commit %d", r.commits)}
	if parent, err := r.git(ctx, "", "rev-parse", "--verify", "--quiet", "refs/heads/"+r.branch); err == nil {
		args = append(args, "-p", parent)
	}
	id, err := r.git(ctx, "", args...)
	if err == nil {
		_, err = r.git(ctx, "", "update-ref", "refs/heads/"+r.branch, id)
	}
	return err
}

// Branch lets what follows be for a branch. A new one begins where the one before is.
func (r *Repository) Branch(ctx context.Context, name string) error {
	if _, err := r.git(ctx, "", "rev-parse", "--verify", "--quiet", "refs/heads/"+name); err != nil {
		if _, err := r.git(ctx, "", "branch", name, r.branch); err != nil {
			return err
		}
	}
	r.branch = name
	return nil
}

// Tag names the last commit; with annotate the tag is an object of its own.
func (r *Repository) Tag(ctx context.Context, name string, annotate bool) error {
	args := []string{"tag", name, "refs/heads/" + r.branch}
	if annotate {
		args = []string{"tag", "-a", "-m", "tag " + name, name, "refs/heads/" + r.branch}
	}
	_, err := r.git(ctx, "", args...)
	return err
}

// git runs git on the repository and returns what it prints. tree, unless empty, is its work tree.
func (r *Repository) git(ctx context.Context, tree string, args ...string) (string, error) {
	date := time.Date(2022, 1, 1, r.commits, 0, 0, 0, time.UTC).Format(time.RFC3339)
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(),
		"GIT_DIR="+r.dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=author", "GIT_AUTHOR_EMAIL=author@example.com", "GIT_AUTHOR_DATE="+date,
		"GIT_COMMITTER_NAME=committer", "GIT_COMMITTER_EMAIL=committer@example.com", "GIT_COMMITTER_DATE="+date)
	if tree != "" {
		cmd.Dir = tree
		cmd.Env = append(cmd.Env, "GIT_WORK_TREE="+tree)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w\n%s", args[0], err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}
