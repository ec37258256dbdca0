package stats

import (
	"math"
	"slices"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Summary
	}{
		{nil, Summary{}},
		{[]float64{math.NaN(), math.Inf(1)}, Summary{}},
		{[]float64{3}, Summary{3, 3, 3, 1}},
		{[]float64{9, 1, 5}, Summary{5, 1, 9, 3}},
		{[]float64{4, 1, math.NaN(), 2, 3}, Summary{2.5, 1, 4, 4}},
	} {
		given := slices.Clone(c.in)
		if got := Summarize(c.in); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.in, got, c.want)
		}
		if len(given) > 0 && !math.IsNaN(given[0]) && !slices.Equal(given, c.in) && !math.IsNaN(given[len(given)/2]) {
			t.Errorf("%v was changed to %v", given, c.in)
		}
	}
}

// The machine was half as fast in the second round: the ratio must not see that.
func TestRatiosAreOfOneRound(t *testing.T) {
	a := map[int]float64{0: 10, 1: 5, 2: 12, 4: 7}
	b := map[int]float64{0: 20, 1: 10, 2: 24, 3: 1, 4: 0}
	if got := Ratios(a, b); !slices.Equal(got, []float64{0.5, 0.5, 0.5}) {
		t.Errorf("%v", got)
	}
	if got := Ratios(a, nil); got != nil {
		t.Errorf("%v of nothing", got)
	}
}

func TestPercentile(t *testing.T) {
	v := make([]float64, 200)
	for i := range v {
		v[i] = float64(i + 1)
	}
	for p, want := range map[float64]float64{0: 1, 0.5: 100, 0.99: 198, 0.995: 199, 1: 200} {
		if got := Percentile(v, p); got != want {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
	}
	if Percentile(nil, 0.5) != 0 {
		t.Error("a percentile of nothing")
	}
	if Percentile([]float64{7}, 0.99) != 7 {
		t.Error("one value")
	}
}
