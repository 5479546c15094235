package plan

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// cloneMap is m, not nil, with room for more entries.
func cloneMap[V any](m map[string]V, more int) map[string]V {
	c := make(map[string]V, len(m)+more)
	maps.Copy(c, m)
	return c
}

func (k *call) env(c *instructions.EnvCommand) error {
	img := &k.s.img
	if err := k.g.budget.spend(entrySize * (len(img.Config.Env) + len(c.Env))); err != nil {
		return err
	}
	env := slices.Clone(img.Config.Env)
	at := make(map[string]int, len(env))
	for i, e := range slices.Backward(env) { // the first of several wins
		key, _, _ := strings.Cut(e, "=")
		at[key] = i
	}
	var by strings.Builder
	by.WriteString("ENV")
	for _, e := range c.Env {
		if e.NoDelim {
			k.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
		}
		k.lintSecret("ENV", e.Key)
		by.WriteString(" " + e.String())
		k.s.vars.set(e.Key, e.Value)
		if i, ok := at[e.Key]; ok {
			env[i] = e.String()
		} else {
			at[e.Key] = len(env)
			env = append(env, e.String())
		}
	}
	img.Config.Env = env
	return k.record(by.String(), false)
}

// arg declares build arguments. Other than in ENV, each sees those before it in the same instruction.
func (k *call) arg(c *instructions.ArgCommand) error {
	words := make([]string, 0, len(c.Args))
	for _, arg := range c.Args {
		k.lintSecret("ARG", arg.Key)
		if v, given := k.g.opts.BuildArgs[arg.Key]; given {
			arg.Value = &v
		} else if arg.Value != nil {
			res, err := k.g.expand.word(*arg.Value, k.s.vars)
			k.lintUndefined(res.Unmatched)
			if err != nil {
				return err
			}
			arg.Value = &res.Result
		} else if v, ok := k.g.global.Get(arg.Key); ok {
			arg.Value = &v
		}
		word := arg.Key
		if arg.Value != nil {
			word += "=" + *arg.Value
			if !isScanArg(arg.Key) {
				k.s.vars.set(arg.Key, *arg.Value)
			}
		}
		k.s.args = append(k.s.args, arg)
		words = append(words, word)
	}
	return k.record("ARG "+strings.Join(words, " "), false)
}

// isScanArg tells whether an argument only steers the scanning for an SBOM and is no variable.
func isScanArg(key string) bool {
	return key == "BUILDKIT_SBOM_SCAN_CONTEXT" || key == "BUILDKIT_SBOM_SCAN_STAGE"
}

func (k *call) label(c *instructions.LabelCommand) error {
	img := &k.s.img
	if err := k.g.budget.spend(entrySize * (len(img.Config.Labels) + len(c.Labels))); err != nil {
		return err
	}
	labels := cloneMap(img.Config.Labels, len(c.Labels))
	var by strings.Builder
	by.WriteString("LABEL")
	for _, l := range c.Labels {
		if l.NoDelim {
			k.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
		}
		labels[l.Key] = l.Value
		by.WriteString(" " + l.String())
	}
	img.Config.Labels = labels
	return k.record(by.String(), false)
}

func (k *call) maintainer(c *instructions.MaintainerCommand) error {
	k.s.img.Author = c.Maintainer
	return k.record("MAINTAINER "+c.Maintainer, false)
}

func (k *call) onbuild(c *instructions.OnbuildCommand) error {
	k.s.img.Config.OnBuild = append(slices.Clip(k.s.img.Config.OnBuild), c.Expression)
	return k.g.budget.spend(len(c.Expression) + entrySize*len(k.s.img.Config.OnBuild))
}

// commandLine is the command line of an instruction, with the shell in front for the shell form.
func (k *call) commandLine(c instructions.ShellDependantCmdLine) []string {
	if !c.PrependShell {
		return c.CmdLine
	}
	if len(k.s.img.Config.Shell) == 0 {
		k.lint.Run(&linter.RuleJSONArgsRecommended, k.cmd.Location(), linter.RuleJSONArgsRecommended.Format(k.cmd.Name()))
	}
	return k.withShell(c.CmdLine)
}

