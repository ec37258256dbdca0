package enroll

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Admission is everything a newcomer needs to be a member, as an answer in a file carries it.
type Admission struct {
	Certificate *identity.SignedCertificate
	Secret      keys.GroupSecret
	Genesis     []byte
	Frames      []trust.Frame // the trust log after genesis
	Peers       [][]byte      // beacon envelopes: where to begin

	// MeshName and Members are known of an opened one.
	MeshName string
	Members  int
}

// grantWire is the first part of an answer.
type grantWire struct {
	Certificate []byte   `cbor:"1,keyasint"`
	GroupGen    uint64   `cbor:"2,keyasint"`
	GroupSecret [32]byte `cbor:"3,keyasint"`
	Peers       [][]byte `cbor:"4,keyasint"`
	Frames      uint64   `cbor:"5,keyasint"` // how many parts follow the genesis root
}

// What each part is, authenticated with it.
const (
	partGrant   = 1
	partGenesis = 2
	partFrame   = 3
)

// Response is the outside of an answer: what a parser sees without a key.
type Response struct {
	Request keys.Hash // the id of the request it answers
	Sealed  []byte    // HPKE encapsulation, then parts
}

// ParseResponse reads the outside of an answer.
func ParseResponse(b []byte) (*Response, error) {
	body, ok := bytes.CutPrefix(b, []byte(responseMagic))
	if !ok {
		return nil, fmt.Errorf("%w: an answer begins with %q", ErrNoFile, responseMagic)
	}
	if len(b) > MaxResponseFile || len(body) < len(keys.Hash{}) {
		return nil, fmt.Errorf("%w: too short or too long for an answer", ErrFile)
	}
	return &Response{Request: keys.Hash(body[:len(keys.Hash{})]), Sealed: body[len(keys.Hash{}):]}, nil
}

// Encode returns the file's content.
func (r *Response) Encode() []byte {
	b := append([]byte(responseMagic), r.Request[:]...)
	return append(b, r.Sealed...)
}

// Respond seals an admission to the key of a request. trust.ErrTooLong: the log has grown beyond what a file may carry.
func Respond(q *RequestFile, a *Admission) (*Response, error) {
	enc, s, err := q.Key.NewSealer(q.CSR.Mesh, q.CSR.ID)
	if err != nil {
		return nil, err
	}
	out := &Response{Request: q.CSR.ID, Sealed: enc}
	put := func(part byte, plain []byte) error {
		sealed, err := s.Seal([]byte{part}, plain)
		if err != nil {
			return err
		}
		out.Sealed = binary.BigEndian.AppendUint32(out.Sealed, uint32(len(sealed)))
		out.Sealed = append(out.Sealed, sealed...)
		if len(out.Sealed) > MaxResponseFile-len(responseMagic)-len(keys.Hash{}) {
			return trust.ErrTooLong
		}
		return nil
	}
	grant := wire.MustMarshal(grantWire{
		Certificate: a.Certificate.Raw(), GroupGen: a.Secret.Generation, GroupSecret: [32]byte(a.Secret.Bytes()), Peers: a.Peers,
		Frames: uint64(len(a.Frames)),
	})
	defer clear(grant)
	if err := put(partGrant, grant); err != nil {
		return nil, err
	}
	if err := put(partGenesis, a.Genesis); err != nil {
		return nil, err
	}
	for _, f := range a.Frames {
		if err := put(partFrame, f.Body); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parts opens an answer part by part.
type parts struct {
	rest []byte
	o    *keys.Opener
}

func (p *parts) next(part byte) ([]byte, error) {
	if len(p.rest) < 4 {
		return nil, fmt.Errorf("%w: it is cut short", ErrFile)
	}
	n := binary.BigEndian.Uint32(p.rest)
	if uint64(n) > uint64(len(p.rest)-4) {
		return nil, fmt.Errorf("%w: it is cut short", ErrFile)
	}
	plain, err := p.o.Open([]byte{part}, p.rest[4:4+n])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	p.rest = p.rest[4+n:]
	return plain, nil
}

// Open opens the answer to this node's own request and believes it only as far as the mesh's own log confirms it: HPKE says who may
// read it, not who wrote it. now is unix seconds.
func (r *Response) Open(key keys.RequestKey, request *identity.SignedCSR, now int64) (*Admission, error) {
	if r.Request != request.ID {
		return nil, fmt.Errorf("%w: it answers another request than the one made here", ErrFile)
	}
	o, n, err := key.NewOpener(request.Mesh, request.ID, r.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	p := &parts{rest: r.Sealed[n:], o: o}
	plain, err := p.next(partGrant)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var g grantWire
	defer func() { clear(g.GroupSecret[:]) }()
	if err := wire.Unmarshal(plain, &g); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if len(g.Peers) > MaxPeers || g.Frames > maxFrames {
		return nil, fmt.Errorf("%w: too many peers or entries", ErrFile)
	}
	a := &Admission{Peers: g.Peers}
	if a.Genesis, err = p.next(partGenesis); err != nil {
		return nil, err
	}
	memory, err := trust.NewMemory(a.Genesis, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if memory.Current().Mesh() != request.Mesh {
		return nil, fmt.Errorf("%w: its first root founds another mesh", ErrFile)
	}
	for range g.Frames {
		body, err := p.next(partFrame)
		if err != nil {
			return nil, err
		}
		kind, err := wire.Kind(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFile, err)
		}
		if err := trust.Replay(memory, trust.Frame{Kind: uint8(kind), Body: body}, now); err != nil {
			return nil, fmt.Errorf("%w: its trust log: %w", ErrFile, err)
		}
	}
	if len(p.rest) != 0 {
		return nil, fmt.Errorf("%w: bytes after its end", ErrFile)
	}
	a.Frames = memory.History()
	if err := a.believe(&g, memory.Current(), request, now); err != nil {
		return nil, err
	}
	return a, nil
}

// believe checks what the log must say of the certificate and the secret.
func (a *Admission) believe(g *grantWire, st *trust.State, request *identity.SignedCSR, now int64) error {
	var err error
	if a.Certificate, err = identity.ParseCertificate(g.Certificate, request.Mesh); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	if a.Certificate.Node != request.Node {
		return fmt.Errorf("%w: its certificate is another machine's", ErrFile)
	}
	// Heads do not travel in files, so a mesh that restricts stale views would call this one stale.
	if standing, why := st.Admit(a.Certificate, st.Root().Version, now); standing != trust.Full && why != trust.ReasonStale {
		return fmt.Errorf("%w: by its log the certificate is not in force (%s); check this machine's clock", ErrFile, why)
	}
	if a.Secret, err = keys.GroupSecretFromBytes(g.GroupGen, g.GroupSecret[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	if gen, commit := st.GroupCommit(); gen != a.Secret.Generation || commit != a.Secret.Commitment(request.Mesh) {
		return fmt.Errorf("%w: its group secret is not the one the log commits to", ErrFile)
	}
	a.MeshName = st.Root().Name
	for range st.Members() {
		a.Members++
	}
	return nil
}
