package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/command"
)

// languagePage reads docs/dockerfile.md: the text of its sections by heading, and the files of its link definitions.
func languagePage(t *testing.T) (sections, links map[string]string) {
	data, err := os.ReadFile(filepath.Join(repository(), "docs", "dockerfile.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections, links = map[string]string{}, map[string]string{}
	heading := ""
	definition := regexp.MustCompile(`^\[([a-z0-9-]+)\]: \.\./(\S+)$`)
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = h
		} else if m := definition.FindStringSubmatch(line); m != nil {
			links[m[1]] = m[2]
		} else {
			sections[heading] += line + "\n"
		}
	}
	return sections, links
}

// TestLanguageRowsNameCases holds that each row of the language's tables names cases that exist.
func TestLanguageRowsNameCases(t *testing.T) {
	sections, links := languagePage(t)
	for name, file := range links {
		if file != "integration/cases/"+name+".txtar" {
			t.Errorf("[%s] leads to %s", name, file)
		}
		if _, err := os.Stat(filepath.Join(repository(), file)); err != nil {
			t.Error(err)
		}
	}
	named := regexp.MustCompile(`\[([a-z0-9-]+)\]`)
	for heading, text := range sections {
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| form |") {
				continue
			}
			cells := strings.Split(strings.TrimSpace(line), " | ")
			cases := named.FindAllStringSubmatch(cells[len(cells)-1], -1)
			if len(cases) == 0 {
				t.Errorf("%s: no case in %s", heading, line)
			}
			for _, c := range cases {
				if links[c[1]] == "" {
					t.Errorf("%s: [%s] is not defined", heading, c[1])
				}
			}
		}
	}
}

// TestLanguageIsWhole holds that the page has whatever BuildKit's parser knows: instructions, flags, options of mounts.
func TestLanguageIsWhole(t *testing.T) {
	sections, _ := languagePage(t)
	for name := range command.Commands {
		if sections[strings.ToUpper(name)] == "" {
			t.Errorf("no section %s", strings.ToUpper(name))
		}
	}
	flags, options := parserWords(t)
	for instruction, names := range flags {
		for _, flag := range names {
			if !regexp.MustCompile("`--" + flag + "[`=\\[]").MatchString(sections[instruction]) {
				t.Errorf("%s: no row for --%s", instruction, flag)
			}
		}
	}
	for _, o := range options {
		if !strings.Contains(sections["RUN"], "`"+o+"`") {
			t.Errorf("RUN: no row for the mount option %q", o)
		}
	}
}

// parserWords reads flags by instruction, and the options of mounts, out of the source of BuildKit's parser.
func parserWords(t *testing.T) (flags map[string][]string, options []string) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/moby/buildkit/frontend/dockerfile/instructions")
	cmd.Dir = repository()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	flags = map[string][]string{}
	function := regexp.MustCompile(`^func (\w+)\(`)
	flag := regexp.MustCompile(`flags\.Add(?:String|Strings|Bool)\("([a-z-]+)"`)
	option := regexp.MustCompile(`^\t+case ("[a-z", ]+):`)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		in := ""
		for line := range strings.Lines(string(data)) {
			if m := function.FindStringSubmatch(line); m != nil {
				in = m[1]
			}
			if m := flag.FindStringSubmatch(line); m != nil {
				instruction := strings.ToUpper(strings.TrimPrefix(in, "parse"))
				if strings.HasPrefix(filepath.Base(file), "commands_run") {
					instruction = "RUN"
				}
				flags[instruction] = append(flags[instruction], m[1])
			}
			if m := option.FindStringSubmatch(line); m != nil && in == "parseMount" {
				options = append(options, strings.Split(strings.ReplaceAll(m[1], `"`, ""), ", ")...)
			}
		}
	}
	if !slices.Contains(flags["COPY"], "parents") || !slices.Contains(flags["RUN"], "mount") || !slices.Contains(options, "sharing") {
		t.Fatalf("the parser's source is not written as expected: %v, %v", flags, options)
	}
	return flags, options
}
