package session

import (
	"bytes"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Kind is the first element of a control body.
type Kind uint64

// The kinds of control bodies.
const (
	KindReady      Kind = 1
	KindVec        Kind = 2
	KindWant       Kind = 3
	KindRoot       Kind = 4
	KindEntry      Kind = 5
	KindEvidence   Kind = 6
	KindHead       Kind = 7
	KindHashAt     Kind = 8
	KindAck        Kind = 9
	KindGroupGet   Kind = 10
	KindGroup      Kind = 11
	KindCertUpdate Kind = 12
	KindRenew      Kind = 13
	KindDial       Kind = 14
	KindSkip       Kind = 15
	KindPeer       Kind = 16
	KindFind       Kind = 17
	KindReceipt    Kind = 18
	KindGoAway     Kind = 19
	KindRekeyAsk   Kind = 20
	KindServices   Kind = 21
	KindWitness    Kind = 22
	KindEnroll     Kind = 23
	KindGranted    Kind = 24
	KindPending    Kind = 25
	KindRefused    Kind = 26
	KindRotate     Kind = 27
	KindRotation   Kind = 28
	KindLeave      Kind = 29
	KindLeft       Kind = 30
	lastKind            = KindLeft
	// KindHealth is of the kinds that a version which does not know them ignores.
	KindHealth Kind = 128
)

// String names the kind as the specification does.
func (k Kind) String() string {
	names := [...]string{
		"", "READY", "VEC", "WANT", "ROOT", "ENTRY", "EVIDENCE", "HEAD", "HASH_AT", "ACK", "GROUP_GET", "GROUP", "CERT_UPDATE",
		"RENEW", "DIAL", "SKIP", "PEER", "FIND", "RECEIPT", "GOAWAY", "REKEY_ASK", "SERVICES", "WITNESS", "ENROLL", "GRANTED",
		"PENDING", "REFUSED", "ROTATE", "ROTATION", "LEAVE", "LEFT",
	}
	if k >= 1 && k <= lastKind {
		return names[k]
	}
	if k == KindHealth {
		return "HEALTH"
	}
	return fmt.Sprintf("kind %d", uint64(k))
}

// onlyEnrolment reports the kinds that exist in an enrolment session alone.
func (k Kind) onlyEnrolment() bool { return k >= KindEnroll && k <= KindRefused }

// enrolment reports the kinds an enrolment session may carry: its own, and those that bring the newcomer the trust log.
func (k Kind) enrolment() bool {
	return k.onlyEnrolment() || k == KindVec || k == KindWant || k == KindRoot || k == KindEntry || k == KindEvidence ||
		k == KindHead || k == KindAck || k >= firstIgnored && k != KindHealth
}

// Body is one control body. The types of this file are all there are.
type Body interface {
	// Kind is the body's first element on the wire.
	Kind() Kind
	check() error
}

// Ready is READY [1, state, unsynced 0|1]: what the sender holds the session for. unsynced: the sender decided without having
// compared its view of the trust log with another peer.
type Ready struct {
	State    State
	Unsynced bool
}

// readyWire is Ready as the wire has it, with 0 and 1 where Go has a bool.
type readyWire struct {
	_        struct{} `cbor:",toarray"`
	K        Kind
	State    State
	Unsynced uint8
}

// MarshalCBOR writes the wire form.
func (b Ready) MarshalCBOR() ([]byte, error) {
	w := readyWire{K: KindReady, State: b.State}
	if b.Unsynced {
		w.Unsynced = 1
	}
	return wire.Marshal(w)
}

// UnmarshalCBOR reads the wire form strictly.
func (b *Ready) UnmarshalCBOR(data []byte) error {
	var w readyWire
	if err := wire.Unmarshal(data, &w); err != nil {
		return err
	}
	if w.Unsynced > 1 {
		return errFlag
	}
	b.State, b.Unsynced = w.State, w.Unsynced == 1
	return nil
}

// Sync is every body of trust sync: VEC 2, WANT 3, ROOT 4, ENTRY 5, EVIDENCE 6, HEAD 7 and HASH_AT 8. The session carries them and
// trust reads and writes them, strictly, so that each of these bytes is specified once. Raw is the whole body, its kind included.
type Sync struct {
	K   Kind
	Raw []byte
}

// Object is every other body that carries one signed object: CERT_UPDATE 12 (a certificate), RENEW 13 (a request), PEER 16 (a
// beacon's envelope), RECEIPT 18, WITNESS 22 (a checkpoint or cosignature of the audit log), ENROLL 23 (a request), LEAVE 29
// (a member's wish to be revoked) and HEALTH 128 (a node's signed summary of itself): [kind, object bstr].
type Object struct {
	_   struct{} `cbor:",toarray"`
	K   Kind
	Raw []byte
}

// Number is every body that carries one number: ACK 9 (frames handled since the last ACK, 1..), GROUP_GET 10 (generation),
// DIAL 14 (connections wanted, 1..4), SKIP 15 (stream counter given up) and GOAWAY 19 (code): [kind, n].
type Number struct {
	_ struct{} `cbor:",toarray"`
	K Kind
	N uint64
}

// Group is GROUP [11, generation, secret bstr32].
type Group struct {
	_          struct{} `cbor:",toarray"`
	K          Kind
	Generation uint64
	Secret     [32]byte
}

// Format hides the secret from every verb.
func (b Group) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "GROUP generation %d", b.Generation) }

