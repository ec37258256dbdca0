package core

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
)

// iface is what is remembered of one interface's beacons.
type iface struct {
	lastBeacon time.Duration
	unit       time.Duration // how much longer than usual its beacons' interval is
	mute       bool
	again      time.Duration // when it was last heard again after being mute
	muteT      *timer
}

// burst says hello three times, after a start or a change that peers cannot know of, then falls into the steady beat.
func (c *Core) burst() {
	c.beacons.Burst(c.clock())
	c.nextBeacon()
}

// clock is the monotonic time in the form the beacon schedule wants.
func (c *Core) clock() time.Time { return time.Unix(0, 0).Add(c.now.Mono) }

func (c *Core) nextBeacon() {
	c.beaconT.stop()
	c.beaconT = c.after(c.beacons.Next().Sub(c.clock()), func() {
		crowd := c.neighbours()
		c.beacons.SetInterval(time.Duration(crowd+1) * crowdShare)
		c.emit(SendBeacon{Flags: c.beacons.Flags(), Interval: c.beacons.Interval(), Crowd: crowd})
		c.beacons.Sent(c.clock())
		c.nextBeacon()
	})
}

func (c *Core) beaconIn(ev BeaconIn) {
	if _, revoked := c.st.Revoked(ev.Node); revoked {
		return
	}
	p := c.peerFor(ev.Node)
	if p == nil {
		return
	}
	if ev.Epoch > p.epoch || ev.Epoch == p.epoch && ev.Counter > p.counter {
		p.epoch, p.counter = ev.Epoch, ev.Counter
		p.record = ev.Envelope
		p.aes = ev.AES
		if ev.Boot != p.boot8 {
			p.boot8 = ev.Boot
			p.resetBackoff()
			// It restarted: the sessions held with it may be dead, which only asking can tell, and dials that hang were to a host
			// that was not there.
			c.askAll(p)
			c.cancelDials(p, hangingDial)
		} else if !slices.Equal(p.announced, ev.Endpoints) && p.announced != nil {
			c.askAll(p) // it has moved, and connections to where it was are dead without a word
		}
		p.announced = ev.Endpoints
		c.announcedAt(p)
	} else if ev.Told {
		return // an older record than the one held
	}
	src := sourceRecord
	if !ev.Told {
		src = sourceBeacon
		if !ev.Skewed {
			c.heardBeacon(p, ev)
		}
		p.probeAt = ev.ReplyTo
	}
	for _, at := range ev.Endpoints {
		c.addAddress(p, at, src)
	}
	if !p.lookT.pending() {
		c.lookAt(p, HintLife) // what is no presence is a hint, and hints end
	}
	c.found(p)
	if p.working() != nil {
		for _, s := range p.sessions {
			if !ev.Told {
				c.digestHint(s, ev.Digest)
			}
		}
		return
	}
	if c.crowded() {
		c.heardInCrowd(p, ev)
		return
	}
	// The lower id dials at once, the higher one only if that did not happen.
	if less(c.cfg.Self, p.id) {
		c.dialSoon(p, c.jitter(0, dialLowJitter))
	} else {
		c.dialSoon(p, dialHighDelay+c.jitter(0, dialHighJitter))
	}
}

// heardBeacon takes a beacon heard here as presence.
func (c *Core) heardBeacon(p *peer, ev BeaconIn) {
	if p.presence < Stale {
		p.resetBackoff() // it is back
	}
	p.lastBeacon, p.interval = c.now.Mono, ev.Interval
	p.hear(ev.Interface, c.now.Mono)
	if p.presence < Stale {
		c.setPresence(p, Stale, "beacon heard")
	}
	f := c.ifaces[ev.Interface]
	if f == nil {
		f = &iface{again: never}
		c.ifaces[ev.Interface] = f
	}
	f.lastBeacon, f.unit = c.now.Mono, stretch(ev.Interval)
	if f.mute {
		f.mute, f.again = false, c.now.Mono
		c.emit(Alarm{Code: "interface.unmute", Text: "beacons are heard again", Interface: ev.Interface})
	}
	if !f.muteT.pending() {
		c.watchMute(f, ev.Interface)
	}
}

func (p *peer) hear(iface int, at time.Duration) {
	for i := range p.heardOn {
		if p.heardOn[i].iface == iface {
			p.heardOn[i].at = at
			return
		}
	}
	if len(p.heardOn) >= maxHeardOn {
		oldest := 0
		for i := range p.heardOn {
			if p.heardOn[i].at < p.heardOn[oldest].at {
				oldest = i
			}
		}
		p.heardOn = slices.Delete(p.heardOn, oldest, oldest+1)
	}
	p.heardOn = append(p.heardOn, hearing{iface, at})
}

// stretch is how many times the usual interval a peer announces: on a crowded segment beacons are rarer, and patience longer.
func stretch(interval time.Duration) time.Duration {
	return (max(interval, Interval) + Interval - 1) / Interval
}

