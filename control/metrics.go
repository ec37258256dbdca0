package control

import (
	"bufio"
	"context"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Metrics are this node's figures at one moment, in the order they are written in.
type Metrics struct {
	Envelope
	Families []Family `json:"families"`
}

// SchemaName is the schema of the document.
func (*Metrics) SchemaName() string { return "meshkey.metrics/1" }

// Family is one figure with its samples. Type is gauge or counter; a counter's name ends in _total.
type Family struct {
	Name    string   `json:"name"`
	Help    string   `json:"help"`
	Type    string   `json:"type"`
	Samples []Sample `json:"samples"`
}

// Sample is one value. Labels stand in the order they are written in.
type Sample struct {
	Labels []Label `json:"labels,omitempty"`
	Value  float64 `json:"value"`
}

// Label is what a sample belongs to. Values may be what a peer has chosen: they are escaped and cut when they are written.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// metricsType is the content type of the text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// WriteMetrics writes the Prometheus text format 0.0.4. Families and labels whose names are none are left out, and of each family what is
// beyond maxSamples: a page that a scraper takes is worth more than one that has everything.
func WriteMetrics(w io.Writer, m *Metrics) error {
	b := bufio.NewWriter(w)
	for _, f := range m.Families {
		if !metricName(f.Name) || f.Type != "gauge" && f.Type != "counter" {
			continue
		}
		b.WriteString("# HELP " + f.Name + " " + escape(f.Help, false) + "\n# TYPE " + f.Name + " " + f.Type + "\n")
		for _, s := range f.Samples[:min(len(f.Samples), maxSamples)] {
			b.WriteString(f.Name)
			open := byte('{')
			for _, l := range s.Labels[:min(len(s.Labels), maxLabels)] {
				if !metricName(l.Name) {
					continue
				}
				b.WriteByte(open)
				b.WriteString(l.Name + `="` + escape(l.Value, true) + `"`)
				open = ','
			}
			if open == ',' {
				b.WriteByte('}')
			}
			b.WriteString(" " + metricValue(s.Value) + "\n")
		}
	}
	return b.Flush()
}

// metricName reports whether s is a name in both the metric's and the label's sense.
func metricName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel
}

// escape makes a text one that cannot end its line or its quotes, nor be longer than maxLabel characters.
func escape(s string, quotes bool) string {
	if utf8.RuneCountInString(s) > maxLabel && quotes {
		r := []rune(s)
		s = string(r[:maxLabel])
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '"' && quotes:
			b.WriteString(`\"`)
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func metricValue(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func (c *Client) Metrics(ctx context.Context) (*Metrics, error) {
	return get[Metrics](ctx, c, pathMetrics, nil)
}

// metricsText serves the text format, for a scraper that reads a unix socket.
func (s *Server) metricsText(w http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	m, err := s.cfg.Backend.View.Metrics(r.Context())
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, Errorf(Failed, "", "the daemon has no answer")
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", metricsType)
	w.Header().Set("Cache-Control", "no-store")
	WriteMetrics(w, m) // the client is gone if this fails
	http.NewResponseController(w).SetWriteDeadline(time.Time{})
	return nil, nil
}
