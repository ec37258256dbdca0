package mesh

import (
	"bytes"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
)

// A node that hears no beacon and has no seed finds its peer again after a restart, by what it kept.
func TestRestartFindsThePeerAgain(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	w.port = uint16(21001)
	b.open()
	w.port = uint16(31001) // they do not hear each other
	a.open()
	a.run()
	b.run()
	full(a, b)
	a.stop()
	if got := newWhereabouts(a.state, w.id, logger(t, "a")).read(); len(got.Known) != 1 || got.Known[0].Places[0].At != b.at() || got.Known[0].Places[0].Good == 0 {
		t.Fatalf("kept: %v", got)
	}
	a.Node = nil
	a.run()
	eventually(t, "a and b meet again", patience, func() bool { return a.link(b) != nil && b.link(a) != nil })
}

func somewhere() core.Persist {
	return core.Persist{Anchor: keys.NodeID{1}, Known: []core.Known{
		{Peer: keys.NodeID{1}, Places: []core.Place{{At: netip.MustParseAddrPort("192.168.1.7:7477"), Good: 1_800_000_000}}},
		{Peer: keys.NodeID{2}, Places: []core.Place{{At: netip.MustParseAddrPort("[2001:db8::7]:7477")}}},
	}}
}

// The file is read as it was written; one that is damaged anywhere, of another mesh or of another format is told in a sentence and passed
// over.
func TestKnownFileDamagedOrForeign(t *testing.T) {
	mesh := keys.MeshID{7}
	disk := durable.NewMem()
	var said bytes.Buffer
	w := newWhereabouts(disk, mesh, slog.New(slog.NewTextHandler(&said, nil)))
	if got := w.read(); len(got.Known) != 0 || said.Len() > 0 {
		t.Fatalf("of no file: %v %s", got, &said)
	}
	p := somewhere()
	w.keep(p)
	w.write()
	if got := w.read(); !reflect.DeepEqual(got, p) {
		t.Fatalf("written %v, read %v", p, got)
	}
	good, err := durable.ReadFile(disk, fileKnown, 1<<16)
	ok(t, err)
	empty := func(what string, b []byte, word string) {
		t.Helper()
		said.Reset()
		ok(t, durable.WriteFile(disk, fileKnown, b))
		if got := w.read(); len(got.Known) != 0 || !got.Anchor.IsZero() {
			t.Fatalf("%s: %v", what, got)
		}
		if !strings.Contains(said.String(), "the addresses kept from the last run cannot be used") || !strings.Contains(said.String(), word) {
			t.Fatalf("%s: said %q", what, &said)
		}
	}
	empty("of another mesh", encodeKnown(&p, keys.MeshID{8}), "of mesh")
	empty("of another format", bytes.Replace(good, []byte{0x84, 1}, []byte{0x84, 2}, 1), "of format 2")
	empty("too long", make([]byte, 1<<17), "known")
	empty("a wild time", bytes.Replace(good, []byte{0x1a, 0x6b, 0x49, 0xd2, 0x00}, []byte{0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0}, 1), "no address")
	for n := range good {
		empty("cut short", good[:n], "damaged")
	}
	for i := range good { // no bit is fatal; what still reads is another hint
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if got, err := parseKnown(b, mesh); err == nil && !bytes.Equal(encodeKnown(&got, mesh), b) {
				t.Fatalf("byte %d, bit %d reads as something that is written otherwise", i, bit)
			}
		}
	}
}

// The largest list the core hands out is one object of the dialect, and fits.
func TestKnownFileAtItsLargest(t *testing.T) {
	var p core.Persist
	for i := range 256 {
		k := core.Known{Peer: keys.NodeID{byte(i), 1}}
		for j := range 6 {
			k.Places = append(k.Places, core.Place{At: netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, byte(i), 15: byte(j)}), 65535), Good: 1 << 33})
		}
		p.Known = append(p.Known, k)
	}
	got, err := parseKnown(encodeKnown(&p, keys.MeshID{7}), keys.MeshID{7})
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Fatal(err)
	}
}

// A disk that is full costs a warning; the newest list is written when it is not.
func TestKnownFileOnAFullDisk(t *testing.T) {
	disk := durable.NewMem()
	var said bytes.Buffer
	w := newWhereabouts(disk, keys.MeshID{7}, slog.New(slog.NewTextHandler(&said, nil)))
	disk.Limit(1)
	w.keep(somewhere())
	w.write()
	if !strings.Contains(said.String(), "are not kept for the next start") {
		t.Fatalf("said %q", &said)
	}
	disk.Limit(1 << 20)
	w.keep(somewhere())
	w.write()
	if got := w.read(); len(got.Known) != 2 {
		t.Fatalf("read %v", got)
	}
}

// FuzzKnown: what reads is written as the same bytes; what does not gives nothing.
func FuzzKnown(f *testing.F) {
	mesh, p := keys.MeshID{7}, somewhere()
	f.Add(encodeKnown(&p, mesh))
	f.Add(encodeKnown(&core.Persist{}, mesh))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseKnown(b, mesh)
		if err != nil {
			if p.Known != nil || !p.Anchor.IsZero() {
				t.Fatal("addresses beside an error")
			}
			return
		}
		if again := encodeKnown(&p, mesh); !bytes.Equal(again, b) {
			t.Fatalf("read %x, written %x", b, again)
		}
	})
}
