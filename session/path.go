package session

import "time"

// A stream's path is dead when what was sent on it is repeated and not acknowledged any more. A reader that pauses is no dead path: its
// kernel says so again and again, and the stream waits, however long. TCP_USER_TIMEOUT takes the one for the other, so that streams go
// without it and are looked at instead.

// pathInfo is what the kernel knows of a connection's sending half.
type pathInfo struct {
	unsent      bool   // something waits for the peer's window
	unacked     bool   // something is on its way
	acked       uint64 // bytes acknowledged so far
	retransmits int    // of what is on its way, without an answer
	probes      int    // of a closed window or a silent peer, without an answer
}

// path is what one look at a stream leaves for the next.
type path struct {
	acked uint64
	since time.Time // nothing was acknowledged since, though something was on its way; zero: all is well
}

// dead reports whether the path is dead, seen at now.
func (p *path) dead(i pathInfo, now time.Time) bool {
	switch {
	case i.probes >= deadProbes:
		return true
	case !i.unacked || i.acked != p.acked || p.since.IsZero():
		p.acked, p.since = i.acked, time.Time{}
		if i.unacked {
			p.since = now
		}
		return false
	}
	return i.retransmits >= deadRetransmits && now.Sub(p.since) >= DeadPath
}

// CheckPath ends the stream with [ErrPath] if its path is dead, and one that lingers when its last bytes are on their way. It is to be
// called by one goroutine every few seconds.
func (s *Stream) CheckPath(now time.Time) {
	i, ok := s.pathInfo()
	switch {
	case ok && s.path.dead(i, now):
		s.endWith(ErrPath)
	case !i.unsent && s.lingering.CompareAndSwap(true, false):
		s.shut()
	}
}

// linger keeps a closed stream whose reader pauses: what it has still to read lies in our kernel, which would give it up, and count it
// for nobody. It ends when that is on its way, by a reset, or with its path.
func (s *Stream) linger() bool {
	i, ok := s.pathInfo()
	if !ok || !i.unsent {
		return false
	}
	s.lingering.Store(true)
	return true
}

// shut closes the connection in order.
func (s *Stream) shut() error {
	s.leaveToKernel()
	err := s.conn.Close()
	s.gone()
	return err
}
