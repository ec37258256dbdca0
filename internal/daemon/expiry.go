package daemon

import (
	"fmt"
	"sort"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	day = 24 * 3600 // seconds
	// expiryDegraded is the tier, in days, from which a coming end counts as something that is wrong.
	expiryDegraded = 7
	// renewGrace is how long after its end a certificate renews itself, in seconds, as the trust log has it.
	renewGrace = 30 * day
	// maxExpiring bounds the list of coming ends, the next ones first.
	maxExpiring = 256
	// maxExpiryLines bounds the lines of the daemon's own log at one look.
	maxExpiryLines = 16
)

// expiryTiers are how many days before a certificate's end it is warned about, again at each.
var expiryTiers = [...]int{1, 7, 14, 30}

// Why a certificate is among the coming ends.
const (
	expiryLate   = "late"    // it renews itself, and should have
	expiryByHand = "by-hand" // its membership has a date, and that is near
	expiryGuest  = "guest"   // it was made to end
	expiryEnded  = "ended"   // it has, and renews itself when the machine is back
	expiryOver   = "over"    // it has, for too long to be renewed: told of this machine's own only
)

// expiring lists the members whose certificates end soon, by the log, which every node has: the next ones first. total counts those beyond
// the bound, too.
//
// A certificate that renews itself is renewed when a third of its life is left; it is among these when it is late by a thirtieth. One that
// does not is among them in the last third of its life, if that is less than 30 days: a guest of eight hours is not news all day.
func expiring(st *trust.State, now int64, self keys.NodeID) (out []control.Expiry, total int) {
	for m := range st.Members() {
		e, ok := expiryOf(&m, now)
		if e.Self = m.Node == self; ok || e.Self && e.Why == expiryOver {
			e.Degraded = e.TierDays <= expiryDegraded && (e.Self || e.Why != expiryGuest)
			e.Text, e.Next = expiryText(&e), expiryNext(&e)
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if a, b := out[i].NotAfter, out[j].NotAfter; !a.Equal(b) {
			return a.Before(b)
		}
		return out[i].Node.ID < out[j].Node.ID
	})
	return out[:min(len(out), maxExpiring)], len(out)
}

// expiryOf says whether a member's certificate is near its end, and what that means.
func expiryOf(m *trust.Member, now int64) (control.Expiry, bool) {
	left, life := m.NotAfter-now, m.NotAfter-m.NotBefore
	e := control.Expiry{
		Node: control.NodeRef{Name: m.Name, ID: m.Node.Compact()}, NotAfter: time.Unix(m.NotAfter, 0).UTC(), LeftMS: left * 1000,
	}
	itself := m.NotAfter < m.RenewUntil
	switch {
	case left <= 0 && itself && now < m.NotAfter+renewGrace:
		e.Why = expiryEnded
		return e, true
	case left <= 0:
		e.Why = expiryOver
		return e, false // others know, and it can only be enrolled again
	case itself:
		e.Why = expiryLate
		due := enroll.DueOf(m.NotBefore, m.NotAfter) + life/30
		if now < due {
			return e, false
		}
	default:
		e.Why = expiryByHand
		if m.RenewUntil == 0 {
			e.Why = expiryGuest
		}
		if left > life/3 {
			return e, false
		}
	}
	for _, t := range expiryTiers {
		if left <= int64(t)*day {
			e.TierDays = t
			return e, true
		}
	}
	return e, false
}

// expiryNext is what a person can do.
func expiryNext(e *control.Expiry) string {
	name := e.Node.Name
	switch {
	case e.Why == expiryEnded && e.Self:
		return "bring this machine to an issuer: it renews itself; meshkey peers"
	case e.Why == expiryEnded:
		return "start it: it renews itself when it reaches an issuer"
	case e.Why == expiryLate && e.Self:
		return "bring this machine to an issuer: meshkey peers; or meshkey invite " + name + " there, then meshkey enroll here"
	case e.Why == expiryLate:
		return "start it where it reaches an issuer; if it is gone for good: meshkey revoke " + name
	case e.Self:
		return "on an issuer: meshkey invite " + name + ", then meshkey enroll here"
	}
	return "if it shall stay: meshkey invite " + name + ", on an issuer"
}

// expiryText is a coming end in a sentence.
func expiryText(e *control.Expiry) string {
	who := e.Node.Name + "'s certificate"
	if e.Self {
		who = "this node's certificate"
	}
	left := time.Duration(e.LeftMS) * time.Millisecond
	switch e.Why {
	case expiryEnded, expiryOver:
		return fmt.Sprintf("%s ended %s ago", who, days(-left))
	case expiryLate:
		return fmt.Sprintf("%s ends in %s: it renews itself, and is late", who, days(left))
	case expiryGuest:
		return fmt.Sprintf("%s ends in %s, as a guest's does", who, days(left))
	}
	return fmt.Sprintf("%s ends in %s, and is not renewed any more", who, days(left))
}

// expiryWarnings are the coming ends that count as something wrong.
func expiryWarnings(list []control.Expiry) (out []control.Warning) {
	for _, e := range list {
		if !e.Degraded {
			continue
		}
		code := "peer-expires-soon"
		if e.Self {
			code = "expires-soon"
		}
		out = append(out, control.Warning{Code: code, Text: e.Text, Next: e.Next})
	}
	return out
}

// watchExpiry tells the daemon's log of every member that has come nearer to its end since the last look. told belongs to the caller.
func (d *Daemon) watchExpiry(told map[keys.NodeID]int) {
	st, now := d.store.Current(), d.trustNow()
	lines := 0
	near := map[keys.NodeID]int{}
	for m := range st.Members() {
		e, ok := expiryOf(&m, now)
		if e.Self = m.Node == d.key.NodeID(); !ok && !(e.Self && e.Why == expiryOver) {
			continue
		}
		near[m.Node] = e.TierDays
		if last, before := told[m.Node]; before && last <= e.TierDays {
			continue
		}
		if lines++; lines <= maxExpiryLines {
			d.log.Warn(expiryText(&e), "node", m.Node.Short(), "next", expiryNext(&e))
		}
	}
	if lines > maxExpiryLines {
		d.log.Warn("more certificates end soon", "count", lines-maxExpiryLines, "next", "meshkey status")
	}
	clear(told)
	for id, tier := range near {
		told[id] = tier
	}
}
