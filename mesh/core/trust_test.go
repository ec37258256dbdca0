package core

import "github.com/sovereignmesh/meshkey/trust"

// publish makes a change this host's own: it is in the log, and the core is told.
func (n *simNode) publish(changes ...trust.Change) {
	var own []trust.Change
	for _, c := range changes {
		own = append(own, n.s.f.apply(n.ledger, c.Frame))
	}
	n.step(TrustIn{Changes: own})
}
