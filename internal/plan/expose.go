package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

func (k *call) expose(c *instructions.ExposeCommand) error {
	var words []string
	for _, p := range c.Ports {
		w, err := k.g.expand.words(p, k.s.vars)
		if err != nil {
			return err
		}
		words = append(words, w...)
	}
	img := &k.s.img
	if err := k.g.budget.spend(entrySize * len(img.Config.ExposedPorts)); err != nil {
		return err
	}
	exposed := cloneMap(img.Config.ExposedPorts, len(words))
	ports := []string{}
	for _, w := range words {
		p, err := k.parsePort(w)
		if err != nil {
			return err
		}
		if err := k.g.budget.spend(entrySize * p.count()); err != nil {
			return err
		}
		for n := p.first; n <= p.last; n++ {
			ports = append(ports, strconv.Itoa(n)+"/"+p.proto)
		}
	}
	for _, p := range ports {
		exposed[p] = struct{}{}
	}
	img.Config.ExposedPorts = exposed
	return k.record(fmt.Sprintf("EXPOSE %v", ports), false)
}

// ports is a range of ports of one protocol.
type ports struct {
	first, last int
	proto       string
}

func (p ports) count() int { return p.last - p.first + 1 }

// parsePort parses [[ip:]host:]port[/proto]. Address and port of the host have no meaning here, but have to be right.
func (k *call) parsePort(word string) (ports, error) {
	ip, host, port := splitPort(word)
	port, proto, _ := strings.Cut(port, "/")
	if port == "" {
		return ports{}, fmt.Errorf("invalid port: %q: no port specified", word)
	}
	lower := strings.ToLower(proto)
	switch lower {
	case "":
		lower = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return ports{}, fmt.Errorf("invalid port: %q: invalid proto: %s", word, proto)
	}
	if proto != lower && proto != "" {
		k.lint.Run(&linter.RuleExposeProtoCasing, k.cmd.Location(), linter.RuleExposeProtoCasing.Format(word))
	}
	if ip != "" || host != "" {
		k.lint.Run(&linter.RuleExposeInvalidFormat, k.cmd.Location(), linter.RuleExposeInvalidFormat.Format(word))
	}
	if !validIP(ip) {
		return ports{}, fmt.Errorf("invalid IP address: %s", ip)
	}
	first, last, err := portRange(port)
	if err != nil {
		return ports{}, fmt.Errorf("invalid containerPort: %s", port)
	}
	if host != "" {
		hostFirst, hostLast, err := portRange(host)
		if err != nil {
			return ports{}, fmt.Errorf("invalid hostPort: %s", host)
		}
		if last != first && last-first != hostLast-hostFirst {
			return ports{}, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", port, host)
		}
	}
	return ports{first: first, last: last, proto: lower}, nil
}

// splitPort splits at the last two colons: those before are part of an address.
func splitPort(word string) (ip, host, port string) {
	if i := strings.LastIndexByte(word, ':'); i >= 0 {
		word, port = word[:i], word[i+1:]
		if i = strings.LastIndexByte(word, ':'); i >= 0 {
			return word[:i], word[i+1:], port
		}
		return "", word, port
	}
	return "", "", word
}

func validIP(ip string) bool {
	if ip == "" {
		return true
	}
	if ip[0] == '[' && ip[len(ip)-1] == ']' {
		ip = ip[1 : len(ip)-1]
	}
	a, err := netip.ParseAddr(ip)
	return err == nil && a.Zone() == ""
}

func portRange(s string) (first, last int, err error) {
	a, b, ok := strings.Cut(s, "-")
	if first, err = portNumber(a); err != nil {
		return 0, 0, err
	}
	if !ok || a == b {
		return first, first, nil
	}
	if last, err = portNumber(b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, errors.New("range ends before it begins")
	}
	return first, last, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > 65535 {
		return 0, errors.New("value out of range (0–65535)")
	}
	return n, nil
}