// MaxFindHops is how often a FIND may be passed on: in an overlay of 10,000 nodes with 8 sessions each, and every node knowing its own
// link, three steps reach somebody who knows.
const MaxFindHops = 3

// Find is FIND [17, node_id, hops 0..3]: send me the peer record of this node, or ask those you know, with one hop less.
type Find struct {
	_    struct{} `cbor:",toarray"`
	K    Kind
	Node keys.NodeID
	Hops uint64
}

// Plain is every body that is nothing but its kind: REKEY_ASK 20 and PENDING 25: [kind].
type Plain struct {
	_ struct{} `cbor:",toarray"`
	K Kind
}

// Granted is GRANTED [24, certificate, group_gen, group_secret bstr32, [beacon envelope]]: the newcomer's certificate, the newest
// group secret, and peers to start from.
type Granted struct {
	_           struct{} `cbor:",toarray"`
	K           Kind
	Certificate []byte
	GroupGen    uint64
	GroupSecret [32]byte
	Peers       [][]byte
}

// Format hides the secret from every verb.
func (b Granted) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "GRANTED group generation %d", b.GroupGen)
}

// Refused is REFUSED [26, code]: the issuer's no.
type Refused struct {
	_    struct{} `cbor:",toarray"`
	K    Kind
	Code Code
}

// Rotate is ROTATE [27, request bstr, signature bstr64]: the sender's name and grants shall pass to the new key that made the request,
// as the signature of the sender's own key says (label rotate, over old || new).
type Rotate struct {
	_         struct{} `cbor:",toarray"`
	K         Kind
	Request   []byte
	Signature keys.Signature
}

// Answer is an issuer's answer to a member: ROTATION [28, code, invite bstr] to ROTATE, LEFT [30, code, entry bstr] to LEAVE. Code 0 is yes,
// and carries the invite by which the new key enrols, or the entry of the log that revokes the sender; a no carries nothing.
type Answer struct {
	_    struct{} `cbor:",toarray"`
	K    Kind
	Code Code
	Raw  []byte
}

// Format hides the invite from every verb.
func (b Answer) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s code %d", b.K, b.Code) }

// Unknown is a body of a kind ≥ 128 this version does not know. The owner counts it and goes on.
type Unknown struct{ K Kind }

// Kind returns the body's kind, one of those listed at the type.
func (b Sync) Kind() Kind { return b.K }

// Kind returns the body's kind.
func (b Ready) Kind() Kind { return KindReady }

// Kind returns the body's kind, one of those listed at the type.
func (b Object) Kind() Kind { return b.K }

