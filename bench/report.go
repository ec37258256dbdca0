package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sovereignmesh/meshkey/bench/internal/stats"
)

// schema names the format of --json; fields are only added.
const schema = "meshkey.bench/1"

// report is what is said of the results.
type report struct {
	Schema  string   `json:"schema"`
	Results *results `json:"results"`
	Figures []figure `json:"figures"`
	// Ratios are figures over the no-crypto forwarder's of the same round.
	Ratios  []figure  `json:"ratios"`
	Targets []verdict `json:"targets"`
}

// figure is one metric of one contestant over all rounds.
type figure struct {
	Contestant string `json:"contestant"`
	Metric     metric `json:"metric"`
	stats.Summary
}

// verdict is one target beside what was measured.
type verdict struct {
	What string `json:"what"`
	stats.Summary
	AtLeast  bool    `json:"at_least"`
	Want     float64 `json:"want"`
	Moonshot float64 `json:"moonshot,omitempty"`
	Unit     string  `json:"unit"`
	// Result is met, MISSED, or "not measured".
	Result string `json:"result"`
	digits int
}

const (
	met         = "met"
	missed      = "MISSED"
	notMeasured = "not measured"
)

// values are a contestant's figures of one metric, by round. A figure that is taken once stands for every round.
func (res *results) values(contestant string, m metric) map[int]float64 {
	out := make(map[int]float64)
	for _, t := range res.Turns {
		if v, ok := t.Values[m]; ok && t.Contestant == contestant {
			out[t.Round] = v
		}
	}
	for _, t := range res.Once {
		if v, ok := t.Values[m]; ok && t.Contestant == contestant {
			out[0] = v
		}
	}
	return out
}

