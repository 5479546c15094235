package plan

import (
	"encoding/json"

	"github.com/gobuild-dev/gobuild/pkg/dockerfile"
)

// Location is a position in the one Dockerfile that is looked at. As JSON it has the form that BuildKit's subrequests
// give: a range for each line.
type Location dockerfile.Position

type (
	lineRanges struct {
		Ranges []lineRange `json:"ranges,omitempty"`
	}
	lineRange struct {
		Start linePosition `json:"start"`
		End   linePosition `json:"end"`
	}
	linePosition struct {
		Line int `json:"line"`
	}
)

// MarshalJSON implements json.Marshaler.
func (l Location) MarshalJSON() ([]byte, error) {
	var out lineRanges
	for n := l.Line; n > 0 && n <= max(l.Line, l.EndLine); n++ {
		at := linePosition{n}
		out.Ranges = append(out.Ranges, lineRange{at, at})
	}
	return json.Marshal(out)
}
