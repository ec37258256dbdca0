package session

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
)

// The rules of each kind beyond its shape. They hold for what is sent and for what is received.

var (
	errFlag  = errors.New("flag is neither 0 nor 1")
	errOrder = errors.New("list is not sorted and unique")
	errRange = errors.New("number out of range")
)

func (b Ready) check() error {
	if b.State < SyncOnly || b.State > Draining {
		return fmt.Errorf("state %d", b.State)
	}
	return nil
}

func (b Sync) check() error {
	if k, err := wire.Kind(b.Raw); err != nil || Kind(k) != b.K || b.K < KindVec || b.K > KindHashAt {
		return fmt.Errorf("%s is no body of trust sync", b.K)
	}
	if len(b.Raw) > MaxBody {
		return fmt.Errorf("%d bytes do not fit a record", len(b.Raw))
	}
	return nil
}

func (b Object) check() error {
	limit := maxObject
	switch b.K {
	case KindWitness:
		limit = maxWitness
	case KindCertUpdate, KindRenew, KindPeer, KindReceipt, KindEnroll, KindLeave, KindHealth:
	default:
		return fmt.Errorf("%s carries no object", b.K)
	}
	return checkRaw(b.Raw, limit)
}

func checkRaw(raw []byte, limit int) error {
	if len(raw) == 0 || len(raw) > limit {
		return fmt.Errorf("object of %d bytes, want 1 to %d", len(raw), limit)
	}
	return nil
}

func (b Number) check() error {
	switch b.K {
	case KindAck:
		if b.N == 0 {
			return errRange
		}
	case KindDial:
		if b.N == 0 || b.N > maxDial {
			return errRange
		}
	case KindGoAway:
		if b.N == 0 || b.N > 255 {
			return errRange
		}
	case KindGroupGet, KindSkip:
	default:
		return fmt.Errorf("%s carries no number", b.K)
	}
	return nil
}

func (b Group) check() error { return nil }

func (b Find) check() error {
	if b.Node.IsZero() {
		return errors.New("no node id")
	}
	if b.Hops > MaxFindHops {
		return fmt.Errorf("more than %d hops", MaxFindHops)
	}
	return nil
}

func (b Plain) check() error {
	if b.K != KindRekeyAsk && b.K != KindPending {
		return fmt.Errorf("%s is not empty", b.K)
	}
	return nil
}

func (b Granted) check() error {
	if err := checkRaw(b.Certificate, maxObject); err != nil {
		return err
	}
	if len(b.Peers) > maxGrantedPeers {
		return fmt.Errorf("%d peers, at most %d", len(b.Peers), maxGrantedPeers)
	}
	for _, p := range b.Peers {
		if err := checkRaw(p, maxObject); err != nil {
			return err
		}
	}
	return nil
}

func (b Refused) check() error {
	if b.Code == 0 {
		return errRange
	}
	return nil
}

func (b Rotate) check() error { return checkRaw(b.Request, maxObject) }

func (b Answer) check() error {
	switch {
	case b.K != KindRotation && b.K != KindLeft:
		return fmt.Errorf("%s is no answer", b.K)
	case b.Code == 0 && b.K == KindRotation:
		return checkRaw(b.Raw, maxInviteText)
	case b.Code == 0:
		return checkRaw(b.Raw, maxLeftEntry)
	}
	if len(b.Raw) != 0 {
		return errors.New("an answer that carries more than it says")
	}
	return nil
}

func (b Unknown) check() error { return nil }
