package handshake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// DialConfig is what a dialer needs. All fields are required.
type DialConfig struct {
	Local Local
	// Gate is the handshake key of the newest generation this node holds.
	Gate keys.PSK
	// Suite is SuiteChaCha or SuiteAES: AES if this node has hardware for it and the peer's beacon says that it has, too.
	Suite keys.Suite
	// Responder is the node that must answer.
	Responder keys.NodeID
	// Verify decides about the peer once it is proved to be Responder.
	Verify VerifyFunc
	// Now is trust's clock, in unix seconds.
	Now func() int64
}

// EnrollDial is what a joiner needs: its own new identity, and what the invite says. All fields are required.
type EnrollDial struct {
	// Local has no certificate. Its mesh is the invite's.
	Local  Local
	Issuer keys.NodeID
	Invite identity.InviteID
	Secret keys.InviteSecret
	// Now is the local clock, in unix seconds.
	Now func() int64
}

// Dial performs the handshake on a connection just made. It sends nothing about this node before the responder has proved to be
// the node that was dialled and Verify has accepted it. On an error, an *Error, the connection is closed.
//
// A result does not yet say that the peer accepted: that is its first record.
func Dial(ctx context.Context, conn net.Conn, d DialConfig) (*Result, error) {
	return dial(ctx, conn, &d, func() (*initiator, []byte, error) {
		switch {
		case d.Suite == keys.SuiteEnroll:
			return nil, nil, fail(ReasonLocal, errors.New("suite 0x11 is for enrolment only"))
		case d.Verify == nil:
			return nil, nil, fail(ReasonLocal, errors.New("no Verify"))
		}
		return initiate(&d, d.Suite, d.Gate, identity.InviteID{})
	})
}

// DialEnroll performs the handshake of an enrolment. The result's peer is the node the invite names, with a certificate whose
// signature by the issuer it names was checked; that this issuer is one of the mesh's is for the caller to check once it has the
// roots, before it sends anything but its request for them.
func DialEnroll(ctx context.Context, conn net.Conn, e EnrollDial) (*Result, error) {
	d := DialConfig{Local: e.Local, Suite: keys.SuiteEnroll, Responder: e.Issuer, Now: e.Now}
	return dial(ctx, conn, &d, func() (*initiator, []byte, error) {
		if !e.Secret.IsSet() {
			return nil, nil, fail(ReasonLocal, fmt.Errorf("invite secret: %w", keys.ErrUnset))
		}
		return initiate(&d, keys.SuiteEnroll, e.Secret.PSK(e.Local.Mesh), e.Invite)
	})
}

func dial(ctx context.Context, conn net.Conn, d *DialConfig, start func() (*initiator, []byte, error)) (*Result, error) {
	deadline := time.Now().Add(TimeoutHandshake)
	return guarded(ctx, conn, func() (*Result, error) {
		if err := d.check(); err != nil {
			return nil, fail(ReasonLocal, err)
		}
		i, m1, err := start()
		if err != nil {
			return nil, err
		}
		if err := writeAll(conn, m1, deadline); err != nil {
			return nil, fail(ReasonWrite, fmt.Errorf("writing M1: %w", err))
		}
		m2 := make([]byte, SizeM2)
		if err := readExactly(conn, m2, deadline); err != nil {
			return nil, fail(ReasonShort, fmt.Errorf("reading M2: %w", err))
		}
		r, m3, err := i.finish(m2, d.Now())
		if err != nil {
			return nil, err
		}
		if err := writeAll(conn, m3, deadline); err != nil {
			return nil, fail(ReasonWrite, fmt.Errorf("writing M3: %w", err))
		}
		return r, nil
	})
}

// check refuses what is the caller's mistake before a byte is sent.
func (d *DialConfig) check() error {
	if err := d.Local.check(d.Suite == keys.SuiteEnroll); err != nil {
		return err
	}
	switch {
	case d.Responder.IsZero():
		return errors.New("no responder")
	case d.Responder == d.Local.Node:
		return errors.New("this node dials itself")
	case d.Now == nil:
		return errors.New("no clock")
	}
	return nil
}
