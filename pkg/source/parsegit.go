package source

import (
	"strings"

	"github.com/gobuild-dev/gobuild/internal/gitref"
)

// ParseGit reads a git URL with all that its fragment and its query say (see package gitref). Git says whether it is one
// at all; github.com/owner/repository is, though it may be a path of this system, too. The error is about what a git URL says.
func ParseGit(address string) (o GitOptions, git bool, err error) {
	p, err := gitref.Parse(address)
	if err != nil || p == nil {
		return GitOptions{}, err != nil, err
	}
	o = p.Ref
	if p.MaybePath && !strings.Contains(o.Remote, "://") {
		o.Remote = "https://" + o.Remote
	}
	return o, true, nil
}
