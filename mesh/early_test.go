package mesh

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/session"
)

// What a caller has to send already goes with the request, once, whether the connection is new, parked, or one of the peer's.
func TestDialEarly(t *testing.T) {
	_, a, b, _, _, la, lb := watched(t)
	for _, way := range []struct {
		name     string
		from, to *host
		link     *link
	}{{"direct", a, b, la}, {"reverse", b, a, lb}} {
		for i := range 3 { // the first over a new one, if there is a way to make one
			asked := 0
			c, err := way.from.DialEarly(t.Context(), Target{Node: way.to.key.NodeID(), Service: "echo"}, func(p []byte) int {
				asked++
				return copy(p, "early ")
			})
			ok(t, err)
			c.SetDeadline(time.Now().Add(patience))
			_, err = io.WriteString(c, "late")
			ok(t, err)
			ok(t, c.CloseWrite())
			if got, err := io.ReadAll(c); err != nil || string(got) != "early late" || asked != 1 {
				t.Fatalf("%s %d: %q %v, asked %d times", way.name, i, got, err, asked)
			}
			eventually(t, "another is ready", patience, func() bool { return way.link.warm.ready.Len() > 0 })
		}
	}
}

// A request that had data with it is not repeated when no answer came: the service may have seen it. One without is.
func TestEarlyIsNotRepeated(t *testing.T) {
	for _, text := range []string{"early", ""} {
		_, a, b, da, _, la, _ := watched(t)
		ok(t, a.dial(b, "echo").Close())
		eventually(t, "ready", patience, func() bool { return la.warm.under.Load() == 0 && la.warm.ready.Len() > 0 })
		asked := 0
		c, err := a.DialEarly(t.Context(), Target{Node: b.key.NodeID(), Service: "echo"}, func(p []byte) int {
			if asked++; asked == 1 {
				ok(t, da.last.Load().SetReadDeadline(time.Unix(1, 0))) // as if the answer never came
			}
			return copy(p, text)
		})
		if text == "" {
			ok(t, err)
			ok(t, pings(c))
			continue
		}
		if !errors.Is(err, session.ErrUnanswered) || asked != 1 {
			t.Fatal(c, err, asked)
		}
	}
}
