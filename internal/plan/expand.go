package plan

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// expander expands variables as BuildKit does, within limits. It is not safe for concurrent use.
type expander struct {
	lex    *shell.Lex
	budget *budget
}

// with is an expander with settings of its own.
func (e *expander) with(set func(*shell.Lex)) *expander {
	lex := *e.lex
	set(&lex)
	return &expander{lex: &lex, budget: e.budget}
}

// heredoc is an expander for the bodies of heredocs: quotes stay, and a backslash escapes whatever the
// file's escape character is.
func (e *expander) heredoc() *expander {
	lex := shell.NewLex('\\')
	lex.SkipProcessQuotes = true
	return &expander{lex: lex, budget: e.budget}
}

// word expands to one word, and tells which variables were found and which not.
func (e *expander) word(w string, env shell.EnvGetter) (shell.ProcessWordResult, error) {
	return e.run(w, env, func(env shell.EnvGetter) (shell.ProcessWordResult, error) {
		return e.lex.ProcessWordWithMatches(w, env)
	})
}

// words expands and splits at white space that is not quoted.
func (e *expander) words(w string, env shell.EnvGetter) ([]string, error) {
	res, err := e.run(w, env, func(env shell.EnvGetter) (shell.ProcessWordResult, error) {
		words, err := e.lex.ProcessWords(w, env)
		return shell.ProcessWordResult{Words: words, Result: strings.Join(words, "")}, err
	})
	return res.Words, err
}

func (e *expander) run(w string, env shell.EnvGetter, process func(shell.EnvGetter) (shell.ProcessWordResult, error)) (shell.ProcessWordResult, error) {
	if strings.Contains(w, "$") {
		if err := checkReplace(w, env); err != nil {
			return shell.ProcessWordResult{}, err
		}
	}
	m := &meter{env: env, left: maxWord}
	res, err := process(m)
	if m.left < 0 || len(res.Result) > maxWord+len(w) {
		return shell.ProcessWordResult{}, tooLong()
	}
	if err != nil {
		return res, err
	}
	return res, e.budget.spend(len(res.Result))
}

func tooLong() error {
	return fmt.Errorf("variables expand to more than %d KiB", maxWord>>10)
}

// meter hands out values until they are too much for one word.
type meter struct {
	env  shell.EnvGetter
	left int
}

func (m *meter) Get(key string) (string, bool) {
	v, ok := m.env.Get(key)
	if m.left -= len(v); m.left < 0 {
		return "", ok
	}
	return v, ok
}

func (m *meter) Keys() []string { return m.env.Keys() }

var replaceAll = regexp.MustCompile(`\$\{\w+//`)

// checkReplace refuses ${name//pattern/replacement} where the result might be huge: each character of
// the value can become a whole replacement, which may hold another such expression. It overestimates, but not for
// anything that makes sense: only below a limit of many MiB is a replacement done at all.
func checkReplace(w string, env shell.EnvGetter) error {
	const most = 16 << 20
	starts := replaceAll.FindAllStringIndex(w, -1)
	if starts == nil {
		return nil
	}
	longest := 1
	for _, k := range env.Keys() {
		v, _ := env.Get(k)
		longest = max(longest, len(v)+1)
	}
	for len(starts) > 0 {
		begin := starts[0][0]
		end := begin + groupLen(w[begin:])
		group := w[begin:end]
		size := len(group) + (strings.Count(group, "$")-1)*longest
		for len(starts) > 0 && starts[0][0] < end {
			if size *= longest; size > most {
				return tooLong()
			}
			starts = starts[1:]
		}
	}
	return nil
}

// groupLen is the length of the ${...} at the start of w, or more: a brace behind an escape character does not close it, and
// behind a quote, which may be one or not, nothing does.
func groupLen(w string) int {
	depth := 0
	for i := 0; i < len(w); i++ {
		switch rest := w[i:]; {
		case w[i] == '\'' || w[i] == '"':
			return len(w)
		case strings.HasPrefix(rest, "${"):
			depth++
		case strings.HasPrefix(rest, `\}`), strings.HasPrefix(rest, "`}"):
			i++
		case w[i] == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(w)
}