func (k *call) withShell(args []string) []string {
	shell := k.s.img.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clip(shell), strings.Join(args, " "))
}

func (k *call) command(c *instructions.CmdCommand) error {
	k.lintOnce(&k.s.marks.cmd)
	args := k.commandLine(c.ShellDependantCmdLine)
	k.s.img.Config.Cmd = args
	k.s.img.Config.ArgsEscaped = true //nolint:staticcheck // deprecated, but BuildKit sets it
	return k.record(fmt.Sprintf("CMD %q", args), false)
}

// entrypoint also drops a CMD of the base, whose arguments were meant for another program.
func (k *call) entrypoint(c *instructions.EntrypointCommand) error {
	k.lintOnce(&k.s.marks.entrypoint)
	args := k.commandLine(c.ShellDependantCmdLine)
	k.s.img.Config.Entrypoint = args
	if k.s.marks.cmd == nil {
		k.s.img.Config.Cmd = nil
	}
	return k.record(fmt.Sprintf("ENTRYPOINT %q", args), false)
}

func (k *call) healthcheck(c *instructions.HealthCheckCommand) error {
	k.lintOnce(&k.s.marks.healthcheck)
	h := dockerspec.HealthcheckConfig{
		Test:          c.Health.Test,
		Interval:      c.Health.Interval,
		Timeout:       c.Health.Timeout,
		StartPeriod:   c.Health.StartPeriod,
		StartInterval: c.Health.StartInterval,
		Retries:       c.Health.Retries,
	}
	k.s.img.Config.Healthcheck = &h
	return k.record(fmt.Sprintf("HEALTHCHECK %+v", h), false)
}

func (k *call) user(c *instructions.UserCommand) error {
	k.s.user = c.User
	k.s.img.Config.User = c.User
	return k.record("USER "+c.User, false)
}

func (k *call) volume(c *instructions.VolumeCommand) error {
	img := &k.s.img
	if err := k.g.budget.spend(entrySize * (len(img.Config.Volumes) + len(c.Volumes))); err != nil {
		return err
	}
	volumes := cloneMap(img.Config.Volumes, len(c.Volumes))
	for _, v := range c.Volumes {
		if v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		volumes[v] = struct{}{}
	}
	img.Config.Volumes = volumes
	return k.record(fmt.Sprintf("VOLUME %v", c.Volumes), false)
}

func (k *call) stopSignal(c *instructions.StopSignalCommand) error {
	if _, err := signal.ParseSignal(c.Signal); err != nil {
		return err
	}
	k.s.img.Config.StopSignal = c.Signal
	return k.record("STOPSIGNAL "+c.Signal, false)
}

func (k *call) shell(c *instructions.ShellCommand) error {
	k.s.img.Config.Shell = c.Shell
	return k.record(fmt.Sprintf("SHELL %v", c.Shell), false)
}

func (k *call) workdir(c *instructions.WorkdirCommand) error {
	k.lintWorkdir(c)
	dir := joinWorkdir(k.s.img.Config.WorkingDir, c.Path)
	k.s.img.Config.WorkingDir = dir
	k.s.dir = dir
	layer := dir != "/"
	if layer {
		k.op = WorkDir{Path: path.Clean(dir), User: k.s.img.Config.User}
		k.name = k.g.commandName(k.s, k.cmd, k.g.expand, k.s.vars, c.String())
	}
	return k.record("WORKDIR "+dir, layer)
}

// joinWorkdir is the directory that dir means from current on. An absolute one stays as it is written, which shows in the
// config.
func joinWorkdir(current, dir string) string {
	if !path.IsAbs(current) {
		current = path.Join("/", current)
	}
	switch {
	case dir == "":
		return current
	case path.IsAbs(dir):
		return dir
	}
	return path.Join(current, dir)
}
