package randomcase

import (
	"fmt"
	"strings"
)

// run returns a RUN that changes a few files. A command that fails changes nothing, and is no failure.
func (g *generator) run(i int) string {
	var commands []string
	for range 1 + g.IntN(4) {
		commands = append(commands, g.command())
	}
	mount := ""
	if g.chance(15) {
		mount = g.mount(i)
	}
	switch g.IntN(10) {
	case 0:
		return fmt.Sprintf("RUN %s<<EOF\n%s\nEOF", mount, strings.Join(commands, "\n"))
	case 1:
		return fmt.Sprintf("RUN %s<<'EOF'\n#!/bin/sh\n%s\nEOF", mount, strings.Join(commands, "\n"))
	case 2:
		return fmt.Sprintf("RUN %s[\"/bin/sh\", \"-c\", %q]", mount, strings.Join(commands, "; "))
	case 3:
		return "RUN " + mount + strings.Join(commands, "; \\\n  ")
	}
	return "RUN " + mount + strings.Join(commands, "; ")
}

// mount returns a flag, with a blank behind it.
func (g *generator) mount(i int) string {
	target := pick(g, "/m", "/d/m", "/a", "m", "/home/app")
	if i > 0 && g.chance(40) {
		if from := g.names[g.IntN(i)]; from[0] == 's' {
			return fmt.Sprintf("--mount=from=%s,target=%s%s ", from, target, pick(g, "", ",rw"))
		}
	}
	return fmt.Sprintf("--mount=type=%s,target=%s ", pick(g, "bind", "tmpfs", "bind,rw"), target)
}

// path is one of few, so that commands meet.
func (g *generator) path() string {
	return pick(g, "/a", "/a/b", "/a/b/c", "/d", "/d/e", "/f", "/link", "/link/x", "/w/x", "/home/app/x", "/tmp/x", "/bin/tool", "x", "/run/x", "/usr/bin")
}

func (g *generator) command() string {
	p, q := g.path(), g.path()
	commands := []string{
		"mkdir -p " + p, "mkdir -m 750 " + p, "echo new >" + p, "echo more >>" + p, "rm -rf " + p, "ln -s " + q + " " + p,
		"mv " + q + " " + p, "cp -a " + q + " " + p, "chmod " + pick(g, "700", "4755", "1777", "0") + " " + p, "chown 7:8 " + p,
		"touch -d '2001-02-03 04:05:06' " + p, "mkdir -p /d && mkfifo /d/fifo", // which no command opens: it would wait for another
		"rm -rf " + p + " && mkdir -p " + p, "rm -rf " + p + " && ln -s " + q + " " + p,
		"ln -sfn " + q + " " + p, "rm -rf " + p + " && echo file >" + p, "cp " + q + " " + p + ".copy", "find " + p + " | sort >/tmp/found",
		"env | grep -E '^(A|B|C|G|PATH.*|HOME|PWD)=' | sort >/tmp/env", "id >/tmp/id", "pwd >/tmp/pwd", "stat -c '%n %a %u %g %F' " + p + " >/tmp/stat",
		"echo $A ${B:-b} \"$C\" >/tmp/vars", "true",
	}
	if g.options.HardLinks {
		commands = append(commands, "ln "+q+" "+p, "ln -f "+q+" "+p)
	}
	return "{ " + pick(g, commands...) + "; } 2>/dev/null || true"
}

// heredoc returns a COPY or an ADD of a text.
func (g *generator) heredoc(i int) string {
	word := pick(g, "EOF", "'EOF'", `"EOF"`)
	return fmt.Sprintf("%s %s<<%s %s\nline $A ${B:-b}\n  \\$C \"quoted\"\nEOF", pick(g, "COPY", "ADD"), g.flags(i, ""), word, g.destination())
}
