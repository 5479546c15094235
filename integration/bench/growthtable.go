package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// growthRow is what a build of one size has taken: the medians of the rounds, and the highest peak.
type growthRow struct {
	n         int
	wall, cpu time.Duration
	peak      int64
}

const (
	// slack is how much dearer than before the units of the next size may be. Two measurements of the same differ by less
	// on a machine that nobody else uses.
	slack = 1.3
	// memoryGoal is what all processes of an ordinary build together are to stay within, in bytes.
	memoryGoal = 64 << 20
)

// printSeries prints a table and a plot. The columns "each more" are what a unit costs by which this size is larger than
// the one before, so that what every build costs is not in them: they must not rise.
func printSeries(s series, rows []growthRow) {
	fmt.Printf("\n%s\n%10s %9s %9s %10s %14s %14s %10s   %s\n", s.name,
		s.unit, "wall", "CPU", "peak", "wall each more", "CPU each more", "exponent", "")
	for i, r := range rows {
		wall, cpu, exponent := "", "", ""
		if i > 0 {
			prev := rows[i-1]
			wall, cpu = perUnit(r.wall-prev.wall, r.n-prev.n), perUnit(r.cpu-prev.cpu, r.n-prev.n)
			exponent = fmt.Sprintf("%.2f", math.Log(r.cpu.Seconds()/prev.cpu.Seconds())/math.Log(float64(r.n)/float64(prev.n)))
		}
		fmt.Printf("%10d %8.2fs %8.2fs %6.0f MiB %14s %14s %10s   %s\n", r.n, r.wall.Seconds(), r.cpu.Seconds(),
			float64(r.peak)/(1<<20), wall, cpu, exponent, strings.Join(findings(s, rows[:i+1]), ", "))
	}
	fmt.Print(plot(rows))
}

func perUnit(d time.Duration, n int) string {
	return fmt.Sprintf("%.2f µs", float64(d.Microseconds())/float64(n))
}

// findings says what the last row shows, in capitals if it is not as it should be.
func findings(s series, rows []growthRow) (list []string) {
	last := rows[len(rows)-1]
	if last.peak > memoryGoal {
		list = append(list, "over 64 MiB")
	}
	if len(rows) == 1 {
		return list
	}
	if s.flat {
		first := rows[0]
		if last.wall.Seconds() > slack*first.wall.Seconds() {
			return append(list, fmt.Sprintf("%.1f TIMES THE FIRST", last.wall.Seconds()/first.wall.Seconds()))
		}
		return append(list, "flat")
	}
	before := rows[:len(rows)-1]
	// What the first size takes is mostly what every build takes.
	if len(before) == 1 {
		return list
	}
	if each, was := marginal(rows), marginal(before); was > 0 && each > slack*was {
		return append(list, fmt.Sprintf("CPU IS %.1f TIMES LINEAR", each/was))
	}
	return append(list, "linear")
}

// marginal is what each unit costs by which the last row is larger than the one before, in seconds of CPU.
func marginal(rows []growthRow) float64 {
	a, b := rows[len(rows)-2], rows[len(rows)-1]
	return (b.cpu - a.cpu).Seconds() / float64(b.n-a.n)
}

const plotWidth, plotHeight = 60, 12

// plot draws wall (w), CPU (c) and peak (m) over the size, all with logarithmic axes: what is linear runs parallel to the
// dots, what is flat is level. Each curve has its own unit, and begins where its first size is.
func plot(rows []growthRow) string {
	if len(rows) < 2 {
		return ""
	}
	canvas := make([][]rune, plotHeight)
	for y := range canvas {
		canvas[y] = []rune(strings.Repeat(" ", plotWidth))
	}
	span := math.Log(float64(rows[len(rows)-1].n) / float64(rows[0].n))
	// put marks how far a value has grown over the first, at a size between the first (0) and the last (1).
	put := func(at, growth float64, mark rune) {
		x, y := int(at*(plotWidth-1)), int(math.Round(math.Log(growth)/span*(plotHeight-1)))
		if y = max(0, min(plotHeight-1, y)); canvas[y][x] == ' ' || canvas[y][x] == '.' {
			canvas[y][x] = mark
		} else if canvas[y][x] != mark {
			canvas[y][x] = '*'
		}
	}
	for x := range plotWidth {
		at := float64(x) / (plotWidth - 1)
		put(at, math.Exp(at*span), '.')
	}
	first := rows[0]
	for _, c := range []struct {
		mark  rune
		value func(growthRow) float64
	}{
		{'w', func(r growthRow) float64 { return r.wall.Seconds() }},
		{'c', func(r growthRow) float64 { return r.cpu.Seconds() }},
		{'m', func(r growthRow) float64 { return float64(r.peak) }},
	} {
		for _, r := range rows {
			put(math.Log(float64(r.n)/float64(first.n))/span, c.value(r)/c.value(first), c.mark)
		}
	}
	var b strings.Builder
	for y := plotHeight - 1; y >= 0; y-- {
		fmt.Fprintf(&b, "  %9s |%s\n", plotLabel(y, span), strings.TrimRight(string(canvas[y]), " "))
	}
	fmt.Fprintf(&b, "  %9s +%s\n  %9s  %-10d%*d  (w wall, c CPU, m memory, * several, . linear)\n",
		"", strings.Repeat("-", plotWidth), "", first.n, plotWidth-10, rows[len(rows)-1].n)
	return b.String()
}

// plotLabel is what a line of the plot stands for; every fourth has one.
func plotLabel(y int, span float64) string {
	if y%4 != 0 && y != plotHeight-1 {
		return ""
	}
	return fmt.Sprintf("x %.1f", math.Exp(float64(y)/(plotHeight-1)*span))
}
