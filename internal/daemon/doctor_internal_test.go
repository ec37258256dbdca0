package daemon

import (
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/trust"
)

// One clock of several that differs is that one's; all of several that differ are this machine's own fault; of two nobody can say.
func TestClockWarnings(t *testing.T) {
	t.Parallel()
	peer := func(name string, ms int64, flags ...string) control.Peer {
		return control.Peer{NodeRef: control.NodeRef{Name: name, ID: name}, Health: &control.Health{ClockMS: ms}, Flags: flags}
	}
	beaconOnly := control.Peer{NodeRef: control.NodeRef{ID: "7QK4"}, Flags: []string{"clock_skew"}}
	told := control.Peer{NodeRef: control.NodeRef{Name: "far"}, Health: &control.Health{ClockMS: 1 << 40, Told: true}}
	for name, c := range map[string]struct {
		peers []control.Peer
		codes string
		text  string
	}{
		"nobody":           {nil, "", ""},
		"all near":         {[]control.Peer{peer("a", 119_000), peer("b", -119_000)}, "", ""},
		"one of three":     {[]control.Peer{peer("a", 0), peer("b", 121_000), peer("c", 5)}, "clock-skew", "b's clock"},
		"one behind":       {[]control.Peer{peer("a", 0), peer("b", -121_000)}, "clock-skew", "b's clock"},
		"the only one":     {[]control.Peer{peer("a", 1<<40)}, "clock-skew", "a's clock and this one"},
		"all of three":     {[]control.Peer{peer("a", 200_000), peer("b", 1<<40), beaconOnly}, "clock-off", "all 3 peers"},
		"by beacon":        {[]control.Peer{peer("a", 0), beaconOnly}, "clock-skew", "7QK4's clock"},
		"flag and health":  {[]control.Peer{peer("a", 0, "clock_skew"), peer("b", 0)}, "clock-skew", "a's clock"},
		"what others tell": {[]control.Peer{peer("a", 0), told}, "", ""},
	} {
		var codes []string
		text := ""
		for _, w := range clockWarnings(c.peers) {
			codes, text = append(codes, w.Code), text+w.Text
			if w.Next == "" {
				t.Errorf("%s: no fix", name)
			}
		}
		if strings.Join(codes, " ") != c.codes || !strings.Contains(text, c.text) {
			t.Errorf("%s: %v %q", name, codes, text)
		}
	}
}

func TestStaleWarnings(t *testing.T) {
	t.Parallel()
	if got := staleWarnings(trust.View{Known: true, Age: 5000, MaxStale: 6000}); got != nil {
		t.Errorf("within the limit: %v", got)
	}
	const tail = "): what was decided since is not known here"
	for want, v := range map[string]trust.View{
		"is 20 min old, older than the root allows (15 min" + tail:                                 {Known: true, Age: 1200, MaxStale: 900, Stale: true, Signers: []string{"nas"}},
		"is older than the root allows (15 min" + tail + "; no streams until a newer head comes":   {MaxStale: 900, Stale: true, Restrict: true},
		"is 3 d old, older than the root allows (1 h" + tail + "; no streams":                      {Known: true, Age: 3 * 24 * 3600, MaxStale: 3600, Stale: true, Restrict: true},
		"is 10 min old, older than the root allows (10 min" + tail + "; no streams until a newer ": {Known: true, Age: 601, MaxStale: 600, Stale: true, Restrict: true},
		"is 100 s old, older than the root allows (90 s" + tail:                                    {Known: true, Age: 100, MaxStale: 90, Stale: true},
	} {
		got := staleWarnings(v)
		if len(got) != 1 || got[0].Code != "trust-stale" || got[0].Next == "" || !strings.Contains(got[0].Text, want) {
			t.Errorf("%+v", got)
		}
	}
}
