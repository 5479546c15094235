package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// pipes is where a process finds heredocs that are scripts.
const pipes = "/dev/pipes"

func (k *call) runCommand(c *instructions.RunCommand) error {
	args, files, summary, err := script(c)
	if err != nil {
		return err
	}
	if c.PrependShell {
		args = k.withShell(args)
	}
	mounts, agent, err := k.runMounts(c)
	if err != nil {
		return err
	}
	env, err := k.s.vars.environ(k.g.budget)
	if err != nil {
		return err
	}
	if _, ok := k.s.vars.Get(agentVariable); agent != "" && !ok {
		env = append(slices.Clip(env), agentVariable+"="+agent)
	}
	op := Run{
		Args:     args,
		Env:      env,
		Proxies:  k.g.proxies,
		Dir:      k.s.dir,
		User:     k.s.user,
		Network:  instructions.GetNetwork(c),
		Hostname: k.g.opts.hostname(),
		Hosts:    k.g.opts.Hosts,
		Insecure: instructions.GetSecurity(c) == instructions.SecurityInsecure,
		Files:    files,
		Mounts:   mounts,
	}
	for _, d := range instructions.GetDevices(c) {
		op.Devices = append(op.Devices, Device{Name: d.Name, Required: d.Required})
	}
	if err := k.g.opts.permit(op); err != nil {
		return err
	}
	k.op = op
	// Names show variables that are set, and leave the rest of the line to the shell.
	e := k.g.expand.with(func(l *shell.Lex) {
		l.RawQuotes, l.RawEscapes, l.SkipUnsetEnv = true, true, true
	})
	k.name = k.g.commandName(k.s, k.cmd, e, maskedSecrets(k.s.vars, mounts), c.String()+summary)
	return k.record("RUN "+k.runHistory(args)+historySuffix, true)
}

// hostname is what processes see as the name of the machine; empty is the default.
func (o Options) hostname() string {
	if name := o.BuildArgs["BUILDKIT_SANDBOX_HOSTNAME"]; name != "" {
		return name
	}
	return o.Hostname
}

// permit refuses what a RUN may only have when whoever builds has allowed it.
func (o Options) permit(op Run) error {
	var entitlement string
	switch {
	case op.Insecure && !slices.Contains(o.Allow, AllowInsecure):
		entitlement = AllowInsecure
	case len(op.Devices) > 0 && !slices.Contains(o.Allow, AllowDevice):
		for _, d := range op.Devices {
			if !slices.Contains(o.Allow, AllowDevice+"="+d.Name) {
				entitlement = AllowDevice + "=" + d.Name
			}
		}
	}
	if entitlement == "" {
		return nil
	}
	return fmt.Errorf("%s is not allowed: the build must be started with --allow %s", entitlement, entitlement)
}

// script resolves heredocs: one that is all of the command is the script itself, run by the shell or, with a "#!" line, as a
// file; others are put back for the shell to read. summary is for the name of the step.
func script(c *instructions.RunCommand) (args []string, files []InlineFile, summary string, err error) {
	if len(c.Files) == 0 {
		return c.CmdLine, nil, "", nil
	}
	if len(c.CmdLine) != 1 || !c.PrependShell {
		return nil, nil, "", fmt.Errorf("parsing produced an invalid run command: %v", c.CmdLine)
	}
	first := c.Files[0]
	if parser.MustParseHeredoc(c.CmdLine[0]) == nil {
		var b strings.Builder
		b.WriteString(c.CmdLine[0])
		for _, f := range c.Files {
			b.WriteString("\n" + f.Data + f.Name)
		}
		return []string{b.String()}, nil, "", nil
	}
	data := first.Data
	if first.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	summary = " (" + summarize(first.Data) + ")"
	if !strings.HasPrefix(data, "#!") {
		return []string{data}, nil, summary, nil
	}
	name, err := heredocName(first.Name)
	if err != nil {
		return nil, nil, "", err
	}
	file := InlineFile{Name: path.Join(pipes, name), Data: data, Mode: 0o755}
	return []string{file.Name}, []InlineFile{file}, summary, nil
}

// heredocName is the word of a heredoc as the name of a file.
func heredocName(word string) (string, error) {
	dir, name := path.Split(path.Clean("/" + word))
	if dir != "/" || name == "" {
		return "", fmt.Errorf("heredoc %q is no name for a file", word)
	}
	return name, nil
}

// summarize is the first line of a heredoc.
func summarize(doc string) string {
	first, _, more := strings.Cut(strings.TrimSpace(doc), "\n")
	first = strings.TrimSuffix(first, "\r")
	if more {
		first += "..."
	}
	return first
}

// runHistory is the command with the declared arguments in front, as the history shows it: values are those that the process
// sees, and an argument that is declared twice stands where it was first.
func (k *call) runHistory(args []string) string {
	var words []string
	at := map[string]int{}
	for _, a := range k.s.args {
		v, ok := k.s.vars.Get(a.Key)
		if !ok {
			v = a.ValueString()
		}
		word := a.Key + "=" + v
		if i, ok := at[a.Key]; ok {
			words[i] = word
			continue
		}
		at[a.Key] = len(words)
		words = append(words, word)
	}
	if len(words) > 0 {
		words = slices.Insert(words, 0, fmt.Sprintf("|%d", len(words)))
	}
	return strings.Join(append(words, args...), " ")
}
