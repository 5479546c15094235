// Package casefile reads the cases that the integration tests build: txtar archives whose files are a build
// context and whose comment says, in directives, what files alone cannot.
//
// Lines of the comment that begin with "#" tell what trap the case holds. The others are words separated by blanks;
// a word in double quotes is a Go string. Paths are relative to the context, or to a folder
// beside it when they begin with "aside/": what lies there is no part of the context.
//
//	build-arg K=V | target NAME | label K=V | platform P | dockerfile PATH
//	    options of the build
//	image NAME TAR...
//	    {{NAME}} is an image of these archives as layers
//	base NAME PATH
//	    {{NAME}} is what the reference builder makes of the Dockerfile PATH, with the same context
//	fail TEXT
//	    no builder can build it, and gobuild says TEXT
//	beyond ENTRY
//	    gobuild alone can build it; the entry ENTRY of docs/differences.md says why
//	refuse ENTRY TEXT
//	    gobuild alone cannot build it, and says TEXT, which is the entry ENTRY of docs/differences.md
//	rewrite-timestamp
//	    times of files in new layers are no later than SOURCE_DATE_EPOCH
//	exact-times
//	    times in the config must be equal, since the case fixes them
//	except DRIVER ENTRY
//	    the entry ENTRY of docs/differences.md says why the case is not for this driver
//	allow ENTRY PATTERN
//	    difference lines that match the regular expression are the entry ENTRY of docs/differences.md
//	mkdir MODE PATH | chmod MODE PATH | chown UID:GID PATH | mtime TIME PATH | setxattr NAME VALUE PATH
//	write PATH DATA | fill SIZE PATH | remove PATH
//	symlink TARGET PATH | link OLD NEW | mkfifo MODE PATH | mknod MODE c|b MAJOR MINOR PATH | mksock PATH
//	secret ID env VALUE | secret ID file PATH | ssh ID
//	    what the build may use: a secret, and an agent that holds one key
//	allow-entitlement X | option KEY VALUE
//	    options of the build; KEY is BuildKit's name of it
//	build-context NAME VALUE
//	    a named context: the path of a directory, oci-layout://PATH, or a URL of another kind
//	http NAME PATH [etag=TAG] [last-modified=TIME] [disposition=FILE]
//	    {{http}}/NAME is the file PATH, with these headers
//	redirect NAME URL
//	    {{http}}/NAME leads to URL
//	git NAME commit DIR | git NAME submodule PATH OTHER
//	    {{git}}/NAME.git is a repository whose next commit has the files of DIR, or the last commit of the
//	    repository OTHER at PATH besides; the n-th commit is dated n hours after the beginning of 2022
//	git NAME branch B | git NAME tag T | git NAME annotate T
//	    what follows is for the branch B, which begins with "main"; a tag, and one that is an object
//	oci-layout PATH NAME
//	    PATH is an OCI layout of the image {{NAME}}, tagged "latest"
//	tar [none|gzip|bzip2|xz|zstd] PATH DIR
//	    an archive of what is in DIR; a DIR that ends in "/." has an entry of its own
//	gzip PATH
//	    compresses a file that need not be an archive; the name stays
//	members COUNT PATH
//	    compresses a file as so many members of gzip, one after another
//	append TEXT PATH
//	    writes more to a file
//
// In every file and directive, {{NAME}} is replaced by the reference of an image. {{http}} and {{git}} are URLs of servers
// that are the case's own; repositories are made of what the directives for files leave. Unless a directive says otherwise all files have
// mode 0644, all directories 0755, and the time that they bear lies in the past and is no whole second.
package casefile

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// Case is one case.
type Case struct {
	Name       string
	Dockerfile string // relative to the context
	Target     string
	Platform   string
	BuildArgs  []string
	Labels     []string
	// Fail is what gobuild must say when the build has to fail, and empty when it has to succeed.
	Fail string
	// Beyond is a heading in docs/differences.md when gobuild builds on purpose what BuildKit cannot, and empty otherwise.
	Beyond string
	// Refuse is set when gobuild refuses on purpose what BuildKit builds.
	Refuse *Refusal
	// RewriteTimestamp is set when times of files in new layers are clamped.
	RewriteTimestamp bool
	// ExactTimes is set when the config's times must be equal.
	ExactTimes bool
	Allows     []Allow
	// Exceptions maps drivers that the case is not for to headings in docs/differences.md.
	Exceptions map[string]string
	Images     []Image
	Bases      []Base
	Layouts    []Layout
	Grants     Grants
	Contexts   []Named
	Options    []Named
	Files      []WebFile
	Commits    []GitStep

	archive *txtar.Archive
	ops     []op
}

// Refusal is a deliberate difference: gobuild fails, and says Text.
type Refusal struct {
	Entry, Text string // Entry is a heading in docs/differences.md
}

// Allow excuses differences that are deliberate.
type Allow struct {
	Entry   string // heading in docs/differences.md
	Pattern *regexp.Regexp
}

// Image is a base made of layer archives.
type Image struct {
	Name   string
	Layers []string // paths as directives have them
}

// Base is a base made from a Dockerfile.
type Base struct {
	Name, Dockerfile string
}

// op is a change to the laid out files.
type op struct {
	line  int
	words []string
}

// Read parses the case in the named file.
func Read(file string) (*Case, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}

// Parse parses a case. file is the name of its file, which need not exist.
func Parse(file string, data []byte) (*Case, error) {
	c := &Case{
		Name:       strings.TrimSuffix(filepath.Base(file), ".txtar"),
		Dockerfile: "Dockerfile",
		Exceptions: map[string]string{},
		archive:    txtar.Parse(data),
	}
	for i, line := range strings.Split(string(c.archive.Comment), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		words, err := split(line)
		if err == nil {
			err = c.directive(i+1, words)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	return c, nil
}

// split cuts a line into words; a word in double quotes may hold anything that a Go string may.
func split(line string) ([]string, error) {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
			continue
		}
		q, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("parse quoted word: %w", err)
		}
		word, err := strconv.Unquote(q)
		if err != nil {
			return nil, fmt.Errorf("parse quoted word %s: %w", q, err)
		}
		words, line = append(words, word), line[len(q):]
	}
	return words, nil
}

// Entries are the headings of docs/differences.md that the case refers to.
func (c *Case) Entries() []string {
	var entries []string
	for _, a := range c.Allows {
		entries = append(entries, a.Entry)
	}
	for _, entry := range c.Exceptions {
		entries = append(entries, entry)
	}
	if c.Beyond != "" {
		entries = append(entries, c.Beyond)
	}
	if c.Refuse != nil {
		entries = append(entries, c.Refuse.Entry)
	}
	return entries
}

// Excused returns the difference lines that no allow directive covers. An allow directive that covers nothing
// is reported among them, so that none outlives its reason.
func (c *Case) Excused(diffs []string) []string {
	var left []string
	used := make([]bool, len(c.Allows))
	for _, d := range diffs {
		i := slices.IndexFunc(c.Allows, func(a Allow) bool { return a.Pattern.MatchString(d) })
		if i < 0 {
			left = append(left, d)
			continue
		}
		used[i] = true
	}
	for i, a := range c.Allows {
		if !used[i] {
			left = append(left, fmt.Sprintf("allow %q %q covers no difference", a.Entry, a.Pattern))
		}
	}
	return left
}
