package plan

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// TestOutlines holds what is printed of targets to the cases in testdata/outlines/outlines.txtar, which the integration tests
// compare with BuildKit. A case is a folder as in TestChecks, with an outline, a list of targets or both. There is no list
// where BuildKit cannot make one: it fails at comments that configure checks.
func TestOutlines(t *testing.T) {
	for name, parts := range readCases(t, "testdata/outlines/outlines.txtar") {
		t.Run(name, func(t *testing.T) {
			f, err := dockerfile.Parse("Dockerfile", []byte(parts["Dockerfile"]))
			if err != nil {
				t.Fatal(err)
			}
			if want, ok := parts["targets"]; ok {
				list, err := ListTargets(f)
				compareText(t, want, list, err)
			}
			if want, ok := parts["outline"]; ok {
				o, err := NewOutline(t.Context(), f, caseOptions(t, parts))
				compareText(t, want, o, err)
			}
		})
	}
}

func compareText(t *testing.T, want string, got interface{ WriteText(io.Writer) error }, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := got.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

// The forms are those of BuildKit's subrequests; sources are in base64.
func TestSubrequestJSON(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("# s is it\nFROM scratch as s\n# A is one\nARG A=<&>\nCMD x \\\n y\n"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := Check(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	outline, err := NewOutline(t.Context(), f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := ListTargets(f)
	if err != nil {
		t.Fatal(err)
	}
	const source = `"IyBzIGlzIGl0CkZST00gc2NyYXRjaCBhcyBzCiMgQSBpcyBvbmUKQVJHIEE9PCY+CkNNRCB4IFwKIHkK"`
	for name, tt := range map[string]struct {
		value any
		want  string
	}{
		"report": {report, `{"warnings": [
			{"ruleName": "FromAsCasing", "description": "The 'as' keyword should match the case of the 'from' keyword",
				"url": "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
				"detail": "'as' and 'FROM' keywords' casing do not match",
				"location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}},
			{"ruleName": "JSONArgsRecommended",
				"description": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
				"url": "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
				"detail": "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
				"location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}, {"start": {"line": 6}, "end": {"line": 6}}]}}],
			"sources": [{"filename": "Dockerfile", "data": ` + source + `, "language": "Dockerfile"}]}`},
		"outline": {outline, `{"name": "s", "description": "is it",
			"args": [{"name": "A", "description": "is one", "value": "<&>",
				"location": {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]}}],
			"sources": [` + source + `]}`},
		"targets": {targets, `{"targets": [{"name": "s", "default": true, "description": "is it", "base": "scratch",
			"location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}}],
			"sources": [` + source + `]}`},
	} {
		data, err := json.Marshal(tt.value)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
