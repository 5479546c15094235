package solve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/cache"
	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// Records remember, from build to build, what steps were made of. Implementations are safe for concurrent use.
type Records interface {
	// Record returns what was put last under id, or an error that wraps cache.ErrMiss.
	Record(ctx context.Context, id string) ([]byte, error)
	PutRecord(ctx context.Context, id string, data []byte) error
}

// place identifies a step by where it stands, which is what it has in common with what was there in an earlier build.
func (n *node) place() string {
	name, _, _ := strings.Cut(n.step.Name, "] ")
	return fmt.Sprintf("%s %s", name, n.step.Platform.String())
}

// missed tells, if that is asked for, why a step has to be made that is the first one of its stage.
func (s *solver) missed(ctx context.Context, n *node) {
	if !s.o.Explain || !s.firstOfStage(n) {
		return
	}
	why := n.missed
	if why == "" {
		why = s.changed(ctx, n)
	}
	s.o.Progress.Emit(progress.Event{
		Time: time.Now(), Kind: progress.Info, Text: fmt.Sprintf("%s is not in the cache: %s", n.step.Name, why),
	})
}

// note remembers what a step was made of, for the next build that has to tell what has changed.
func (s *solver) note(ctx context.Context, n *node) {
	if s.o.Records == nil {
		return
	}
	r, err := s.inputs(ctx, n)
	var data []byte
	if err == nil {
		data, err = json.Marshal(r)
	}
	if err == nil {
		err = s.o.Records.PutRecord(ctx, n.place(), data)
	}
	if err != nil && ctx.Err() == nil {
		s.warn("remember what steps were made of: " + err.Error())
	}
}

// firstOfStage says whether n is the first step of its stage of which this is asked: what lies on a step that is made anew
// is rarely news.
func (s *solver) firstOfStage(n *node) bool {
	bottom := n
	for bottom.base != nil && bottom.base.label() == n.label() {
		bottom = bottom.base
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.explained[bottom]
	s.explained[bottom] = true
	return !again
}

// label is the stage in a step's name, "[build 2/4] RUN make".
func (n *node) label() string {
	label, _, ok := strings.Cut(strings.TrimPrefix(n.step.Name, "["), "]")
	if !ok {
		return ""
	}
	if i := strings.LastIndexByte(label, ' '); i >= 0 {
		return label[:i]
	}
	if _, err := strconv.Atoi(label[:1]); err == nil {
		return "" // the only stage has no name
	}
	return label
}

// changed compares what a step is made of with what it was made of last.
func (s *solver) changed(ctx context.Context, n *node) string {
	const unreadable = "what it was made of before cannot be read: "
	if s.o.Records == nil {
		return "nothing is remembered of earlier builds"
	}
	data, err := s.o.Records.Record(ctx, n.place())
	if errors.Is(err, cache.ErrMiss) {
		return "no earlier build of this step is known"
	}
	if err != nil {
		return unreadable + err.Error()
	}
	var before record
	if err := json.Unmarshal(data, &before); err != nil {
		return unreadable + err.Error()
	}
	now, err := s.inputs(ctx, n)
	if err != nil {
		return err.Error() // with which the build ends
	}
	return difference(&before, now)
}

// difference says what is the first to differ, in the order of the kinds, and how many more do.
func difference(before, now *record) string {
	old := map[input]int{}
	known := map[string]bool{}
	for _, in := range before.Inputs {
		old[in]++
		known[in.Kind+" "+in.Name] = true
	}
	var texts []string
	present := map[string]bool{}
	for _, in := range now.Inputs {
		present[in.Kind+" "+in.Name] = true
		if old[in] > 0 {
			old[in]--
			continue
		}
		how := "has changed"
		if !known[in.Kind+" "+in.Name] {
			how = "is new"
		}
		texts = append(texts, rank(in)+in.text()+" "+how)
	}
	for in, n := range old {
		if n > 0 && !present[in.Kind+" "+in.Name] && !now.Cut {
			texts = append(texts, rank(in)+in.text()+" is gone")
		}
	}
	if len(texts) == 0 {
		return "its result was not kept, or has been removed"
	}
	slices.Sort(texts)
	text := texts[0][1:]
	if more := len(texts) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// rank sorts kinds of inputs.
func rank(in input) string {
	return strconv.Itoa(slices.Index([]string{inputWords, inputBelow, inputSource, inputFile, inputEnv}, in.Kind))
}

// text names an input for people.
func (in input) text() string {
	switch in.Kind {
	case inputEnv:
		return "the variable " + in.Name
	case inputBelow:
		return "what it is built on (" + in.Name + ")"
	case inputFile:
		return in.Name
	case inputSource:
		return strings.TrimSpace(in.Name)
	}
	if in.Name == "" {
		return "the instruction"
	}
	return in.Name
}
