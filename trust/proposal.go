package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// The first lines of the two files people carry between machines.
const (
	proposalHeader = "meshkey-root-proposal/1"
	chainHeader    = "meshkey-root-chain/1"
)

// Errors of changing a root by hand.
var (
	// ErrTooFew: more holders of root keys have to sign.
	ErrTooFew = errors.New("too few root keys have signed")
	// ErrNotRootKey: the key is in neither the root that holds nor the proposed one.
	ErrNotRootKey = errors.New("this key is no root key, before the change or after it")
	// ErrSigned: the key has signed already; one key counts once.
	ErrSigned = errors.New("this key has signed already, and counts once")
	// ErrOtherProposal: signatures of one root do not count for another.
	ErrOtherProposal = errors.New("the files propose different roots")
	// ErrRootFork: nothing follows the current root until somebody has chosen between its two successors.
	ErrRootFork = errors.New("two roots contradict each other; choose one first")
)

// Proposal is a next root on its way from one holder of a root key to another, with the whole chain of roots it follows: whoever opens
// it needs nothing but a root key to see what it changes, and which mesh. A signature covers the hash of the root before, so what is
// shown is what is signed, also if somebody should have made up the chain.
type Proposal struct {
	roots []*Root // the chain, verified from its genesis; the last one is what the proposal follows
	next  *Root   // its envelope holds the signatures so far, each verified
}

// Propose makes an unsigned successor of the current root: change is called with a copy of it and edits what it wants.
func (s *State) Propose(issued int64, change func(*Root) error) (*Proposal, error) {
	if len(s.pending) > 0 {
		return nil, ErrRootFork
	}
	prev := s.Root()
	r := prev.successor(max(issued, prev.Issued))
	if err := change(r); err != nil {
		return nil, err
	}
	r.settle()
	return newProposal(s.roots, &identity.Envelope{Payload: r.encode()})
}

