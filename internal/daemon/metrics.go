package daemon

import (
	"context"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/trust"
)

// maxMetricNodes bounds the members with a sample of their own, those that end next first. meshkey_members tells how many there are.
const maxMetricNodes = 512

// page gathers families in order.
type page struct{ m *control.Metrics }

func (p page) add(name, kind, help string, samples ...control.Sample) {
	p.m.Families = append(p.m.Families, control.Family{Name: "meshkey_" + name, Help: help, Type: kind, Samples: samples})
}

func (p page) gauge(name, help string, v float64) {
	p.add(name, "gauge", help, control.Sample{Value: v})
}

func (p page) flag(name, help string, on bool) {
	v := 0.0
	if on {
		v = 1
	}
	p.gauge(name, help, v)
}

// by makes a family with one label from counts.
func (p page) by(name, kind, help, label string, counts map[string]uint64) {
	var samples []control.Sample
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		samples = append(samples, control.Sample{Labels: []control.Label{{Name: label, Value: k}}, Value: float64(counts[k])})
	}
	p.add(name, kind, help, samples...)
}

// Metrics implements control.Viewer.
func (d *Daemon) Metrics(ctx context.Context) (*control.Metrics, error) {
	s, err := d.Status(ctx)
	if err != nil {
		return nil, err
	}
	p := page{&control.Metrics{Families: []control.Family{}}}
	p.add("info", "gauge", "1, with the program's version and the mesh.", control.Sample{
		Labels: []control.Label{{Name: "version", Value: s.Version}, {Name: "mesh", Value: s.Mesh.Name}, {Name: "node", Value: s.Node.Name}}, Value: 1,
	})
	p.gauge("uptime_seconds", "Since the daemon began, or took a new key.", time.Since(d.started).Seconds())
	d.expiryMetrics(p)

	sessions, states := map[string]uint64{"full": 0}, map[string]uint64{"up": 0}
	streams := 0
	for _, x := range s.Peers {
		states[x.State]++
		streams += x.Streams
		if x.Session != "" {
			sessions[x.Session]++
		}
	}
	p.by("peers", "gauge", "Other members by state; revoked keys are counted as such.", "state", states)
	p.by("sessions", "gauge", "Sessions by what they may be used for.", "state", sessions)
	p.gauge("streams", "Streams that are open, both ways.", float64(streams))
	done, refused := d.node.Handshakes()
	p.add("handshakes_total", "counter", "Handshakes of others that succeeded here.", control.Sample{Value: float64(done)})
	p.by("handshakes_refused_total", "counter", "Handshakes of others that ended without a session, by reason.", "reason", refused)
	d.counterMetrics(p)
	d.trafficMetrics(p)

	p.gauge("audit_entries", "Entries of this node's audit log.", float64(s.Audit.Entries))
	p.flag("audit_degraded", "1 while the audit log cannot be written.", s.Audit.State != "ok")
	checkpoint := 0.0
	if !s.Audit.Checkpoint.IsZero() {
		checkpoint = float64(s.Audit.Checkpoint.Unix())
	}
	p.gauge("audit_checkpoint_timestamp_seconds", "When the audit log was signed last; 0: never.", checkpoint)
	p.gauge("members", "Members by the trust log, expired ones included.", float64(s.Trust.Members))
	p.gauge("revoked", "Keys that are revoked.", float64(s.Trust.Revoked))
	p.gauge("grants", "Grants in force.", float64(s.Trust.Grants))
	p.gauge("trust_root_version", "Version of the root that holds here.", float64(s.Trust.RootVersion))
	p.flag("trust_unwritten", "1 while the trust log cannot be written.", d.store.Err() != nil)
	p.flag("clock_behind", "1 if this clock stands before what the mesh has signed.", d.store.ClockBehind(time.Now().Unix()))
	warnings := map[string]uint64{}
	for _, w := range s.Warnings {
		warnings[w.Code]++
	}
	p.by("warnings", "gauge", "What meshkey status warns of, by code.", "code", warnings)
	return p.m, nil
}

// expiryMetrics are the ends of members' certificates, from the log.
func (d *Daemon) expiryMetrics(p page) {
	st, now := d.store.Current(), d.trustNow()
	var members []trust.Member
	tiers := map[string]uint64{"0": 0}
	for _, t := range expiryTiers {
		tiers[strconv.Itoa(t)] = 0
	}
	for m := range st.Members() {
		members = append(members, m)
		if e, ok := expiryOf(&m, now); ok {
			tiers[strconv.Itoa(e.TierDays)]++
		}
	}
	sort.SliceStable(members, func(i, j int) bool { return members[i].NotAfter < members[j].NotAfter })
	var samples []control.Sample
	for _, m := range members[:min(len(members), maxMetricNodes)] {
		samples = append(samples, control.Sample{
			Labels: []control.Label{{Name: "node", Value: m.Name}, {Name: "id", Value: m.Node.Compact()}}, Value: float64(m.NotAfter),
		})
	}
	p.add("certificate_not_after_timestamp_seconds", "gauge", "When a member's certificate ends, for those that end next.", samples...)
	p.by("certificates_expiring", "gauge", "Certificates near their end, by the days at most left; 0: ended, and renewed when its machine is back.", "days", tiers)
}

// counterMetrics are the node's counters. Their names are this program's own.
func (d *Daemon) counterMetrics(p page) {
	drops, events := map[string]uint64{}, map[string]uint64{}
	for name, v := range d.node.Counters() {
		if reason, ok := strings.CutPrefix(name, "beacon.drop."); ok {
			drops[reason] = v
		} else if !strings.HasPrefix(name, "handshake.") {
			events[name] = v
		}
	}
	p.by("beacons_dropped_total", "counter", "Datagrams that were no beacon worth believing, by reason.", "reason", drops)
	p.by("events_total", "counter", "What was dropped, refused or done, by name.", "event", events)
}
