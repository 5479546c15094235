package randomcase

import (
	"fmt"
	"strconv"
	"strings"
)

// stages makes the Dockerfile.
func (g *generator) stages() {
	if g.chance(40) {
		g.add(directive, "build-arg %s=%s", pick(g, "A", "B", "G"), pick(g, "given", "", "x=y"))
	}
	if g.chance(30) {
		g.add(instruction, "ARG G=%s", g.word())
	}
	count := 1 + g.IntN(4)
	for i := range count {
		g.from(i)
		for range 2 + g.IntN(7) {
			g.instruction(i)
		}
	}
	if name := pick(g, g.names...); name[0] == 's' && g.chance(10) {
		g.add(directive, "target %s", name)
	}
}

func (g *generator) from(i int) {
	base, shell := "{{busybox}}", true
	switch {
	case i > 0 && g.chance(35):
		n := g.IntN(i)
		base, shell = g.names[n], g.shell[n]
		if _, err := strconv.Atoi(base); err == nil {
			base, shell = "{{busybox}}", true // FROM takes names alone
		}
	case g.chance(20):
		base, shell = "scratch", false
	}
	name := strconv.Itoa(i)
	line := "FROM " + base
	if g.chance(70) {
		name = "s" + name
		line += " AS " + name
	}
	g.add(instruction, "%s", line)
	g.names = append(g.names, name)
	g.shell = append(g.shell, shell)
}

// instruction adds one to stage i.
func (g *generator) instruction(i int) {
	var line string
	switch n := g.IntN(100); {
	case n < 25:
		line = g.copy(i)
	case n < 33:
		line = fmt.Sprintf("ADD %s%s %s", g.flags(i, "--unpack=false"), g.contextSources(), g.destination())
	case n < 40:
		line = g.heredoc(i)
	case n < 68 && g.shell[i]:
		line = g.run(i)
	case n < 76:
		line = "WORKDIR " + pick(g, "/w", "w", "/d", "../x", "/a/b", "/var/run/w", "$A", "/tmp", "/link/w")
	case n < 81 && g.shell[i]:
		line = "USER " + pick(g, "app", "1000:50", "0", "nobody", "1234", "root:staff")
	default:
		line = g.config()
	}
	if g.chance(4) && !strings.Contains(line, "\n") {
		line = "ONBUILD " + line
	}
	g.add(instruction, "%s", line)
}

// config returns an instruction that changes the config alone.
func (g *generator) config() string {
	switch g.IntN(12) {
	case 0, 1:
		return fmt.Sprintf("ARG %s=%s", g.variable(), g.word())
	case 2:
		return "ARG " + g.variable()
	case 3, 4, 5:
		return fmt.Sprintf("ENV %s=%s %s=%s", g.variable(), g.word(), g.variable(), g.word())
	case 6:
		return fmt.Sprintf("ENV %s %s", g.variable(), g.word())
	case 7:
		return fmt.Sprintf("LABEL %s=%s l.%d=%s", pick(g, "l", "m", `"n o"`), g.word(), g.IntN(3), g.word())
	case 8:
		return "EXPOSE " + pick(g, "80", "80/udp 22", "1-3/tcp", "${P:-443}")
	case 9:
		return "VOLUME " + pick(g, "/v", `["/a", "/v w"]`, "/d /w", "$A/v")
	case 10:
		return pick(g, "CMD ", "ENTRYPOINT ", "HEALTHCHECK CMD ", "HEALTHCHECK --interval=3s --retries=2 CMD ") + pick(g, `["a", "b c"]`, "a  b $A", "[not json", `[ "a" ]`)
	default:
		return pick(g, "STOPSIGNAL 9", "STOPSIGNAL SIGUSR1", `SHELL ["/bin/sh", "-ec"]`, "HEALTHCHECK NONE", "MAINTAINER me $A")
	}
}

func (g *generator) variable() string { return pick(g, "A", "B", "C", "G", "PATH_") }

// word returns a word of an instruction, with the ways to quote and to expand.
func (g *generator) word() string {
	var b strings.Builder
	for range 1 + g.IntN(3) {
		v := g.variable()
		b.WriteString(pick(g, "x", "/y", "-", `"q r"`, "'s $A'", `\ `, `\$`, `"\""`, "$"+v, "${"+v+"}", "${"+v+":-d}", "${"+v+"-}",
			"${"+v+":+p}", "${"+v+"+${A:-n}}", "${"+v+"#x}", "${"+v+"##*/}", "${"+v+"%y}", "${"+v+"%%/*}", "${"+v+"/x/z}", "${"+v+"//q/r}", `"$`+v+`"`))
	}
	return b.String()
}

func (g *generator) copy(i int) string {
	if i > 0 && g.chance(40) {
		from := g.IntN(i)
		source := pick(g, "/a", "/d", "/out", "/w", "/", "/d/sub", "/f", "/lin*", "/*")
		if g.shell[from] {
			source = pick(g, source, "/etc/group", "/home", "/var/run", "/etc/gr*", "/home/./app")
		}
		return fmt.Sprintf("COPY --from=%s %s%s %s", g.names[from], g.flags(i, ""), source, g.destination())
	}
	return fmt.Sprintf("COPY %s%s %s", g.flags(i, ""), g.contextSources(), g.destination())
}

// contextSources returns a few paths or patterns.
func (g *generator) contextSources() string {
	source := func() string {
		if len(g.sources) > 0 && g.chance(60) {
			return pick(g, g.sources...)
		}
		return pick(g, ".", "*", "d*", "*.txt*", "*/*", "./", "[d-h]*", "/", "d?*")
	}
	if g.chance(25) {
		return quoteSources(source(), source())
	}
	return quoteSources(source())
}

// quoteSources protects blanks, which only the list form takes: instructions are finished by [generator.instruction].
func quoteSources(sources ...string) string {
	for i, s := range sources {
		sources[i] = strings.ReplaceAll(s, " ", "?")
	}
	return strings.Join(sources, " ")
}

func (g *generator) destination() string {
	return pick(g, "/", "/d/", "/d", ".", "./s/", "/a/b/", "/a/b", "/link/", "/home/app/", "/var/run/x", "/tmp/", "/f", "/new/er/", "$A/")
}

// flags returns flags of COPY and ADD, with a blank behind each. other is one more that may be among them.
func (g *generator) flags(i int, other string) string {
	var b strings.Builder
	if g.chance(25) {
		owner := pick(g, "1:2", "1000", "0:50")
		if g.shell[i] {
			owner = pick(g, owner, "app", "app:staff", "nobody")
		}
		b.WriteString("--chown=" + owner + " ")
	}
	chmod := g.chance(20)
	if chmod {
		b.WriteString("--chmod=" + pick(g, "755", "0600", "u=rwX,go=rX", "4711", "a+w", "g-w,o=") + " ")
	}
	if g.chance(15) {
		b.WriteString("--exclude=" + pick(g, "*.log", "d", "**/f", "sub", "g.*") + " ")
	}
	if other == "" && g.chance(12) {
		b.WriteString("--parents ")
	}
	// With --chmod BuildKit does not link: "links with a mode" in docs/differences.md.
	if g.chance(12) && !chmod && !strings.Contains(b.String(), "app") && !strings.Contains(b.String(), "nobody") {
		b.WriteString("--link ")
	}
	if other != "" && g.chance(15) {
		b.WriteString(other + " ")
	}
	return b.String()
}
