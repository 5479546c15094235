package main

import (
	"fmt"
	"strings"
	"time"
)

// result is what a builder took for the rounds of a workload.
type result struct {
	builder string
	rounds  []usage
}

func printHead() {
	fmt.Printf("%-20s %-9s %9s %12s %9s %10s %11s   %s\n",
		"workload", "builder", "wall", "gobuild's", "CPU", "peak", "layers", "rounds")
}

// printResults prints a line for each builder. The fourth column is the median of the rounds' ratios: gobuild's time
// divided by the peer's.
func printResults(w workload, results []result) {
	mine := results[0]
	for i, r := range results {
		name := ""
		if i == 0 {
			name = w.name
		}
		ratio := ""
		if i > 0 {
			ratio = fmt.Sprintf("%.3f of it", median(ratios(mine, r)))
		} else if w.floor > 0 {
			ratio = fmt.Sprintf("%.3f floors", r.wall().Seconds()/w.floor.Seconds())
		}
		fmt.Printf("%-20s %-9s %8.2fs %12s %8.2fs %6.0f MiB %8.1f MB   %s\n", name, r.builder, r.wall().Seconds(), ratio,
			r.cpu().Seconds(), float64(r.peak())/(1<<20), float64(r.rounds[0].pushed)/1e6, r.walls())
	}
}

func ratios(mine, theirs result) (list []float64) {
	for i := range mine.rounds {
		list = append(list, mine.rounds[i].wall.Seconds()/theirs.rounds[i].wall.Seconds())
	}
	return list
}

func (r result) wall() time.Duration {
	return of(r, func(u usage) time.Duration { return u.wall })
}

func (r result) cpu() time.Duration {
	return of(r, func(u usage) time.Duration { return u.cpu })
}

func of(r result, f func(usage) time.Duration) time.Duration {
	var list []time.Duration
	for _, u := range r.rounds {
		list = append(list, f(u))
	}
	return median(list)
}

func (r result) peak() (most int64) {
	for _, u := range r.rounds {
		most = max(most, u.peak)
	}
	return most
}

func (r result) walls() string {
	var list []string
	for _, u := range r.rounds {
		list = append(list, fmt.Sprintf("%.2f", u.wall.Seconds()))
	}
	return strings.Join(list, " ")
}
