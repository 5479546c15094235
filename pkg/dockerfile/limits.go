package dockerfile

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

const (
	// maxLine is the longest line, without its end, that BuildKit's parser reads.
	maxLine = bufio.MaxScanTokenSize - 1

	// maxNesting bounds what makes BuildKit's parser call itself within one instruction: each "${" may stand within
	// another, and ONBUILD is looked through to the instruction behind it, and the one behind that. Unbounded, a file within
	// MaxSize could exhaust the stack.
	maxNesting = 2000
)

// checkLimits refuses what would not fit in reasonable memory or in BuildKit's line buffer. The parser would
// report a long line as whatever it was in the middle of.
func (f *File) checkLimits(data []byte) error {
	if len(data) > MaxSize {
		return f.Error(lineRange(1), fmt.Errorf("dockerfile of %d bytes is larger than the limit of %d", len(data), MaxSize))
	}
	for i, l := range f.lines {
		if len(l) > maxLine {
			return f.Error(lineRange(i+1), fmt.Errorf("dockerfile line greater than max allowed size of %d", maxLine))
		}
	}
	return f.locateNesting(checkLines(f.lines))
}

// nestingError says which line went over maxNesting.
type nestingError struct{ line int }

func (e *nestingError) Error() string {
	return fmt.Sprintf("more than %d nested expressions in one instruction", maxNesting)
}

func (f *File) locateNesting(err error) error {
	if e, ok := errors.AsType[*nestingError](err); ok {
		return f.Error(lineRange(e.line), err)
	}
	return err
}

// checkLines counts what nests in each run of lines that may be one instruction. It need not know the escape
// character or heredocs: it takes too many lines for one, never too few.
func checkLines(lines []string) error {
	substitutions, triggers := 0, 0
	for i, l := range lines {
		substitutions += strings.Count(l, "${")
		triggers += strings.Count(strings.ToLower(l), "onbuild")
		if substitutions > maxNesting || triggers > maxNesting {
			return &nestingError{line: i + 1}
		}
		if !continues(l) {
			substitutions, triggers = 0, 0
		}
	}
	return nil
}

// continues tells whether the next line may belong to the same instruction.
func continues(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#' || strings.HasSuffix(line, `\`) || strings.HasSuffix(line, "`")
}
