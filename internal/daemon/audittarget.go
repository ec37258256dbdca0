package daemon

import (
	"strings"

	"github.com/sovereignmesh/meshkey/keys"
)

// auditTarget turns the target of a filter into the forms the log holds. NODE/SERVICE stands there in three: with the node's id where this
// node was the caller, as it was written in a grant, and as the service alone where this node serves it.
func (d *Daemon) auditTarget(s string) (targets []string, service string) {
	if s == "" {
		return nil, ""
	}
	who, svc, ok := strings.Cut(s, "/")
	if !ok {
		// A service and a machine may share a name.
		if id := d.auditName(s); id != s {
			return []string{id, s}, ""
		}
		return []string{s}, ""
	}
	targets = []string{s}
	id := d.auditName(who)
	if n, err := keys.ParseNodeID(who); err == nil {
		id = n.Compact()
	}
	if id != who {
		targets = append(targets, id+"/"+svc)
	}
	if id == d.key.NodeID().Compact() {
		service = svc
	}
	return targets, service
}
