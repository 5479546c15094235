package randomcase

import (
	"fmt"
	"slices"
)

// tree makes the context: files in a few directories, what is special about them, and an ignore file.
func (g *generator) tree() {
	used := map[string]bool{}
	for range 2 + g.IntN(7) {
		name := pick(g, "", "", "d/", "d/sub/", "e/") + pick(g, "f", "g.txt", "h.log", ".hidden", "run.sh", "sp ace")
		if used[name] {
			continue
		}
		used[name] = true
		g.parts = append(g.parts, part{place: file, file: name, text: fmt.Sprintf("%s %d", name, g.IntN(1000))})
		g.sources = append(g.sources, name)
		g.special(name, len(used))
	}
	if g.chance(30) {
		g.archive()
	}
	if g.chance(30) {
		g.add(directive, "mkdir %s empty", pick(g, "0755", "0700", "1777"))
		g.sources = append(g.sources, "empty")
	}
	for _, dir := range []string{"d", "d/sub", "e"} {
		if slices.ContainsFunc(g.sources, func(s string) bool { return len(s) > len(dir) && s[:len(dir)+1] == dir+"/" }) {
			g.sources = append(g.sources, dir)
		}
	}
	if g.chance(30) {
		for range 1 + g.IntN(3) {
			g.add(pattern, "%s", pick(g, "*.log", "d", "!d/sub", "**/g.txt", "e/*", "!e/f", "/f", "d/**", "!**/run.sh", "sp*", "Dockerfile", ".hidden"))
		}
	}
}

// special adds what a file of the context may have besides contents. All of it goes if the file goes: paths are made
// where they are missing.
func (g *generator) special(name string, n int) {
	quoted := fmt.Sprintf("%q", name)
	extra := fmt.Sprintf("x%d", n)
	write := fmt.Sprintf("write %s %q", quoted, fmt.Sprintf("%s %d\n", name, g.IntN(1000)))
	switch g.IntN(10) {
	case 0:
		g.add(directive, "%s\nchmod %s %s", write, pick(g, "0755", "0600", "4755", "2644", "0000", "0666"), quoted)
	case 1:
		g.add(directive, "%s\nchown %s %s", write, pick(g, "1000:1000", "7:8"), quoted)
	case 2:
		g.add(directive, "symlink %q %s", pick(g, name, "/etc/group", "nowhere", "../../out", "d"), extra)
		g.sources = append(g.sources, extra)
	case 3:
		g.add(directive, "symlink %s d/%s", pick(g, "sub", "../e", "f", "/f", "..", "."), extra)
		g.sources = append(g.sources, "d")
	case 4:
		if g.options.HardLinks {
			g.add(directive, "%s\nmkdir 0755 e\nlink %s e/%s", write, quoted, extra)
			g.sources = append(g.sources, "e/"+extra, "e")
		}
	}
}

// archive makes an archive of a few files.
func (g *generator) archive() {
	name := pick(g, "a.tar", "a.tgz", "packed")
	tree := fmt.Sprintf("mkdir %s aside/t/in\nwrite aside/t/in/x \"x %d\"\nwrite aside/t/y y\nchmod %s aside/t/y\nchown %s aside/t/y\n",
		pick(g, "0755", "0750"), g.IntN(1000), pick(g, "0644", "4711"), pick(g, "0:0", "1000:50"))
	g.add(directive, "%star %s %s %s", tree, pick(g, "none", "gzip", "xz", "zstd", "bzip2"), name, pick(g, "aside/t", "aside/t/."))
	g.sources = append(g.sources, name)
}
