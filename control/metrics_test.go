package control

import (
	"math"
	"regexp"
	"strings"
	"testing"
)

// line is what a scraper takes.
var line = regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .*|[a-z_]+(\{[a-z_]+="([^"\\\n]|\\["\\n])*"(,[a-z_]+="([^"\\\n]|\\["\\n])*")*\})? (NaN|[+-]Inf|[-+.0-9e]+))$`)

func metricsPage(t *testing.T, m *Metrics) []string {
	t.Helper()
	var b strings.Builder
	if err := WriteMetrics(&b, m); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for _, l := range lines {
		if !line.MatchString(l) {
			t.Errorf("no line of the format: %q", l)
		}
	}
	return lines
}

// Whatever a label's value is, it stays in its quotes, in its line, and short.
func TestMetricsEscapeHostileLabels(t *testing.T) {
	for _, hostile := range []string{
		`x"} 1`, "a\nb 2", `\`, `\"`, "\\\n", "\x00\x1b[31m\x7f", "\xff\xfe", strings.Repeat("ü", 500), strings.Repeat("\"", 500), "",
	} {
		lines := metricsPage(t, &Metrics{Families: []Family{{
			Name: "a_total", Type: "counter", Help: "h\n# x \\ y", Samples: []Sample{{Labels: []Label{{"node", hostile}, {"id", "1"}}, Value: 1}},
		}}})
		if len(lines) != 3 || !strings.HasSuffix(lines[2], `",id="1"} 1`) || len([]rune(lines[2])) > 2*maxLabel+40 {
			t.Errorf("%q: %q", hostile, lines)
		}
	}
}

// Names that are none are left out; families and labels are bounded.
func TestMetricsAreBounded(t *testing.T) {
	many := Family{Name: "many", Type: "gauge", Samples: make([]Sample, maxSamples+5)}
	for range maxLabels + 3 {
		many.Samples[0].Labels = append(many.Samples[0].Labels, Label{"l", "v"})
	}
	lines := metricsPage(t, &Metrics{Families: []Family{
		{Name: "bad name", Type: "gauge", Samples: []Sample{{Value: 1}}},
		{Name: "x", Type: "bad\n", Samples: []Sample{{Value: 1}}},
		{Name: "", Type: "gauge"},
		{Name: strings.Repeat("a", maxLabel+1), Type: "gauge"},
		{Name: "good", Type: "gauge", Samples: []Sample{{Labels: []Label{{"bad label", "v"}, {"9", "v"}}, Value: 2}}},
		many,
	}})
	if lines[2] != "good 2" || len(lines) != 3+2+maxSamples || strings.Count(lines[5], "l=") != maxLabels {
		t.Fatalf("%d lines, %q", len(lines), lines[:6])
	}
}

func TestMetricValues(t *testing.T) {
	for want, v := range map[string]float64{
		"0": 0, "1800000000": 1.8e9, "-3": -3, "0.25": 0.25, "1e+300": 1e300, "+Inf": math.Inf(1), "-Inf": math.Inf(-1), "NaN": math.NaN(),
	} {
		if got := metricValue(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
