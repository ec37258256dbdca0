package session

import (
	"fmt"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Keyring makes the keys and tags of one control session's streams. It outlives the session as long as streams hold it.
//
// The owner registers it with [Tags], passes it to [Open] and [Warm], and tells Tags of each rekey and of the end of the session.
// Streams join and leave by themselves.
type Keyring struct {
	// immutable
	suite keys.Suite
	role  keys.Role // of this side in the session
	skip  func(counter uint64)

	// guarded by mu
	mu          sync.Mutex
	generations []generation         // live ones, oldest first; at least one
	sending     uint64               // generation new streams of ours begin with
	next        uint64               // counter of our next stream
	ended       bool                 // no more streams of ours
	moved       uint64               // bytes of streams that have left
	streams     map[*Stream]struct{} // made with the first, as parked is
	parked      map[*Parked]struct{}

	// guarded by Tags.mu of the table it is registered with
	window *window
}

// generation is one exporter, from its installation until it is erased.
type generation struct {
	number uint64
	x      keys.Exporter
	erase  time.Time // zero while in use
}

// NewKeyring makes the ring of a session on the side with the given role. skip is called, without locks, with each counter that
// was used up and not answered: the owner sends SKIP{counter} on the control session. It may be nil.
func NewKeyring(k keys.Session, role keys.Role, skip func(counter uint64)) *Keyring {
	return &Keyring{
		suite: k.Suite, role: role, skip: skip, sending: k.Generation,
		generations: []generation{{number: k.Generation, x: k.Exporter}},
	}
}

// Suite returns what the streams are sealed with.
func (r *Keyring) Suite() keys.Suite { return r.suite }

// peerRole is the role of the side whose streams this side takes.
func (r *Keyring) peerRole() keys.Role { return keys.RoleAcceptor - r.role }

// ticket is the right to one stream connection: a counter of one role, never given out twice.
type ticket struct {
	generation uint64
	counter    uint64
	tag        keys.Tag
	out, in    keys.TrafficKey // of the sender of S1
}

// take uses up the next counter. It is called after TCP connect, so that a counter is not lost to a dead address.
func (r *Keyring) take() (ticket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return ticket{}, ErrEnded
	}
	g := r.findLocked(r.sending)
	t := ticket{generation: g.number, counter: r.next}
	r.next++
	t.tag = g.x.StreamTag(r.role, t.counter)
	t.out = g.x.StreamKey(r.role, t.counter, keys.DirForward)
	t.in = g.x.StreamKey(r.role, t.counter, keys.DirBack)
	return t, nil
}

// giveUp reports a counter that got no authentic answer.
func (r *Keyring) giveUp(counter uint64) {
	if r.skip != nil {
		r.skip(counter)
	}
}

func (r *Keyring) findLocked(number uint64) *generation {
	for i := range r.generations {
		if r.generations[i].number == number {
			return &r.generations[i]
		}
	}
	return nil
}

// newestLocked is the last generation installed.
func (r *Keyring) newestLocked() *generation { return &r.generations[len(r.generations)-1] }

// join makes a stream a member, which from now on follows every rekey, and catches up on those since its S1.
func (r *Keyring) join(s *Stream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.generations {
		g := &r.generations[i]
		if g.number <= s.generation || !g.x.IsSet() {
			continue
		}
		if err := s.rekeyReceive(g.number, g.x); err != nil {
			return err
		}
		if g.number <= r.sending {
			s.rekeySend(g.number, g.x)
		}
	}
	if r.ended {
		s.orphan.Store(true)
	}
	if r.streams == nil {
		r.streams = map[*Stream]struct{}{}
	}
	r.streams[s] = struct{}{}
	return nil
}

func (r *Keyring) leave(s *Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, member := r.streams[s]; member {
		read, written := s.Moved()
		r.moved += read + written
		delete(r.streams, s)
	}
}

// StreamUsage is what a ring's streams did with their keys.
type StreamUsage struct {
	Moved    uint64 // bytes of application data of all streams, also of those that have ended
	Heaviest uint64 // bytes the busiest direction of one stream has moved under its present key
}

// Usage returns what the ring's streams have moved.
func (r *Keyring) Usage() StreamUsage {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := StreamUsage{Moved: r.moved}
	for s := range r.streams {
		keyedRead, keyedWritten := s.keyedRead.Load(), s.keyedWritten.Load() // first: they never pass what has moved
		read, written := s.Moved()
		u.Moved += read + written
		u.Heaviest = max(u.Heaviest, read-keyedRead, written-keyedWritten)
	}
	return u
}

// Streams returns how many streams hold this ring.
func (r *Keyring) Streams() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams)
}

// install adds the next generation for receiving. See [Tags.Install].
func (r *Keyring) install(number uint64, x keys.Exporter) error {
	r.mu.Lock()
	if newest := r.newestLocked().number; number != newest+1 || r.ended {
		r.mu.Unlock()
		return fmt.Errorf("installing generation %d after %d", number, newest)
	}
	r.generations = append(r.generations, generation{number: number, x: x})
	var full []*Stream
	for s := range r.streams {
		if err := s.rekeyReceive(number, x); err != nil {
			full = append(full, s)
		}
	}
	r.mu.Unlock()
	for _, s := range full {
		s.Reset(CodeLimit)
	}
	return nil
}

// change begins to send with the newest generation. See [Tags.Switch].
func (r *Keyring) change(now time.Time) {
	r.mu.Lock()
	g := r.newestLocked()
	r.sending = g.number
	streams := make([]*Stream, 0, len(r.streams))
	for s := range r.streams {
		s.rekeySend(g.number, g.x)
		streams = append(streams, s)
	}
	for i := range r.generations[:len(r.generations)-1] {
		if old := &r.generations[i]; old.erase.IsZero() {
			old.erase = now.Add(RetireGrace)
		}
	}
	var stale []*Parked
	for p := range r.parked {
		if p.opened {
			stale = append(stale, p)
		}
	}
	r.mu.Unlock()
	for _, p := range stale {
		p.Close()
	}
	for _, s := range streams {
		s.announceIdle()
	}
}

// sweep erases exporters whose time has come.
func (r *Keyring) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.generations) > 1 && !r.generations[0].erase.IsZero() && !now.Before(r.generations[0].erase) {
		r.generations[0] = generation{}
		r.generations = r.generations[1:]
	}
}

// erase forgets every exporter, once no tag is valid any more.
func (r *Keyring) erase() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.generations {
		r.generations[i].x = keys.Exporter{}
	}
}

// end notes that the session is over, and closes what is parked. See [Tags.Unregister].
func (r *Keyring) end() {
	r.mu.Lock()
	r.ended = true
	for s := range r.streams {
		s.orphan.Store(true)
	}
	parked := make([]*Parked, 0, len(r.parked))
	for p := range r.parked {
		parked = append(parked, p)
	}
	r.mu.Unlock()
	for _, p := range parked {
		p.Close()
	}
}

// members returns the streams that hold the ring now.
func (r *Keyring) members() []*Stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Stream, 0, len(r.streams))
	for s := range r.streams {
		all = append(all, s)
	}
	return all
}