// lookAt plans the next look at a peer's presence. There is one timer per peer; it follows the newest sign of life, so those signs
// cost nothing, and peers that were never heard of cost no timer.
func (c *Core) lookAt(p *peer, d time.Duration) {
	p.lookT.stop()
	p.lookT = c.after(d, func() { c.look(p) })
}

// silentSince is where the count of a peer's silence begins: its last sign of life, or when a mute interface was heard again.
func (c *Core) silentSince(p *peer) time.Duration {
	since := p.lastPresence()
	for _, h := range p.heardOn {
		since = max(since, c.ifaces[h.iface].again)
	}
	return since
}

// look probes a peer that falls silent, prunes it when probes do not help, and forgets hints that nothing repeats.
func (c *Core) look(p *peer) {
	hints := c.dropHints(p)
	if p.presence >= Stale {
		c.lookAtSilence(p)
		return
	}
	since := max(p.lastPresence(), p.born)
	if silent := c.now.Mono - since; silent < HintLife {
		c.lookAt(p, HintLife-silent)
		return
	}
	if p.presence == Pruned {
		c.setPresence(p, Offline, "no sign of life")
	}
	switch {
	case p.enrolled && !hints: // stays listed, and costs no timer until it is heard again
	case !p.enrolled && len(p.sessions) == 0 && p.dialing == 0:
		c.forget(p)
	default:
		c.lookAt(p, HintLife)
	}
}

func (c *Core) lookAtSilence(p *peer) {
	since := c.silentSince(p)
	silent, unit := c.now.Mono-since, time.Duration(1)
	if len(p.sessions) == 0 {
		unit = stretch(p.interval)
	}
	if since != p.countedFrom {
		p.countedFrom, p.probes = since, 0
	}
	next := since - c.now.Mono // to which the limit is added
	switch {
	case silent < Probe1*unit:
		next += Probe1 * unit
	case silent < Probe2*unit:
		c.probe(p, 1)
		next += Probe2 * unit
	case silent < Dead*unit:
		c.probe(p, 2)
		next += Dead * unit
	case c.muted(p), len(p.sessions) > 0 && c.localFault():
		next = excuseLook
	default:
		c.prune(p, silent)
		next += HintLife
	}
	c.lookAt(p, max(next, 0))
}

// probe asks a silent peer for a unicast beacon, for broadcasts get lost.
func (c *Core) probe(p *peer, nth int) {
	if p.probes < nth && p.probeAt.IsValid() {
		p.probes++
		c.emit(SendBeacon{To: p.probeAt, Flags: beacon.FlagProbe, Interval: c.beacons.Interval()})
	}
}

// prune takes a silent peer for gone. Its sessions are as silent as it is.
func (c *Core) prune(p *peer, silent time.Duration) {
	for _, s := range slices.Clone(p.sessions) {
		c.close(s, codeNone, "silent")
	}
	p.presence = Pruned
	c.emit(PeerChanged{Peer: p.id, Presence: Pruned, Why: "silent", Silent: silent, Probes: p.probes})
	c.dialSoon(p, c.jitter(0, dialLowJitter))
}

func (c *Core) setPresence(p *peer, to Presence, why string) {
	if p.presence == to {
		return
	}
	from := p.presence
	p.presence = to
	if from < Stale && to >= Stale {
		c.lookAt(p, Probe1)
	}
	c.emit(PeerChanged{Peer: p.id, Presence: to, Why: why})
}

// watchMute marks an interface whose every peer fell silent at once: that is the network's doing, and nobody is pruned for it. It
// takes mutePeers that were heard up to the end; one silent peer says nothing about the interface, and neither does one that fell
// silent after others had.
func (c *Core) watchMute(f *iface, index int) {
	after := MuteAfter * f.unit
	f.muteT = c.after(f.lastBeacon+after-c.now.Mono, func() {
		if c.now.Mono-f.lastBeacon < MuteAfter*f.unit {
			c.watchMute(f, index)
			return
		}
		together := 0
		for _, p := range c.order {
			for _, h := range p.heardOn {
				if h.iface == index && p.enrolled && h.at >= f.lastBeacon-2*Interval*f.unit {
					together++
				}
			}
		}
		if together >= mutePeers {
			f.mute = true
			c.emit(Alarm{Code: "interface.mute", Text: "all beacons fell silent together", Interface: index})
			c.emit(PollNetwork{})
		}
	})
}

// muted reports whether every interface on which p was heard up to its end is mute.
func (c *Core) muted(p *peer) bool {
	mute := false
	for _, h := range p.heardOn {
		f := c.ifaces[h.iface]
		if h.at >= p.lastBeacon-2*Interval*stretch(p.interval) {
			if !f.mute {
				return false
			}
			mute = true
		}
	}
	return mute
}
