package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobuild-dev/gobuild/pkg/source"
)

func TestGitErrors(t *testing.T) {
	h := newHistory(t)
	ones := strings.Repeat("1", 40)
	mark := filepath.Join(t.TempDir(), "run")
	blob := gitIn(t, filepath.Join(h.dir, "r"), "rev-parse", "main:f")
	gitIn(t, filepath.Join(h.dir, "r"), "tag", "blob", blob)
	h.repository(t, "empty")
	for _, tt := range []struct {
		o    source.GitOptions
		want string
	}{
		{source.GitOptions{Ref: "none"}, "repository does not contain ref none"},
		{source.GitOptions{Ref: "ma*"}, "repository does not contain ref ma*"},
		{source.GitOptions{Ref: "--upload-pack=touch " + mark}, "invalid git ref"},
		{source.GitOptions{Ref: "a\nb"}, "invalid git ref"},
		{source.GitOptions{Ref: ones}, "repository does not contain commit " + ones},
		{source.GitOptions{Ref: "blob"}, "is no commit"},
		{source.GitOptions{Remote: h.URL + "/empty.git"}, "no default branch"},
		{source.GitOptions{Remote: h.URL + "/none.git"}, "not found"},
		{source.GitOptions{Checksum: "12345"}, "expected checksum to match 12345, got " + h.second},
		{source.GitOptions{Ref: h.first, Checksum: "12345"}, "expected checksum to match 12345, got " + h.first},
		{source.GitOptions{Ref: "annotated", Checksum: "12345"}, "got " + h.annotated + " or " + h.first},
		{source.GitOptions{Checksum: "main"}, "invalid checksum main for Git URL"},
		{source.GitOptions{FetchByCommit: true}, "fetch-by-commit requires a checksum"},
		{source.GitOptions{FetchByCommit: true, Checksum: "1234"}, "fetch-by-commit requires a full commit SHA checksum"},
		{source.GitOptions{Subdir: "none"}, "no such file"},
		{source.GitOptions{Subdir: "f"}, `contains non-directory "f"`},
		{source.GitOptions{Remote: "ext::sh -c 'touch " + mark + "'"}, "transport 'ext' not allowed"},
		{source.GitOptions{Remote: "file:///etc"}, "are fetched with http"},
		{source.GitOptions{Remote: "/etc"}, "neither a URL"},
		{source.GitOptions{Remote: "-oProxyCommand=x:y"}, "neither a URL"},
		{source.GitOptions{Remote: "ssh://-oProxyCommand=x/y"}, "names no host"},
		{source.GitOptions{Remote: "git@-oProxyCommand=x:y"}, "neither a URL"},
		{source.GitOptions{Remote: "http://u:p@h\x7f/x.git"}, "control character"},
	} {
		if tt.o.Remote == "" {
			tt.o.Remote = h.url
		}
		if s := gitFails(t, tt.o, source.Fetch{}); !strings.Contains(s, tt.want) {
			t.Errorf("%+v: %s", tt.o, s)
		}
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("something was run")
	}
}

// TestGitHostile: what is in a repository runs nothing and leads nowhere.
func TestGitHostile(t *testing.T) {
	s := newGitServer(t)
	victim := s.repository(t, "victim")
	id := commit(t, victim, "secret=1")
	mark := filepath.Join(t.TempDir(), "run")
	for name, tt := range map[string]struct {
		modules, subdir, want string
	}{
		"submodule of a file":          {modules: "url = file://" + victim, want: "are fetched with http"},
		"submodule of a path":          {modules: "url = " + victim, want: "neither a URL"},
		"submodule of a relative path": {modules: "url = ./../../../../../../../../" + victim, want: "leads out of"},
		"submodule of a command":       {modules: "url = ext::touch " + mark, want: "not allowed"},
		"submodule of another command": {modules: "url = \"ext::touch" + mark + "\"", want: "not allowed"},
		"submodule of an option":       {modules: "url = -u", want: "neither a URL"},
		"submodule with credentials":   {modules: "url = http://u:p@localhost/x.git", want: "must not give"},
		"submodule that is nowhere":    {modules: "x = y", want: "no url found for submodule path"},
		"subdir that is a link":        {modules: "update = none", subdir: "link", want: "contains non-directory"},
		"subdir below a link":          {modules: "update = none", subdir: "link/ssh", want: "contains non-directory"},
		"subdir above":                 {modules: "update = none", subdir: "../../etc", want: "no such file"},
		"update by command":            {modules: "update = !touch " + mark + "\nurl = /x", want: "neither a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := s.repository(t, strings.ReplaceAll(name, " ", "-"))
			from := write(t, ".gitmodules=[submodule \"sub\"]\npath = sub\n"+tt.modules+"\n", "link -> /etc",
				".gitattributes=* filter=evil\n")
			gitIn(t, dir, "--work-tree="+from, "add", "-A", ".")
			gitIn(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+id+",sub")
			gitIn(t, dir, "commit", "--quiet", "-m", "m")
			got := gitFails(t, source.GitOptions{Remote: s.URL + "/" + filepath.Base(dir) + ".git", Subdir: tt.subdir}, source.Fetch{})
			if !strings.Contains(got, tt.want) {
				t.Error(got)
			}
		})
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("a command was run")
	}
}
