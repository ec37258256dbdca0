package session

import "time"

// A stream's path is dead when what was sent on it is repeated and not acknowledged any more. A reader that pauses is no dead path: its
// kernel says so again and again, and the stream waits, however long. TCP_USER_TIMEOUT takes the one for the other, so that streams go
// without it and are looked at instead.

// pathInfo is what the kernel knows of a connection's sending half.
type pathInfo struct {
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

// CheckPath ends the stream with [ErrPath] if its path is dead. It is to be called by one goroutine every few seconds.
func (s *Stream) CheckPath(now time.Time) {
	if i, ok := s.pathInfo(); ok && s.path.dead(i, now) {
		s.endWith(ErrPath)
	}
}
