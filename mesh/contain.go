package mesh

import (
	"fmt"
	"net"

	"github.com/sovereignmesh/meshkey/audit"
)

// tune sets what every connection of the mesh wants.
func (n *Node) tune(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetNoDelay(true)
		setUserTimeout(t, userTimeout)
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