func list(m map[int]float64) []float64 {
	var out []float64
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func summarize(res *results) *report {
	rep := &report{Schema: schema, Results: res}
	for _, name := range res.Order {
		for _, c := range columns {
			if s := stats.Summarize(list(res.values(name, c.key))); s.N > 0 {
				rep.Figures = append(rep.Figures, figure{name, c.key, s})
			}
		}
		for _, c := range relative {
			if s := stats.Summarize(stats.Ratios(res.values(name, c.key), res.values(namePlain, c.key))); s.N > 0 {
				rep.Ratios = append(rep.Ratios, figure{name, c.key, s})
			}
		}
	}
	for _, t := range targets {
		rep.Targets = append(rep.Targets, t.judge(res))
	}
	return rep
}

// judge holds the median against the target.
func (t promise) judge(res *results) verdict {
	v := verdict{What: t.what, AtLeast: t.atLeast, Want: t.want, Moonshot: t.moonshot, Unit: t.unit, Result: notMeasured, digits: t.digits}
	of := res.values(t.of, t.metric)
	if t.over == "" {
		v.Summary = stats.Summarize(list(of))
	} else {
		key := t.overKey
		if key == "" {
			key = t.metric
		}
		v.Summary = stats.Summarize(stats.Ratios(of, res.values(t.over, key)))
	}
	if v.N == 0 {
		return v
	}
	v.Result = missed
	if t.atLeast && v.Median >= t.want || !t.atLeast && v.Median <= t.want {
		v.Result = met
	}
	return v
}

// find finds a summary.
func find(figures []figure, contestant string, m metric) (stats.Summary, bool) {
	for _, f := range figures {
		if f.Contestant == contestant && f.Metric == m {
			return f.Summary, true
		}
	}
	return stats.Summary{}, false
}

// complete says what a strict run lacks: contestants, turns that failed, and targets whose contestants took part and that still have no
// figure.
func (rep *report) complete() error {
	var errs []error
	res := rep.Results
	for _, name := range res.Order {
		if why := res.Missing[name]; why != "" {
			errs = append(errs, fmt.Errorf("%s was not measured: %s", name, why))
		}
	}
	for _, f := range res.Failures {
		errs = append(errs, errors.New(f))
	}
	took := func(name string) bool { return name == "" || res.Titles[name] != "" && res.Missing[name] == "" }
	for i, t := range targets {
		if took(t.of) && took(t.over) && rep.Targets[i].Result == notMeasured && !(res.Options.Quick && onlyFull(t.metric)) {
			errs = append(errs, fmt.Errorf("no figure for the target %q", t.what))
		}
	}
	return errors.Join(errs...)
}

// onlyFull says whether a quick run leaves a metric out.
func onlyFull(m metric) bool {
	for _, f := range packageFigures {
		if f.key == m {
			return f.long
		}
	}
	return false
}

func (rep *report) writeJSON(name string) error {
	b, err := json.MarshalIndent(rep, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// number writes a value with so many digits after the point, and thousands apart.
func number(v float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	whole, part, dot := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if dot {
		part = "." + part
	}
	return sign + whole + part
}

// spread writes a median and, if there was more than one value, the ends.
func spread(s stats.Summary, digits int) string {
	if s.N == 1 {
		return number(s.Median, digits)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median, digits), number(s.Min, digits), number(s.Max, digits))
}

func (v verdict) bound(value float64) string {
	sign := "≤"
	if v.AtLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s %s", sign, strings.TrimSuffix(strings.TrimRight(number(value, max(v.digits, 2)), "0"), "."), v.Unit)
}

// writeTable prints the report for a terminal.
func (rep *report) writeTable(w io.Writer) error {
	var b strings.Builder
	res := rep.Results
	fmt.Fprintf(&b, "\n%s, %d cores, Linux %s, %s, commit %s, %d rounds; median (least–most)\n", res.Machine.CPU, res.Machine.Cores,
		res.Machine.Kernel, res.Machine.Go, res.Machine.Commit, res.Options.Rounds)
	for _, group := range groups() {
		b.WriteString("\n")
		align(&b, rep.rows(rep.Figures, group, false))
	}
	if len(rep.Ratios) > 0 {
		b.WriteString("\nover the no-crypto forwarder, round by round\n")
		align(&b, rep.rows(rep.Ratios, relative, false))
	}
	b.WriteString("\n")
	rows := [][]string{{"target", "measured", "wanted", ""}}
	for _, v := range rep.Targets {
		rows = append(rows, []string{v.What, v.measured(), v.bound(v.Want), v.Result})
	}
	align(&b, rows)
	for _, name := range res.Order {
		if why := res.Missing[name]; why != "" {
			fmt.Fprintf(&b, "%s: not measured: %s\n", name, why)
		}
	}
	for _, f := range res.Failures {
		fmt.Fprintf(&b, "failed: %s\n", f)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v verdict) measured() string {
	if v.N == 0 {
		return "–"
	}
	return spread(v.Summary, v.digits)
}

// rows are a table of these figures, with contestants by their names or by their titles.
func (rep *report) rows(figures []figure, group []column, titles bool) [][]string {
	rows := [][]string{{""}}
	for _, c := range group {
		rows[0] = append(rows[0], c.title)
	}
	for _, name := range rep.Results.Order {
		if rep.Results.Missing[name] != "" {
			continue
		}
		row := []string{name}
		if titles {
			row[0] = rep.Results.Titles[name]
		}
		for _, c := range group {
			cell := "–"
			if s, ok := find(figures, name, c.key); ok {
				cell = spread(s, c.digits)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// groups are the columns in tables that fit a page.
func groups() [][]column {
	var out [][]column
	for _, end := range []metric{cpu4, bulkFull, first, cpuSlow} {
		begin := 0
		for _, g := range out {
			begin += len(g)
		}
		for i, c := range columns {
			if c.key == end {
				out = append(out, columns[begin:i+1])
			}
		}
	}
	return out
}

// align writes rows in columns.
func align(b *strings.Builder, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, r := range rows {
		line := ""
		for i, c := range r {
			line += c + strings.Repeat(" ", width[i]-len([]rune(c))+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
