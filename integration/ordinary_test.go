package integration

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gobuild-dev/gobuild/integration/internal/casefile"
	"github.com/gobuild-dev/gobuild/integration/internal/imagediff"
	"github.com/gobuild-dev/gobuild/integration/internal/parts"
)

// rank is a way in which an ordinary user of a machine builds.
type rank struct {
	name, driver string
	become       func(*site) *site
	// feigned says that there is one id, so that others are feigned.
	feigned bool
	// only is what the names of cases begin with that are worth it; all are when it is empty.
	only []string
}

func ranks() []rank {
	oneID := func(s *site) *site { return s.as(ordinary) }
	return []rank{
		{"one-id", "overlay", oneID, true, nil},
		{"one-id-directory", "directory", oneID, true, []string{"user-", "run-mount-", "run-r", "run-s", "run-u"}},
		{"range", "overlay", (*site).withRange, false, []string{"run-", "user-", "copy-from-"}},
		{"range-directory", "directory", (*site).withRange, false, []string{"user-", "run-s", "run-u", "run-x"}},
	}
}

// TestCasesAsOrdinaryUser builds cases as a user without privileges on the machine itself, who has subordinate ids or not, and compares
// the images with BuildKit's.
func TestCasesAsOrdinaryUser(t *testing.T) {
	documented(t, userExceptions(true))
	comparer := &imagediff.Comparer{}
	for _, r := range ranks() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := r.become(newSite(t, nil))
			s.isolation = r.driver
			tryCases(t, comparer, subject{name: r.name, once: true, build: s.buildJob}, r.takes, userExceptions(r.feigned))
			s.clean()
		})
	}
}

// takes reports whether a case is for a rank. An agent of keys does not answer other users than its own.
func (r rank) takes(c *casefile.Case) bool {
	return begins(c.Name, r.only) && !strings.HasPrefix(c.Name, "ssh-") && c.Exceptions[r.driver] == ""
}

// userExceptions are the cases that cannot pass in a user namespace, with the headings of docs/isolation.md that say why.
func userExceptions(feigned bool) map[string]string {
	all := map[string][]string{
		"Devices in user namespaces": {"copy-device-from-stage", "run-device-and-fifo"},
		"Rights in user namespaces":  {"run-environment", "run-security-insecure"},
	}
	if feigned {
		all["One mapped id"] = []string{"run-security-sandbox", "secret-not-readable-by-user", "secret-target-owner-and-mode"}
	}
	exceptions := map[string]string{}
	for heading, cases := range all {
		for _, name := range cases {
			exceptions[name] = heading
		}
	}
	return exceptions
}

// documented checks that headings of exceptions are in docs/isolation.md.
func documented(t *testing.T, exceptions map[string]string) {
	t.Helper()
	docs, err := os.ReadFile(filepath.Join(repository(), "docs", "isolation.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, heading := range exceptions {
		if !strings.Contains(string(docs), "# "+heading+"\n") {
			t.Errorf("%s: %q is no heading in docs/isolation.md", name, heading)
		}
	}
}

// tryCases builds the cases that takes wants and that are no exceptions one after another, compares them with BuildKit's,
// and prints how many pass.
func tryCases(t *testing.T, comparer *imagediff.Comparer, in subject, takes func(*casefile.Case) bool, exceptions map[string]string) {
	files, err := filepath.Glob("cases/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	passed, tried := 0, 0
	var excepted []string
	for _, file := range files {
		c, err := casefile.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		if !takes(c) {
			continue
		}
		if heading := exceptions[c.Name]; heading != "" {
			excepted = append(excepted, fmt.Sprintf("%s: %s", c.Name, heading))
			continue
		}
		tried++
		if t.Run(c.Name, func(t *testing.T) { runCase(t, c, comparer, []subject{in}) }) {
			passed++
		}
	}
	t.Logf("%d of %d cases pass, %d are exceptions, %d are not tried\n%s", passed, tried, len(excepted),
		len(files)-tried-len(excepted), strings.Join(excepted, "\n"))
	if tried == 0 {
		t.Error("no cases")
	}
}

// buildJob builds a job as the one who builds here, with a copy of its files that this user can read.
func (s *site) buildJob(ctx context.Context, t *testing.T, j parts.Job) error {
	dir, err := os.MkdirTemp(s.dir, "case-*")
	if err != nil {
		return err
	}
	laid := filepath.Dir(j.Context)
	if err := copyFiles(ctx, laid+"/.", dir); err != nil {
		return err
	}
	if err := s.allow(dir); err != nil {
		return err
	}
	more, err := j.Gobuild()
	if err != nil {
		return err
	}
	words := append(append(args(j, s.work), "--isolation", s.isolation), more...)
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, laid+"/", dir+"/")
	}
	words = slices.Concat(s.through, []string{s.bin}, words)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Env = s.dir, slices.Concat(os.Environ(), s.env, j.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("gobuild: %w\n%s", err, out)
	}
	return nil
}

// allow gives what others cannot read below dir to the user, with the mode that it has, unless root builds here.
func (s *site) allow(dir string) error {
	if s.cred == nil && s.through == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if e.Type()&fs.ModeSymlink != 0 || st.Mode&0o4 != 0 && (!e.IsDir() || st.Mode&0o1 != 0) && path != dir {
			return nil
		}
		if err := os.Chown(path, ordinary, ordinary); err != nil {
			return err
		}
		return unix.Chmod(path, st.Mode&0o7777)
	})
}
