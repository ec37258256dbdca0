package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// learn reads the log until nothing the issuer has is missing.
func (j *joiner) learn() error {
	defer j.askOn()()
	for {
		b, raw, err := j.receive()
		if err != nil {
			if ce, ok := errors.AsType[*session.ClosedError](err); ok && ce.Code == session.CodeLimit {
				return errors.New("the issuer enrols too many machines at this moment; run the same command again, the invite is still yours")
			}
			return fmt.Errorf("learning the mesh's trust log: %w", err)
		}
		if r, ok := b.(session.Refused); ok {
			return j.refused(r.Code)
		}
		if whole, err := j.learned(b.Kind(), raw); whole || err != nil {
			return err
		}
	}
}

// askOn asks for more of the log as time allows, until the function it returns is called: an answer alone does not bring the next
// question where as much was asked for as may be at a time.
func (j *joiner) askOn() (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(learnTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			j.mu.Lock()
			if j.sync != nil {
				// What cannot be sent is found out by the one who reads. It must not wait for it for ever.
				_ = j.conn.SetWriteDeadline(time.Now().Add(learnWrite))
				_ = j.send(j.sync.Tick(j.mono()))
				_ = j.conn.SetWriteDeadline(time.Time{})
			}
			j.mu.Unlock()
		}
	})
	return func() {
		close(quit)
		wg.Wait()
	}
}

// learned takes a record of the issuer and reports whether the log is whole.
func (j *joiner) learned(k session.Kind, raw []byte) (whole bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch k {
	case session.KindRoot, session.KindVec, session.KindEntry, session.KindEvidence, session.KindHead:
	default:
		return false, nil
	}
	if j.memory == nil {
		var o logObject
		if k != session.KindRoot || wire.Unmarshal(raw, &o) != nil {
			return false, fmt.Errorf("%w: it does not begin with its first root", ErrWrongMesh)
		}
		if j.memory, err = trust.NewMemory(o.Raw, j.cfg.Invite.Heads); err != nil {
			return false, fmt.Errorf("%w: %w", ErrWrongMesh, err)
		}
		if j.memory.Current().Mesh() != j.cfg.Invite.Mesh {
			return false, fmt.Errorf("%w: its first root founds another mesh", ErrWrongMesh)
		}
		hub := trust.NewHub(j.memory)
		hub.SetRate(cmp.Or(j.cfg.rate, trust.HurryRate))
		j.sync = hub.NewSync(false)
		return false, nil
	}
	if err := j.trustFrame(k, raw); err != nil {
		return false, err
	}
	if k == session.KindVec {
		if err := j.lacksHead(raw); err != nil {
			return false, err
		}
		if err := j.send(j.sync.Vec(j.mono())); err != nil {
			return false, err
		}
	}
	return j.sync.Synced(), nil
}

// lacksHead looks at the first vector for what the invite promises: an issuer that does not hold the chains it made the invite with is
// not the one that made it, and waiting for them would be in vain.
func (j *joiner) lacksHead(raw []byte) error {
	v, err := trust.ParseVector(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrongMesh, err)
	}
	for _, h := range j.cfg.Invite.Heads {
		held := false
		for _, p := range v.Issuers {
			held = held || p.Issuer == h.Issuer && (p.Seq > h.Seq || p.Seq == h.Seq && p.Hash == h.Hash)
		}
		if !held {
			return fmt.Errorf("%w: an issuer's log is not the one the invite names", ErrWrongMesh)
		}
	}
	return nil
}
