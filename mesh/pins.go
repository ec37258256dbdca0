package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// filePins is the file of the pins.
const filePins = "pins"

// StateFiles are the files a node keeps in Config.State. They belong to one membership.
func StateFiles() []string { return []string{filePins, fileKnown} }

// pins remembers which node a name meant at its first use, as ssh does with host keys.
type pins struct {
	fsys durable.FS
	name string

	mu sync.Mutex
	m  map[string]keys.NodeID
}

type pinWire struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Node keys.NodeID
}

// openPins reads the pins; a damaged file is an error, for starting without it would trust every name anew.
func openPins(fsys durable.FS, name string) (*pins, error) {
	p := &pins{fsys: fsys, name: name, m: map[string]keys.NodeID{}}
	b, err := durable.ReadFile(fsys, name, maxPinsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	var chunks [][]pinWire
	if err := wire.Unmarshal(b, &chunks); err != nil {
		return nil, fmt.Errorf("the file %s is damaged (%w): remove it to trust names anew at their next use", name, err)
	}
	for _, c := range chunks {
		for _, w := range c {
			p.m[w.Name] = w.Node
		}
	}
	return p, nil
}

// PinError is the refusal of a name that means another key than at its first use here.
type PinError struct {
	Name    string
	Was, Is keys.NodeID
}

// Error names both keys.
func (e *PinError) Error() string {
	return fmt.Sprintf("%v: %s was %s and is now %s", ErrPinChanged, e.Name, e.Was.Short(), e.Is.Short())
}

// Unwrap makes it an ErrPinChanged.
func (e *PinError) Unwrap() error { return ErrPinChanged }

// check accepts the name for the node, remembering it at first use. Another node than the pinned one is accepted only if it follows it;
// then was is the one before.
func (p *pins) check(name string, id keys.NodeID, follows func(was, is keys.NodeID) bool) (was keys.NodeID, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, ok := p.m[name]
	switch {
	case ok && old == id:
		return was, nil
	case ok && !follows(old, id):
		return was, &PinError{Name: name, Was: old, Is: id}
	case !ok && len(p.m) >= maxPins:
		return was, nil // a mesh of more names than that is used by id
	}
	return old, p.setLocked(name, id)
}

// replace sets a pin, if it still is what it was.
func (p *pins) replace(name string, was, is keys.NodeID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m[name] != was {
		return fmt.Errorf("%w: %s", ErrPinMoved, name)
	}
	return p.setLocked(name, is)
}

func (p *pins) setLocked(name string, id keys.NodeID) error {
	old, ok := p.m[name]
	p.m[name] = id
	if err := p.saveLocked(); err != nil {
		if ok {
			p.m[name] = old
		} else {
			delete(p.m, name)
		}
		return fmt.Errorf("remembering which node %s is: %w", name, err)
	}
	return nil
}

// all returns what every name meant.
func (p *pins) all() map[string]keys.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.m)
}

// ErrPinMoved: somebody else has accepted another key for the name meanwhile.
var ErrPinMoved = errors.New("the name was accepted for another key meanwhile; look again")

// follows reports whether a name may pass from one key to the next without asking anybody. A signed rotation is the old key's own word. A
// revocation and a new enrolment are an issuer's word alone, and an issuer that wants to put a machine in another's place would write
// both; they suffice only if the enrolment is by the issuer of this very machine, where the person who could be asked has made it.
func (n *Node) follows(was, is keys.NodeID) bool {
	st := n.State()
	if st.Succeeds(was, is) {
		return true
	}
	issuer := n.issuer.Load()
	if issuer == nil {
		return false
	}
	_, gone := st.Revoked(was)
	m, ok := st.LiveMember(is, n.trustNow())
	return gone && ok && m.Issuer == issuer.Key.Public()
}

// PinConflicts returns the names this node has used that mean another key now, by name. Each is refused until AcceptName.
func (n *Node) PinConflicts() (out []PinError) {
	st, now := n.State(), n.trustNow()
	all := n.pins.all()
	for _, name := range sortedKeys(all) {
		if ids := st.ByName(name, now); len(ids) == 1 && ids[0] != all[name] && !n.follows(all[name], ids[0]) {
			out = append(out, PinError{Name: name, Was: all[name], Is: ids[0]})
		}
	}
	return out
}

// AcceptName makes the name mean what it means in the log from now on, as a person has decided who was shown both keys.
func (n *Node) AcceptName(e PinError) error {
	if ids := n.State().ByName(e.Name, n.trustNow()); len(ids) != 1 || ids[0] != e.Is {
		return fmt.Errorf("%w: %s", ErrPinMoved, e.Name)
	}
	return n.pins.replace(e.Name, e.Was, e.Is)
}

func (p *pins) saveLocked() error {
	names := sortedKeys(p.m)
	var chunks [][]pinWire
	for i, name := range names {
		if i%pinsPerChunk == 0 {
			chunks = append(chunks, nil)
		}
		last := len(chunks) - 1
		chunks[last] = append(chunks[last], pinWire{Name: name, Node: p.m[name]})
	}
	return durable.WriteFile(p.fsys, p.name, wire.MustMarshal(chunks))
}
