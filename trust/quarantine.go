package trust

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/keys"
)

// Quarantined is something signed that made this program fail when it was applied. The state is as it was before, and whoever sends it is
// not to blame: every node of this version has the same bug.
type Quarantined struct {
	Issuer keys.PublicKey // of an entry; zero for other frames
	Seq    uint64
	Hash   keys.Hash // of the entry, or of the frame
	Why    string
}

// String says what it is.
func (q Quarantined) String() string {
	if q.Issuer.IsZero() {
		return "frame " + q.Hash.String()
	}
	return fmt.Sprintf("entry %d of %s", q.Seq, q.Issuer.String()[:16])
}

// quarantineError is the first failure of one.
type quarantineError struct{ q Quarantined }

func (e *quarantineError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.q, ErrQuarantined, e.q.Why)
}

// Is makes it ErrQuarantined.
func (*quarantineError) Is(target error) bool { return target == ErrQuarantined }

// quarantine is what was put aside in this run.
type quarantine struct {
	set  map[keys.Hash]bool
	list []Quarantined
}

func (z *quarantine) has(h keys.Hash) bool { return z.set[h] }

// catch turns a panic into an error, and puts aside what it was about: one entry must not take all nodes down again and again.
func (z *quarantine) catch(q Quarantined, err *error) {
	p := recover()
	if p == nil {
		return
	}
	q.Why = fmt.Sprintf("%.200v", p)
	if len(z.list) < maxQuarantine {
		put(&z.set, q.Hash, true)
		z.list = append(z.list, q)
	}
	*err = &quarantineError{q}
}

// aside notes what was put in quarantine just now.
func (r *Result) aside(err error) {
	if q, ok := errors.AsType[*quarantineError](err); ok {
		r.Quarantined = append(r.Quarantined, q.q)
	}
}

// Quarantined lists what was put aside since the log was opened, the log's own entries included: apply of this program failed on them.
func (s *Store) Quarantined() []Quarantined {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Quarantined(nil), s.rep.quarantine.list...)
}

// FailOn lets f run before each application of an entry that others sent, where it may panic: for tests of what is around a Store.
func (s *Store) FailOn(f func(*Entry)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rep.testApply = f
}