// Kind returns the body's kind, one of those listed at the type.
func (b Number) Kind() Kind { return b.K }

// Kind returns the body's kind.
func (b Group) Kind() Kind { return KindGroup }

// Kind returns the body's kind.
func (b Find) Kind() Kind { return KindFind }

// Kind returns the body's kind, one of those listed at the type.
func (b Plain) Kind() Kind { return b.K }

// Kind returns the body's kind.
func (b Granted) Kind() Kind { return KindGranted }

// Kind returns the body's kind.
func (b Refused) Kind() Kind { return KindRefused }

// Kind returns the body's kind.
func (b Rotate) Kind() Kind { return KindRotate }

// Kind returns the body's kind, one of those listed at the type.
func (b Answer) Kind() Kind { return b.K }

// Kind returns the body's kind.
func (b Unknown) Kind() Kind { return b.K }

// Encode returns the canonical bytes of a body. It fails on a body that breaks a rule of its kind: nothing this side would refuse
// to receive is ever sent.
func Encode(b Body) ([]byte, error) {
	k := b.Kind()
	switch v := b.(type) {
	case Group:
		v.K = k
		b = v
	case Find:
		v.K = k
		b = v
	case Granted:
		v.K = k
		b = v
	case Refused:
		v.K = k
		b = v
	case Rotate:
		v.K = k
		b = v
	case Services:
		v.K = k
		b = v
	case Sync:
		if err := v.check(); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", k, err)
		}
		return v.Raw, nil
	case Unknown:
		return nil, fmt.Errorf("encoding %s: unknown kinds are only received", k)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("encoding %s: %w", k, err)
	}
	out, err := wire.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", k, err)
	}
	if len(out) > MaxBody {
		return nil, fmt.Errorf("encoding %s: %d bytes do not fit a record", k, len(out))
	}
	return out, nil
}

// ParseBody reads one control body strictly and keeps nothing of data; the content of [Sync] is left to trust. Kinds ≥ 128 come back as [Unknown]; lower unknown kinds, and every known body that is
// not the canonical encoding of legal values, are errors that wrap [ErrProtocol].
func ParseBody(data []byte) (Body, error) {
	if len(data) > MaxBody {
		return nil, protocolError("body of %d bytes", len(data))
	}
	n, err := wire.Kind(data)
	if err != nil {
		return nil, protocolError("control body: %v", err)
	}
	k := Kind(n)
	switch k {
	case KindReady:
		return parseAs[Ready](k, data)
	case KindVec, KindWant, KindRoot, KindEntry, KindEvidence, KindHead, KindHashAt:
		return Sync{K: k, Raw: bytes.Clone(data)}, nil
	case KindCertUpdate, KindRenew, KindPeer, KindReceipt, KindWitness, KindEnroll, KindLeave, KindHealth:
		return parseAs[Object](k, data)
	case KindAck, KindGroupGet, KindDial, KindSkip, KindGoAway:
		return parseAs[Number](k, data)
	case KindGroup:
		return parseAs[Group](k, data)
	case KindFind:
		return parseAs[Find](k, data)
	case KindRekeyAsk, KindPending:
		return parseAs[Plain](k, data)
	case KindServices:
		return parseAs[Services](k, data)
	case KindGranted:
		return parseAs[Granted](k, data)
	case KindRefused:
		return parseAs[Refused](k, data)
	case KindRotate:
		return parseAs[Rotate](k, data)
	case KindRotation, KindLeft:
		return parseAs[Answer](k, data)
	}
	if k < firstIgnored {
		return nil, protocolError("unknown control %s", k)
	}
	return Unknown{k}, nil
}

// parseAs decodes one kind's type, whose bytes are proven canonical by wire, and applies the kind's own rules.
func parseAs[T Body](k Kind, data []byte) (Body, error) {
	var v T
	if err := wire.Unmarshal(data, &v); err != nil {
		return nil, protocolError("%s: %v", k, err)
	}
	if err := v.check(); err != nil {
		return nil, protocolError("%s: %v", k, err)
	}
	return v, nil
}
