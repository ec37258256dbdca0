package mesh

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/trust"
)

// Where a view is older than the root allows, running streams end, and the opener of a new one is told why there is none.
func TestStaleViewOpensNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	w.allow(a, b, "echo")
	a.run()
	b.run()
	b.echo("echo")
	full(a, b)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	cut := cutAt(c)
	raw, err := a.State().NewRoot(time.Now().Unix()-5, func(r *trust.Root) { r.Params.MaxStale, r.Params.StaleAction = 2, 1 }, w.root)
	ok(t, err)
	change, err := a.store.TakeRoot(raw)
	ok(t, err)
	a.Publish(change)
	select {
	case <-cut:
	case <-time.After(20 * time.Second):
		t.Fatal("a stream goes on in a stale view")
	}
	// The session's own end may be on its way yet, which is another error; none is success.
	eventually(t, "the opener is told", patience, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		c, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "echo"})
		if err == nil {
			c.Close()
			t.Fatal("a stream was opened in a stale view")
		}
		return errors.Is(err, ErrStaleView)
	})
}
