package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sovereignmesh/meshkey/control"
)

// clean makes text of others harmless to a terminal: no control characters, no direction marks, one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// table writes rows in columns, two spaces apart. The last column is not padded.
func table(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(clean(cell)))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = clean(cell)
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	if d < 0 {
		return "-" + span(-d)
	}
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	}
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}}
	var parts []string
	for _, u := range units {
		if n := d / u.size; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
			d -= n * u.size
			if len(parts) == 2 {
				break
			}
		} else if len(parts) == 1 {
			break
		}
	}
	return strings.Join(parts, " ")
}

// millis is span for the milliseconds of a document.
func millis(ms int64) string { return span(time.Duration(ms) * time.Millisecond) }

// size writes bytes with three digits.
func size(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	f, units := float64(n), "kMGTPE"
	for i := range len(units) {
		f /= 1000
		if f < 999.5 || i == len(units)-1 {
			if f < 9.95 {
				return fmt.Sprintf("%.1f%c", f, units[i])
			}
			return fmt.Sprintf("%.0f%c", f, units[i])
		}
	}
	return ""
}

// count groups digits: 18,204.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a number with its noun.
func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// moment writes a time for people: in their zone, to the second.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// dash stands for what there is not.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// node writes a node's name, or its id where there is no name.
func node(n control.NodeRef) string {
	if n.Name != "" {
		return n.Name
	}
	return n.ID
}

// spread says how far a change has got: who has applied it and who has not.
func spread(s control.Spread) string {
	var done, todo []string
	for _, a := range s.Applied {
		t := fmt.Sprintf("%s %d ms", node(a.Node), a.AfterMS)
		if a.ClosedSessions > 0 || a.ClosedStreams > 0 {
			t += fmt.Sprintf(" (closed %s, %s)", plural(uint64(a.ClosedSessions), "session"), plural(uint64(a.ClosedStreams), "stream"))
		}
		done = append(done, t)
	}
	for _, p := range s.Pending {
		todo = append(todo, fmt.Sprintf("%s (%s)", node(p.Node), p.Reason))
	}
	text := "Applied by " + strings.Join(done, ", ")
	if len(done) == 0 {
		text = "Applied by nobody yet"
	}
	if len(todo) > 0 {
		text += " · NOT yet by " + strings.Join(todo, ", ")
	}
	return text
}

// parseSpan reads a duration as people write it: Go's form, and d for days and w for weeks ("8h", "90d", "1w").
func parseSpan(s string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if head, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseUint(head, 10, 16)
			if err != nil {
				return 0, control.Errorf(control.Usage, "write 30m, 8h, 90d or 2w", "%q is no duration", s)
			}
			return time.Duration(n) * unit, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, control.Errorf(control.Usage, "write 30m, 8h, 90d or 2w", "%q is no duration", s)
	}
	return d, nil
}

// parseWhen reads a moment: RFC 3339, a date, "yesterday", "today", "now", or how long ago ("2h").
func parseWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	y, m, d := now.Date()
	midnight := time.Date(y, m, d, 0, 0, 0, 0, now.Location())
	switch s {
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if ago, err := parseSpan(s); err == nil {
		return now.Add(-ago), nil
	}
	return time.Time{}, control.Errorf(control.Usage, "write 2026-11-01, 2026-11-01T10:00:00Z, yesterday, or 2h for two hours ago", "%q is no time", s)
}
