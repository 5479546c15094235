package source

import (
	"mime"
	"net/url"
	"path"
	"strings"
	"unicode"
)

// fileName is what a file from a URL is called: as it was asked for, as the server says, or as the URL ends.
func fileName(asked, disposition, address string) string {
	if asked != "" {
		return safeName(asked)
	}
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		if name := params["filename"]; name != "" && !strings.HasSuffix(name, "/") {
			return safeName(name)
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		return safeName("")
	}
	return safeName(path.Base(u.Path))
}

// safeName makes a name without directories of name.
func safeName(name string) string {
	name = path.Base(strings.TrimSpace(name))
	if name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, unicode.IsControl) {
		return "download"
	}
	return name
}
