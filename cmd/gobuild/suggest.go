package main

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unknownFlag adds to a flag error the flag that was probably meant.
func unknownFlag(c *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return &usageError{err}
	}
	best, distance := "", 3 // more edits than this are another word
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.Distance(name, f.Name, nil); d < distance && !f.Hidden {
			best, distance = f.Name, d
		}
	})
	if best == "" {
		return &usageError{err}
	}
	return &usageError{fmt.Errorf("%w (did you mean --%s?)", err, best)}
}
