package mesh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
)

// fileKnown is where a node keeps the addresses of others over its restarts.
const fileKnown = "known"

// whereabouts is the file of what the core keeps over restarts: [1, mesh_id, anchor bstr32 (zero: none), [[node_id, [[ip bstr4|bstr16,
// port, good]]]]], good being unix seconds or 0. Everything in it is a hint that a handshake proves or not, so a file that is lost,
// damaged or another mesh's costs dials and nothing else: it is told, and passed over.
type whereabouts struct {
	// immutable
	fsys durable.FS
	mesh keys.MeshID
	log  *slog.Logger
	wake chan struct{} // capacity 1

	mu   sync.Mutex
	next *core.Persist // guarded by mu: to be written
}

type (
	knownFile struct {
		_       struct{} `cbor:",toarray"`
		Version uint64
		Mesh    keys.MeshID
		Anchor  keys.NodeID
		Known   []knownWire
	}
	knownWire struct {
		_      struct{} `cbor:",toarray"`
		Node   keys.NodeID
		Places []placeWire
	}
	placeWire struct {
		_    struct{} `cbor:",toarray"`
		IP   []byte
		Port uint16
		Good uint64
	}
)

const knownVersion = 1

func newWhereabouts(fsys durable.FS, mesh keys.MeshID, log *slog.Logger) *whereabouts {
	return &whereabouts{fsys: fsys, mesh: mesh, log: log, wake: make(chan struct{}, 1)}
}

// read returns what an earlier run kept; nothing if that cannot be used.
func (w *whereabouts) read() core.Persist {
	b, err := durable.ReadFile(w.fsys, fileKnown, wire.MaxInput)
	if errors.Is(err, fs.ErrNotExist) {
		return core.Persist{}
	}
	var p core.Persist
	if err == nil {
		p, err = parseKnown(b, w.mesh)
	}
	if err != nil {
		w.log.Warn("the addresses kept from the last run cannot be used; others are found by beacons and seeds, and the file is written anew",
			"file", fileKnown, "err", err)
		return core.Persist{}
	}
	return p
}

func parseKnown(b []byte, mesh keys.MeshID) (core.Persist, error) {
	var f knownFile
	switch err := wire.Unmarshal(b, &f); {
	case err != nil:
		return core.Persist{}, fmt.Errorf("damaged: %w", err)
	case f.Version != knownVersion:
		return core.Persist{}, fmt.Errorf("of format %d, and this program reads %d", f.Version, knownVersion)
	case f.Mesh != mesh:
		return core.Persist{}, fmt.Errorf("of mesh %s, and this node is in %s", f.Mesh.Short(), mesh.Short())
	}
	p := core.Persist{Anchor: f.Anchor}
	for _, k := range f.Known {
		one := core.Known{Peer: k.Node}
		for _, a := range k.Places {
			ip, ok := netip.AddrFromSlice(a.IP)
			if !ok || a.Good > maxGoodTime {
				return core.Persist{}, errors.New("damaged: no address")
			}
			one.Places = append(one.Places, core.Place{At: netip.AddrPortFrom(ip, a.Port), Good: int64(a.Good)})
		}
		p.Known = append(p.Known, one)
	}
	return p, nil
}

func encodeKnown(p *core.Persist, mesh keys.MeshID) []byte {
	f := knownFile{Version: knownVersion, Mesh: mesh, Anchor: p.Anchor, Known: []knownWire{}}
	for _, k := range p.Known {
		w := knownWire{Node: k.Peer, Places: []placeWire{}}
		for _, a := range k.Places {
			w.Places = append(w.Places, placeWire{IP: a.At.Addr().AsSlice(), Port: a.At.Port(), Good: uint64(min(max(a.Good, 0), maxGoodTime))})
		}
		f.Known = append(f.Known, w)
	}
	return wire.MustMarshal(f)
}

// keep takes the place of what was to be written before. It never waits for the disk.
func (w *whereabouts) keep(p core.Persist) {
	w.mu.Lock()
	w.next = &p
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes what is kept until ctx ends, and then what was kept last.
func (w *whereabouts) run(ctx context.Context) error {
	for {
		select {
		case <-w.wake:
			w.write()
		case <-ctx.Done():
			w.write()
			return nil
		}
	}
}

// write replaces the file. If we crash here, the file is the old one or the new one, and either will do.
func (w *whereabouts) write() {
	w.mu.Lock()
	p := w.next
	w.next = nil
	w.mu.Unlock()
	if p == nil {
		return
	}
	if err := durable.WriteFile(w.fsys, fileKnown, encodeKnown(p, w.mesh)); err != nil {
		w.log.Warn("the addresses of others are not kept for the next start", "file", fileKnown, "err", err)
	}
}
