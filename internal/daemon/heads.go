package daemon

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// headEvery is how often an issuer that may signs a head: what everybody else knows of the age of their view.
	headEvery = 300 * time.Second
	// headShare is into how many looks that is divided, so that one that is due after a start or a new right comes soon.
	headShare = 30
	// LeastStale is the least age from which on a root should call a view stale: one head may be lost.
	LeastStale = 2 * headEvery
	// headStart is waited after the start: what others have to tell of this issuer's chain comes first.
	headStart = 3 * time.Second
	// maxUptime is the longest uptime a peer is believed to have, in seconds: a century.
	maxUptime = 100 * 365 * 24 * 3600
)

// keepHeads signs a head of this host's issuer whenever one is due, for as long as the daemon runs. A head is freshness and no fact: one
// that is lost is followed by the next.
func (d *Daemon) keepHeads(ctx context.Context) {
	every := d.opts.HeadEvery
	if every == 0 {
		every = headEvery
	}
	timer := time.NewTimer(min(headStart, every))
	defer timer.Stop()
	said := ""
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(every / headShare)
		err := d.signHead(every)
		switch {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			d.log.Warn("no head is signed, so others cannot know how old their view is", "err", err)
		}
	}
}

func (d *Daemon) signHead(every time.Duration) error {
	signer := d.signer()
	if signer == nil {
		return nil
	}
	is, ok := d.store.Current().Root().Issuer(signer.Public())
	if !ok || !is.Caps.Has(trust.CapHead) || !is.Works(d.trustNow()) {
		return nil // told elsewhere
	}
	c, err := d.store.SignHead(signer, d.trustNow(), int64(every/time.Second))
	if errors.Is(err, trust.ErrHave) {
		// A head of this issuer is known that tells of a longer chain: this host's log is an old copy, and sync will bring the rest.
		return errors.New("the mesh knows a longer chain of this issuer than this machine: was its state brought back from a backup?")
	}
	if err == nil && c.Kind != 0 {
		d.node.Publish(c)
	}
	return err
}

// freshness tells how old the view is, as far as that can be known.
func freshness(t *control.TrustInfo, v trust.View) {
	t.HeadSigners = append([]string{}, v.Signers...)
	t.MaxStaleMS, t.StaleAction, t.Stale = v.MaxStale*1000, "warn", v.Stale
	if v.Restrict {
		t.StaleAction = "restrict"
	}
	if v.Known {
		ms := v.Age * 1000
		t.AgeMS = &ms
	}
	if v.LastEntry > 0 {
		t.LastEntry = time.Unix(v.LastEntry, 0).UTC()
	}
}

// staleWarnings tell of a view that is older than the root allows.
func staleWarnings(v trust.View) []control.Warning {
	if !v.Stale {
		return nil
	}
	w := control.Warning{Code: "trust-stale", Next: "name an issuer that signs heads (meshkey root issuer add), or lift the limit: meshkey root stale --after never"}
	if len(v.Signers) > 0 {
		w.Next = "see that the daemon of " + strings.Join(v.Signers, " or ") + " runs and can be reached"
	}
	age := "older"
	if v.Known {
		age = about(v.Age) + " old, older"
	}
	w.Text = "this node's view of the mesh is " + age + " than the root allows (" + about(v.MaxStale) + "): what was decided since is not known here"
	if v.Restrict {
		w.Text += "; no streams until a newer head comes"
	}
	return []control.Warning{w}
}

// healthDoc is what a peer has said of itself.
func healthDoc(p *mesh.PeerInfo) *control.Health {
	h := &control.Health{
		At: p.HealthAt.UTC(), Told: p.HealthTold, Version: p.Health.Version, UptimeMS: int64(min(p.Health.Uptime, maxUptime)) * 1000,
		Load: float64(p.Health.Load) / 100, DiskFree: p.Health.DiskFree,
	}
	switch p.Health.Audit {
	case session.AuditHealthy:
		h.Audit = "ok"
	case session.AuditDegraded:
		h.Audit = "degraded"
	}
	if p.Health.Time > 0 && p.Health.Time < 1<<48 && !p.HealthTold {
		h.ClockMS = int64(p.Health.Time) - p.HealthAt.UnixMilli()
	}
	return h
}

// about is a span of seconds in its largest unit of which there are two or more, or that fits.
func about(seconds int64) string {
	for _, u := range []struct {
		of   int64
		name string
	}{{24 * 3600, " d"}, {3600, " h"}, {60, " min"}} {
		if seconds >= 2*u.of || seconds > 0 && seconds%u.of == 0 {
			return itoa(int(seconds/u.of)) + u.name
		}
	}
	return itoa(int(seconds)) + " s"
}

// peerView is what a peer has told of its own view.
func peerView(p *mesh.PeerInfo, now int64) *control.PeerView {
	if p.View == "" {
		return nil
	}
	v := &control.PeerView{Same: p.View == "same", At: p.ViewAt.UTC()}
	if p.HeadTime > 0 {
		ms := max(0, now-p.HeadTime) * 1000
		v.AgeMS = &ms
	}
	return v
}
