package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/forward"
	"github.com/sovereignmesh/meshkey/mesh"
)

// checkEvery is how often a service's target is tried; the state peers are told comes from a real connection.
const checkEvery = 5 * time.Second

// firstCheck bounds the look at a target while somebody waits for expose.
const firstCheck = time.Second

// exposed is one service of this node.
type exposed struct {
	name   string
	target forward.Target
	http   bool
	remove func()
	cancel context.CancelFunc
}

// targetHandler serves a service by connecting to its target.
type targetHandler struct{ target forward.Target }

// Prepare connects to the target. Nothing is written to it before the stream is accepted.
func (h targetHandler) Prepare(ctx context.Context, _ mesh.Caller) (mesh.Prepared, error) {
	c, err := h.target.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return &splice{local: c}, nil
}

type splice struct {
	local forward.Local
	once  sync.Once
}

// Serve joins the stream and the target until both directions are over.
func (s *splice) Serve(ctx context.Context, c *mesh.Conn) {
	forward.Splice(ctx, s.local, c)
}

// Abort closes the connection to the target.
func (s *splice) Abort() { s.once.Do(func() { forward.Abort(s.local) }) }

// offer begins to serve a service and to watch its target.
func (d *Daemon) offer(ctx context.Context, e *exposed) error {
	proto := "tcp"
	if e.http {
		proto = "http"
	}
	remove, err := d.node.Handle(e.name, proto, targetHandler{e.target})
	if err != nil {
		return err
	}
	wctx, cancel := context.WithCancel(ctx)
	e.remove, e.cancel = remove, cancel
	d.watchers.Go(func() { d.watchTarget(wctx, e) })
	return nil
}

// watchTarget tries the target now and then and tells the mesh what it found.
func (d *Daemon) watchTarget(ctx context.Context, e *exposed) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		up, reason := probe(ctx, e.target)
		if ctx.Err() != nil {
			return
		}
		d.node.SetServiceState(e.name, up, reason)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// checkNow tries a new service's target at once, for whoever offers it, and returns a warning if nothing answers.
func (d *Daemon) checkNow(ctx context.Context, e *exposed) []control.Warning {
	ctx, cancel := context.WithTimeout(ctx, firstCheck)
	defer cancel()
	up, reason := probe(ctx, e.target)
	d.node.SetServiceState(e.name, up, reason)
	if up {
		return nil
	}
	return []control.Warning{{
		Code: "target-silent", Text: fmt.Sprintf("nothing answers on %s yet", e.target), Next: "start the service there; this machine looks every " + checkEvery.String(),
	}}
}

// probe opens and closes a connection to the target.
func probe(ctx context.Context, t forward.Target) (up bool, reason string) {
	c, err := t.Dial(ctx)
	if err != nil {
		return false, "the target does not answer"
	}
	_ = c.Close()
	return true, ""
}