// newProposal checks everything a receiver of the root will check, but for how many have signed.
func newProposal(roots []*Root, e *identity.Envelope) (*Proposal, error) {
	next, err := parseRootPayload(e)
	if err != nil {
		return nil, err
	}
	p := &Proposal{roots: roots, next: next}
	if err := next.checkFollows(p.Base()); err != nil {
		return nil, err
	}
	for _, s := range e.Sigs {
		if !p.holder(s.Kid) {
			return nil, fmt.Errorf("root: %w", ErrNotRootKey)
		}
	}
	if len(e.Sigs) > 0 {
		if err := e.VerifyAll(keys.LabelRoot, next.domain()); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Base is the root the proposal follows, and Next the one it proposes. Neither must be changed.
func (p *Proposal) Base() *Root { return p.roots[len(p.roots)-1] }

// Next is the proposed root.
func (p *Proposal) Next() *Root { return p.next }

// Changes lists what the proposal changes.
func (p *Proposal) Changes() []RootChange { return p.next.Changes(p.Base()) }

func (p *Proposal) holder(k keys.PublicKey) bool { return p.Base().hasKey(k) || p.next.hasKey(k) }

// Sign adds a signature. The proposal stays as it was on error.
func (p *Proposal) Sign(k *keys.SigningKey) error {
	if !p.holder(k.Public()) {
		return ErrNotRootKey
	}
	return p.add(identity.Sig{Kid: k.Public(), Sig: k.Sign(keys.LabelRoot, p.next.domain(), p.next.env.Payload)})
}

func (p *Proposal) add(s identity.Sig) error {
	at, ok := slices.BinarySearchFunc(p.next.env.Sigs, s.Kid, func(a identity.Sig, k keys.PublicKey) int { return bytes.Compare(a.Kid[:], k[:]) })
	if ok {
		return ErrSigned
	}
	p.next.env = &identity.Envelope{Payload: p.next.env.Payload, Sigs: slices.Insert(slices.Clone(p.next.env.Sigs), at, s)}
	return nil
}

// Merge takes over the signatures of another copy of the same proposal.
func (p *Proposal) Merge(o *Proposal) error {
	if p.next.hash != o.next.hash {
		return ErrOtherProposal
	}
	for _, s := range o.next.env.Sigs {
		if err := p.add(s); err != nil && !errors.Is(err, ErrSigned) {
			return err
		}
	}
	return nil
}

// Progress says how many of the signatures are there that a root needs: so many of the keys before the change, and so many of the
// keys after it. A key in both counts for both.
type Progress struct {
	Old, OldNeed uint64
	New, NewNeed uint64
	Signed       []RootKey
	Missing      []RootKey // holders that have not signed; not all of them may be needed
}

// Enough reports whether the root is valid as it is.
func (g Progress) Enough() bool { return g.Old >= g.OldNeed && g.New >= g.NewNeed }

// Progress counts the signatures.
func (p *Proposal) Progress() Progress {
	base := p.Base()
	g := Progress{Old: p.next.signedBy(base), OldNeed: base.Threshold, New: p.next.signedBy(p.next), NewNeed: p.next.Threshold}
	holders := slices.Clone(base.Keys)
	for _, k := range p.next.Keys {
		if !base.hasKey(k.Pub) {
			holders = append(holders, k)
		}
	}
	for _, k := range holders {
		if slices.ContainsFunc(p.next.env.Sigs, func(s identity.Sig) bool { return s.Kid == k.Pub }) {
			g.Signed = append(g.Signed, k)
		} else {
			g.Missing = append(g.Missing, k)
		}
	}
	return g
}

// Root returns the signed root, once enough have signed.
func (p *Proposal) Root() ([]byte, error) {
	if g := p.Progress(); !g.Enough() {
		return nil, fmt.Errorf("%w: %d of %d of the keys before the change, %d of %d of the keys after it", ErrTooFew, g.Old, g.OldNeed, g.New, g.NewNeed)
	}
	raw := p.next.env.Encode()
	r, err := parseRoot(raw)
	if err != nil {
		return nil, err
	}
	return raw, errors.Join(r.checkFollows(p.Base()), r.checkSignatures(p.Base()))
}

// CheckNext reports whether raw is a valid successor of the current root, and returns it. The errors are ErrInvalid, ErrHave, ErrVoid
// (it follows an older root than the current one), ErrGap (a newer one) and ErrRootFork.
func (s *State) CheckNext(raw []byte) (*Root, error) {
	r, err := parseRoot(raw)
	if err != nil {
		return nil, invalid(err)
	}
	last := s.Root()
	held, ok := s.RootAt(r.Version)
	switch {
	case r.Mesh != s.mesh:
		return nil, invalidf("root: of another mesh")
	case ok && held.hash == r.hash:
		return nil, fmt.Errorf("root %d: %w", r.Version, ErrHave)
	case len(s.pending) > 0:
		return nil, ErrRootFork
	case r.Version <= last.Version:
		return nil, fmt.Errorf("it follows root %d, and the mesh is at root %d: %w", r.Version-1, last.Version, ErrVoid)
	case r.Version > last.Version+1:
		return nil, fmt.Errorf("it follows root %d, and this node has root %d: %w", r.Version-1, last.Version, ErrGap)
	}
	if err := errors.Join(r.checkFollows(last), r.checkSignatures(last)); err != nil {
		return nil, invalid(err)
	}
	return r, nil
}

// Encode writes the file; the format is in the package's documentation.
func (p *Proposal) Encode() ([]byte, error) {
	var b bytes.Buffer
	writeChain(&b, proposalHeader, p.roots)
	writeLine(&b, "next", p.next.env.Payload)
	for _, s := range p.next.env.Sigs {
		writeLine(&b, "sign", append(s.Kid[:], s.Sig[:]...))
	}
	if b.Len() > MaxProposal {
		return nil, fmt.Errorf("the chain of roots is longer than the %d bytes a proposal may have", MaxProposal)
	}
	return b.Bytes(), nil
}

// EncodeChain writes the roots of a mesh, genesis first: public, and all that a machine off the network needs to propose a change.
func (s *State) EncodeChain() []byte {
	var b bytes.Buffer
	writeChain(&b, chainHeader, s.roots)
	return b.Bytes()
}

func writeChain(b *bytes.Buffer, header string, roots []*Root) {
	b.WriteString(header + "\n")
	for _, r := range roots {
		writeLine(b, "root", r.raw)
	}
}

func writeLine(b *bytes.Buffer, word string, data []byte) {
	b.WriteString(word + " " + base64.StdEncoding.EncodeToString(data) + "\n")
}

// ParseProposal reads a proposal and verifies all of it: the chain from its genesis on, that the root follows, and each signature. How
// many have signed is Progress's to say. Whose mesh it is is the caller's question: the id of the genesis is Base().Mesh.
func ParseProposal(text []byte) (*Proposal, error) {
	lines, err := parseLines(text, proposalHeader)
	if err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	s, rest, err := parseChain(lines)
	if err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	if len(rest) == 0 || rest[0].word != "next" || len(rest)-1 > 2*maxRootKeys {
		return nil, invalidf("proposal: it proposes no root")
	}
	e := &identity.Envelope{Payload: rest[0].data}
	for _, l := range rest[1:] {
		var g identity.Sig
		if l.word != "sign" || len(l.data) != len(g.Kid)+len(g.Sig) {
			return nil, invalidf("proposal: a line that is no signature")
		}
		copy(g.Kid[:], l.data)
		copy(g.Sig[:], l.data[len(g.Kid):])
		if n := len(e.Sigs); n > 0 && bytes.Compare(e.Sigs[n-1].Kid[:], g.Kid[:]) >= 0 {
			return nil, invalidf("proposal: signers not sorted and unique")
		}
		e.Sigs = append(e.Sigs, g)
	}
	p, err := newProposal(s.roots, e)
	if err != nil {
		return nil, invalid(fmt.Errorf("proposal: %w", err))
	}
	return p, nil
}

// ParseChain reads and verifies what EncodeChain wrote. The State holds the roots and nothing else.
func ParseChain(text []byte) (*State, error) {
	lines, err := parseLines(text, chainHeader)
	if err != nil {
		return nil, fmt.Errorf("root chain: %w", err)
	}
	s, rest, err := parseChain(lines)
	if err == nil && len(rest) > 0 {
		err = invalidf("a line that is no root")
	}
	if err != nil {
		return nil, fmt.Errorf("root chain: %w", err)
	}
	return s, nil
}

// IsProposal and IsChain tell the two files apart by their first line; neither says that the rest is in order.
func IsProposal(text []byte) bool { return bytes.HasPrefix(text, []byte(proposalHeader+"\n")) }

// IsChain reports whether text begins as a root chain does.
func IsChain(text []byte) bool { return bytes.HasPrefix(text, []byte(chainHeader+"\n")) }

func parseChain(lines []fileLine) (*State, []fileLine, error) {
	if len(lines) == 0 || lines[0].word != "root" {
		return nil, nil, invalidf("it holds no root")
	}
	s, err := Genesis(lines[0].data)
	if err != nil {
		return nil, nil, err
	}
	for i, l := range lines[1:] {
		if l.word != "root" {
			return s, lines[1+i:], nil
		}
		last := s.Root().Version
		if s, err = s.ApplyRoot(l.data); err != nil {
			return nil, nil, invalid(err)
		}
		if s.Root().Version != last+1 {
			return nil, nil, invalidf("two roots contradict each other in it")
		}
	}
	return s, nil, nil
}

type fileLine struct {
	word string
	data []byte
}

// parseLines reads "word base64" lines behind a header. There is one way to write a file: what is read is compared with it.
func parseLines(text []byte, header string) ([]fileLine, error) {
	if len(text) > MaxProposal {
		return nil, invalid(fmt.Errorf("longer than %d bytes", MaxProposal))
	}
	rest, ok := strings.CutPrefix(string(text), header+"\n")
	if !ok {
		return nil, invalid(fmt.Errorf("not a file that begins with %s", header))
	}
	var out []fileLine
	for n := 2; rest != ""; n++ {
		line, tail, ok := strings.Cut(rest, "\n")
		word, code, two := strings.Cut(line, " ")
		data, err := base64.StdEncoding.DecodeString(code)
		if !ok || !two || err != nil || base64.StdEncoding.EncodeToString(data) != code {
			return nil, invalid(fmt.Errorf("line %d is damaged", n))
		}
		out, rest = append(out, fileLine{word, data}), tail
	}
	return out, nil
}
