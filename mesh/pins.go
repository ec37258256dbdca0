package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
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

// check accepts the name for the node, remembering it at first use. A change is accepted only if a signed rotation leads from the
// pinned node to the new one.
func (p *pins) check(st *trust.State, name string, id keys.NodeID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, ok := p.m[name]
	switch {
	case ok && old == id:
		return nil
	case ok && !st.Succeeds(old, id):
		return fmt.Errorf("%w: %s was %s and is now %s; if that is right, use the id, or remove the file %s from the state directory and restart",
			ErrPinChanged, name, old.Short(), id.Short(), p.name)
	case !ok && len(p.m) >= maxPins:
		return nil // a mesh of more names than that is used by id
	}
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
