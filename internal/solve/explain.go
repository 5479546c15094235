package solve

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobuild-dev/gobuild/pkg/progress"
)

// Records remember, from build to build, what steps were made of. Implementations are safe for concurrent use.
type Records interface {
	// Records returns what was put last under id in each place that has something, none if no place has.
	Records(ctx context.Context, id string) ([][]byte, error)
	// PutRecord keeps data under id in the place that is this machine's own. What other machines are given is for
	// Options.Share.
	PutRecord(ctx context.Context, id string, data []byte) error
}

// place identifies a step by where it stands, which is what it has in common with what was there in an earlier build: by its
// stage and its number there. How many there are after it does not matter.
func (n *node) place() string {
	where, _, _ := strings.Cut(n.step.Name, "] ")
	if strings.HasPrefix(where, "[") {
		if i := strings.LastIndexByte(where, '/'); i >= 0 {
			where = where[:i]
		}
		where += "]"
	}
	return strings.Join(append(strings.Fields(where), n.step.Platform.String()), " ")
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
	s.noted.Store(true)
	if s.o.Records == nil {
		return
	}
	data, err := s.encodeInputs(ctx, n)
	if err == nil {
		err = s.o.Records.PutRecord(ctx, n.place(), data)
	}
	if err != nil && ctx.Err() == nil {
		s.warn("remember what steps were made of: " + err.Error())
	}
}

// share gives others what all steps are made of, those that were found as well: who has to explain a step later may have
// nothing else. Nothing is said of a build in which everything was found. All work has to be done.
func (s *solver) share(ctx context.Context) {
	if s.o.Share == nil || !s.noted.Load() {
		return
	}
	records := map[string]json.RawMessage{}
	left := maxShared
	for _, step := range s.o.Plan.Steps {
		n := s.nodes[step]
		if !hasLayer(step) || !n.defined.known() {
			continue
		}
		r, err := s.inputs(ctx, n)
		if err == nil {
			left -= r.limit(left)
			records[n.place()], err = json.Marshal(r)
		}
		if err != nil {
			s.warn("share what steps were made of: " + err.Error())
			return
		}
	}
	s.o.Share(records)
}

func (s *solver) encodeInputs(ctx context.Context, n *node) ([]byte, error) {
	r, err := s.inputs(ctx, n)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
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

// changed compares what a step is made of with what it was made of before. Of several builds it is the one that is the most
// like this one.
func (s *solver) changed(ctx context.Context, n *node) string {
	if s.o.Records == nil {
		return "nothing is remembered of earlier builds"
	}
	list, err := s.o.Records.Records(ctx, n.place())
	if err != nil {
		return "what it was made of before cannot be read: " + err.Error()
	}
	if len(list) == 0 {
		return "no earlier build of this step is known"
	}
	now, err := s.inputs(ctx, n)
	if err != nil {
		return err.Error() // with which the build ends
	}
	var least []string
	found := false
	for _, data := range list {
		var before record
		if err = json.Unmarshal(data, &before); err != nil {
			continue
		}
		if texts := differences(&before, now); !found || len(texts) < len(least) {
			least, found = texts, true
		}
	}
	switch {
	case !found:
		return "what it was made of before cannot be read: " + err.Error()
	case len(least) == 0:
		return "its result was not kept, or has been removed"
	case len(least) == 1:
		return least[0]
	}
	return fmt.Sprintf("%s, and %d more", least[0], len(least)-1)
}

// differences says what differs, in the order of the kinds.
func differences(before, now *record) []string {
	old := map[input]int{}
	was := map[string]input{}
	for _, in := range before.Inputs {
		old[in.compared()]++
		was[in.Kind+" "+in.Name] = in
	}
	var texts []string
	present := map[string]bool{}
	for _, in := range now.Inputs {
		id := in.Kind + " " + in.Name
		present[id] = true
		if old[in.compared()] > 0 {
			old[in.compared()]--
			continue
		}
		texts = append(texts, rank(in)+in.changed(was[id]))
	}
	for in, n := range old {
		if n > 0 && !present[in.Kind+" "+in.Name] && !now.Cut {
			texts = append(texts, rank(in)+was[in.Kind+" "+in.Name].text()+" is gone")
		}
	}
	slices.Sort(texts)
	for i := range texts {
		texts[i] = texts[i][1:]
	}
	return texts
}

// rank sorts kinds of inputs.
func rank(in input) string {
	return strconv.Itoa(slices.Index([]string{inputWords, inputBase, inputBelow, inputSource, inputFile, inputEnv}, in.Kind))
}

// changed says what in is, now that it is not what it was; before is zero when it was not there.
func (in input) changed(before input) string {
	switch {
	case before == input{}:
		return in.text() + " is new"
	case in.Kind == inputBase:
		return fmt.Sprintf("the base image has changed, from %s to %s", before.Image, in.Image)
	}
	return in.text() + " has changed"
}

// text names an input for people.
func (in input) text() string {
	switch in.Kind {
	case inputEnv:
		return "the variable " + in.Name
	case inputBase:
		return "the base image " + in.Image
	case inputBelow:
		if in.step == "" {
			return "what it is built on"
		}
		return "what it is built on (" + in.step + ")"
	}
	switch {
	case in.step != "":
		return in.step
	case in.Name != "":
		return in.Name
	}
	return "the instruction"
}
