package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
)

// clockApart is how far two clocks may differ, as beacons have it.
const clockApart = 2 * time.Minute

// examined are the things doctor looks at, in order, and the codes of the warnings about each. Every warning of status is a finding of
// doctor; one of a code that is not here stands at the end under "other".
var examined = []struct {
	name  string
	codes []string
	ok    func(d *Daemon, x *control.Doctor) string
}{
	{"membership", []string{"revoked", "revoked-told"}, fixed("this machine's key is a member's, and no peer says otherwise")},
	{"clock", []string{"clock-off"}, func(_ *Daemon, x *control.Doctor) string {
		return timeText(x.Clock) + ", as the peers' clocks or without one to compare"
	}},
	{"time floor", []string{"clock-behind"}, func(_ *Daemon, x *control.Doctor) string {
		if x.Floor.IsZero() {
			return "none yet"
		}
		return timeText(x.Floor) + ", not ahead of the clock"
	}},
	{"peers' clocks", []string{"clock-skew"}, fixed("none is far off")},
	{"certificate", []string{"expires-soon"}, func(d *Daemon, _ *control.Doctor) string {
		return "good until " + timeText(d.node.CertificateNotAfter())
	}},
	{"members' certificates", []string{"peer-expires-soon"}, fixed("none needs anybody")},
	{"root and issuers", []string{"root-fork", "issuer-fork", "issuer-expires", "issuer-unnamed", "no-issuer"}, fixed("no contradiction, and no key that ends soon")},
	{"trust view", []string{"trust-stale"}, func(d *Daemon, _ *control.Doctor) string {
		v := d.store.Current().View(d.trustNow())
		switch {
		case v.Known:
			return about(v.Age) + " old"
		case len(v.Signers) == 0:
			return "of unknown age: no issuer signs heads"
		}
		return "of unknown age: no head seen yet"
	}},
	{"trust log", []string{"trust-unwritten"}, fixed("written")},
	{"audit log", []string{"audit-degraded"}, func(d *Daemon, _ *control.Doctor) string {
		return fmt.Sprintf("written, %d entries", d.audit.Size())
	}},
	{"rotations", []string{"rotation-pending", "revoked-and-rotated"}, fixed("none is under way, and none crossed a revocation")},
	{"names", []string{"name-conflict", "name-changed"}, fixed("each of one member, and of the key it was at its first use here")},
}

func fixed(text string) func(*Daemon, *control.Doctor) string {
	return func(*Daemon, *control.Doctor) string { return text }
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Doctor implements control.Viewer.
func (d *Daemon) Doctor(ctx context.Context) (*control.Doctor, error) {
	p, err := d.Peers(ctx)
	if err != nil {
		return nil, err
	}
	x := &control.Doctor{Clock: time.Now().UTC().Truncate(time.Second), Checks: []control.Check{}}
	if f := d.store.Floor(); f > 0 {
		x.Floor = time.Unix(f, 0).UTC()
	}
	ends, _ := expiring(d.store.Current(), d.trustNow(), d.key.NodeID())
	found := d.warnings(p.Peers, ends)
	for _, e := range examined {
		well := true
		for _, w := range found {
			if slices.Contains(e.codes, w.Code) {
				well = false
				x.Checks = append(x.Checks, control.Check{Name: e.name, Code: w.Code, Text: w.Text, Fix: w.Next})
			}
		}
		if well {
			x.Checks = append(x.Checks, control.Check{Name: e.name, OK: true, Text: e.ok(d, x)})
		}
	}
	for _, w := range found {
		if !slices.ContainsFunc(x.Checks, func(c control.Check) bool { return c.Code == w.Code }) {
			x.Checks = append(x.Checks, control.Check{Name: "other", Code: w.Code, Text: w.Text, Fix: w.Next})
		}
	}
	return x, nil
}

// ResetTimeFloor implements control.Process. The record is durable before the floor is touched: if we crash in between, it says what was
// wanted, and the floor is the old one.
func (d *Daemon) ResetTimeFloor(_ context.Context, by control.Caller, r *control.ResetTimeFloorRequest) (*control.ResetTimeFloorResult, error) {
	now, floor := time.Now().Unix(), d.store.Floor()
	res := &control.ResetTimeFloorResult{Before: time.Unix(floor, 0).UTC(), After: time.Unix(now, 0).UTC(), Changed: now < floor, DryRun: r.DryRun}
	if !res.Changed {
		res.After = res.Before
		return res, nil
	}
	if r.DryRun {
		return res, nil
	}
	if err := d.record(by, audit.Event{Code: audit.ClockReset, Before: timeText(res.Before), After: timeText(res.After)}); err != nil {
		return nil, err
	}
	if err := d.store.ResetFloor(now); err != nil {
		return nil, control.Errorf(control.Failed, "make room or repair the disk, then try again", "%w", err)
	}
	d.log.Warn("the time floor was set back to the clock", "by", uidName(by.UID), "before", res.Before, "after", res.After)
	return res, nil
}

// floorWarning tells of a clock that stands before the time floor.
func (d *Daemon) floorWarning(now time.Time) []control.Warning {
	if !d.store.ClockBehind(now.Unix()) {
		return nil
	}
	floor := d.store.Floor()
	return []control.Warning{{
		Code: "clock-behind",
		Text: fmt.Sprintf("this machine's clock (%s) stands %s before the time floor (%s), and what ends is judged by the floor", timeText(now), about(floor-now.Unix()), timeText(time.Unix(floor, 0))),
		Next: "set the clock; if it is right: meshkey doctor --reset-time-floor",
	}}
}

// clockWarnings compare this machine's clock with the others': if it differs from all of several, it is this one.
func clockWarnings(peers []control.Peer) []control.Warning {
	var off []string
	known := 0
	for _, p := range peers {
		far := slices.Contains(p.Flags, "clock_skew")
		if h := p.Health; h != nil && !h.Told {
			known++
			ms := time.Duration(h.ClockMS) * time.Millisecond
			far = far || ms > clockApart || ms < -clockApart
		} else if far {
			known++
		}
		if far {
			name := p.Name
			if name == "" {
				name = p.ID
			}
			off = append(off, name)
		}
	}
	if len(off) >= 2 && len(off) == known {
		return []control.Warning{{
			Code: "clock-off", Text: fmt.Sprintf("this machine's clock is more than two minutes from those of all %d peers that it knows", known),
			Next: "set this machine's clock, and keep it right: timedatectl set-ntp true",
		}}
	}
	var out []control.Warning
	for _, name := range off {
		out = append(out, control.Warning{
			Code: "clock-skew", Text: name + "'s clock and this one are more than two minutes apart", Next: "see which of the two is wrong, and set it",
		})
	}
	return out
}
