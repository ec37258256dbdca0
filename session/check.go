package session

import (
	"bytes"
	"errors"
	"fmt"
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

func (b Vec) check() error {
	if b.RootVersion == 0 {
		return errRange
	}
	if len(b.Issuers) > maxVector {
		return fmt.Errorf("%d issuers, at most %d", len(b.Issuers), maxVector)
	}
	for i := range b.Issuers {
		is := &b.Issuers[i]
		if is.Forked > 1 {
			return errFlag
		}
		if i > 0 && bytes.Compare(b.Issuers[i-1].Issuer[:], is.Issuer[:]) >= 0 {
			return errOrder
		}
	}
	return nil
}

func (b Want) check() error {
	if b.From == 0 || b.To < b.From {
		return errRange
	}
	return nil
}

func (b Object) check() error {
	limit := maxSmallEnvelope
	switch b.K {
	case KindRoot, KindEntry:
		limit = maxEnvelope
	case KindWitness:
		limit = maxEnvelope // a checkpoint with its consistency proof
	case KindHead, KindCertUpdate, KindRenew, KindPeer, KindReceipt, KindEnroll:
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

func (b Evidence) check() error {
	// Two entries of at most 32 KiB; together they are bounded by the record.
	if err := checkRaw(b.A, maxEnvelope); err != nil {
		return err
	}
	if err := checkRaw(b.B, maxEnvelope); err != nil {
		return err
	}
	if bytes.Equal(b.A, b.B) {
		return errors.New("one entry twice is no evidence")
	}
	return nil
}

func (b HashAt) check() error {
	if b.Seq == 0 {
		return errRange
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
	return nil
}

func (b Plain) check() error {
	if b.K != KindRekeyAsk && b.K != KindPending {
		return fmt.Errorf("%s is not empty", b.K)
	}
	return nil
}

func (b Granted) check() error {
	if err := checkRaw(b.Certificate, maxSmallEnvelope); err != nil {
		return err
	}
	if len(b.Peers) > maxGrantedPeers {
		return fmt.Errorf("%d peers, at most %d", len(b.Peers), maxGrantedPeers)
	}
	for _, p := range b.Peers {
		if err := checkRaw(p, maxSmallEnvelope); err != nil {
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

func (b Unknown) check() error { return nil }
