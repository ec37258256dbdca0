package mesh

import (
	"fmt"
	"net/netip"
	"sort"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// auditLater writes an event that needs not be durable before its effect. A log that cannot be written is the log's own alarm.
func (n *Node) auditLater(e audit.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if err := n.audit.Later(e); err != nil {
		n.count("audit.lost")
	}
}

// auditQuarantined tells what of the log itself this program failed on when it started.
func (n *Node) auditQuarantined() {
	for _, q := range n.store.Quarantined() {
		n.log.Error("this program fails on something in the trust log; it counts for nothing here: report it and upgrade", "what", q, "why", q.Why)
		n.auditLater(audit.Event{
			Code: audit.EntryReject, Actor: n.self.Compact(), Reason: "put in quarantine: " + q.Why, Verdict: audit.Denied, Target: q.String(),
		})
	}
}

func (n *Node) auditRefused(id keys.NodeID, code session.Code, at netip.AddrPort) {
	n.auditLater(audit.Event{
		Code: audit.SessionRefuse, Actor: id.Compact(), Target: at.String(), Verdict: audit.Denied, Reason: code.String(),
	})
}

func (n *Node) auditSessionClose(l *link, code session.Code, why string) {
	u := l.ctl.Limits(time.Now())
	reason := code.String()
	if (code == 0 || code == session.CodeNormal) && why != "" {
		reason = why
	}
	n.auditLater(audit.Event{
		Code: audit.SessionClose, Actor: l.peer.Node.Compact(), Session: l.name(), Reason: reason, Bytes: u.Sent + u.Received,
		Duration: time.Since(l.started), After: numbered(code),
	})
}

// numbered is a close code as the protocol numbers it.
func numbered(code session.Code) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprintf("code %d", uint8(code))
}

func (n *Node) auditStreamEnd(e *entry, who Caller, why string, code session.Code, began time.Time, in, out uint64) {
	ev := audit.Event{
		Code: audit.StreamClose, Actor: e.peer.Compact(), Target: e.service, Grant: who.Grant, Session: sessionName(e.session),
		Reason: why, Bytes: in + out, Duration: time.Since(began), After: numbered(code),
	}
	if !e.inbound {
		ev.Actor, ev.Target = n.self.Compact(), e.peer.Compact()+"/"+e.service
	}
	n.auditLater(ev)
	n.notify(Event{Kind: EventStream, Node: e.peer, Service: e.service, Text: "closed"})
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sortedKeys returns a map's keys in order.
func sortedKeys[K interface{ ~string | ~[32]byte }, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool { return fmt.Sprint(out[i]) < fmt.Sprint(out[j]) })
	return out
}

// counters are named counts of what was dropped, refused or done, for metrics and for explaining.
type counters struct {
	mu sync.Mutex
	m  map[string]uint64
}

func (n *Node) count(name string) { n.add(name, 1) }

func (n *Node) add(name string, by int) {
	if by == 0 {
		return
	}
	n.counters.mu.Lock()
	defer n.counters.mu.Unlock()
	if n.counters.m == nil {
		n.counters.m = map[string]uint64{}
	}
	n.counters.m[name] += uint64(by)
}

// Counters returns how often things were dropped, refused or done, by name.
func (n *Node) Counters() map[string]uint64 {
	out := map[string]uint64{}
	n.counters.mu.Lock()
	for k, v := range n.counters.m {
		out[k] = v
	}
	n.counters.mu.Unlock()
	c := n.receiver.Counters()
	out["beacon.received"], out["beacon.heard"] = c.Received, c.Heard
	for name, v := range c.Drops() {
		out["beacon.drop."+name] = v
	}
	return out
}
