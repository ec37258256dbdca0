package mesh

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
)

// tune sets what every connection of the mesh wants that carries a session, or nothing yet. Heartbeats are its keepalive.
func (n *Node) tune(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetNoDelay(true)
		setUserTimeout(t, userTimeout)
	}
}

// tuneStream sets what a stream wants, which may wait for a reader that pauses, and may be silent.
func (n *Node) tuneStream(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetNoDelay(true)
		setUserTimeout(t, 0)
		t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepEvery, Count: keepCount})
	}
}

// checkPaths ends streams whose path has died.
func (n *Node) checkPaths(now time.Time) {
	n.tally.mu.Lock()
	live := slices.Collect(maps.Keys(n.tally.live))
	n.tally.mu.Unlock()
	for _, c := range live {
		c.CheckPath(now)
	}
}

// recovered ends one connection whose handling panicked: a bug must not take the node down.
func (n *Node) recovered(what string, conn net.Conn) {
	if v := recover(); v != nil {
		reset(conn)
		n.panicked(what, v)
	}
}

func (n *Node) panicked(what string, v any) {
	n.count("panic")
	n.log.Error("recovered from a panic; the connection was closed", "in", what, "panic", fmt.Sprint(v))
	n.auditLater(audit.Event{Code: audit.PanicRecover, Target: what})
}
