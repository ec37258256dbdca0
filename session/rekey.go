package session

import (
	"fmt"

	"github.com/sovereignmesh/meshkey/keys"
)

// chainKey is the key of one direction of one stream in one generation.
type chainKey struct {
	generation uint64
	key        keys.TrafficKey
}

// rekeyReceive derives the next receiving key from the newest: K_{g+1} = KDF(X_{g+1}, K_g, …). It is kept until the peer says
// REKEY, which may name any generation kept.
func (s *Stream) rekeyReceive(number uint64, x keys.Exporter) error {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	if number != s.lastIn.generation+1 {
		return fmt.Errorf("stream is at generation %d, not before %d", s.lastIn.generation, number)
	}
	if len(s.chain) >= maxChain {
		return protocolError("%d generations without REKEY", len(s.chain))
	}
	s.lastIn = chainKey{number, x.NextStreamKey(s.lastIn.key)}
	s.chain = append(s.chain, s.lastIn)
	return nil
}

// rekeySend derives the next sending key. The next record is preceded by REKEY.
func (s *Stream) rekeySend(number uint64, x keys.Exporter) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	if number != s.lastOut.generation+1 {
		return // already there
	}
	s.lastOut = chainKey{number, x.NextStreamKey(s.lastOut.key)}
	s.outAhead.Store(true)
}

// announceIdle sends REKEY by itself on a stream that has sent nothing for many generations, so that the peer's chain does not
// overflow. If a write is under way, that one announces; if the socket has no room, the rest goes out with the next write.
func (s *Stream) announceIdle() {
	if !s.writeMu.TryLock() {
		return
	}
	defer s.unlockWrite()
	s.keyMu.Lock()
	ahead := s.lastOut.generation - s.outGen
	s.keyMu.Unlock()
	if ahead < announceAfter || !s.started || s.Cause() != nil || s.writeErr != nil || s.eof || s.unsent != nil {
		return
	}
	b := getBuffer(headerSize + minRecord + maxStreamBody)
	size, err := s.announceLocked(b.b)
	if err != nil {
		putBuffer(b)
		return
	}
	s.pushNowLocked(b, size)
}

// announceLocked seals REKEY{newest generation} under the old key and switches, if there is a newer key. It returns the bytes of
// dst used.
func (s *Stream) announceLocked(dst []byte) (int, error) {
	if !s.outAhead.Load() {
		return 0, nil
	}
	s.keyMu.Lock()
	next := s.lastOut
	s.outAhead.Store(false)
	s.keyMu.Unlock()
	body := encodeRekey(next.generation)
	dst[headerSize] = typeRekey
	n := 1 + copy(dst[headerSize+1:], body)
	size, err := s.sealOneLocked(dst, dst[headerSize:headerSize+n])
	if err != nil {
		return 0, err
	}
	s.out.rekey(next.key)
	s.outGen = next.generation
	s.keyedWritten.Store(s.written.Load())
	return size, nil
}

// switchInLocked handles the peer's REKEY.
func (s *Stream) switchInLocked(body []byte) error {
	number, err := parseRekey(body)
	if err != nil {
		return err
	}
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	for i, c := range s.chain {
		if c.generation == number {
			s.in.rekey(c.key)
			s.inGen = number
			s.keyedRead.Store(s.read.Load())
			clear(s.chain[:i+1])
			s.chain = s.chain[i+1:]
			return nil
		}
	}
	return protocolError("REKEY to generation %d, which is not next", number)
}
