// Package stats summarises repeated measurements: medians with their spread, and ratios taken within each round. It assumes nothing of
// the distribution, and throws nothing away.
package stats

import (
	"math"
	"slices"
)

// Summary is what is said of one figure over all rounds. The zero value means that nothing was measured.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summarize takes the median of the values, the mean of the middle two if they are even, and their ends. Values that are no numbers are
// left out.
func Summarize(values []float64) Summary {
	v := slices.DeleteFunc(slices.Clone(values), func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) })
	if len(v) == 0 {
		return Summary{}
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + m) / 2
	}
	return Summary{Median: m, Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// Ratios divides a by b, pair by pair: two figures of one round met the same machine, those of different rounds did not. Pairs that lack
// either, or would divide by zero, are left out. Keys are rounds.
func Ratios(a, b map[int]float64) []float64 {
	var out []float64
	for round, x := range a {
		if y, ok := b[round]; ok && y != 0 {
			out = append(out, x/y)
		}
	}
	slices.Sort(out)
	return out
}

// Percentile returns the value that the share p of the sorted values does not exceed, by nearest rank, or 0 of nothing.
func Percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
