package enroll

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// FuzzRecord: what parses as a record of the book is written the same, and replaying it never panics.
func FuzzRecord(f *testing.F) {
	id := identity.InviteID{1, 2, 3}
	for _, r := range []*record{
		{Kind: kindCreated, ID: id, Time: 1, Name: "gpu1", Tags: []string{"gpu"}, Expiry: 2, Uses: 1, Life: 3, RenewUntil: 4, UID: 5},
		{Kind: kindSpent, ID: id, Time: 1, Node: make([]byte, 32), Serial: 7, Cert: []byte{1}},
		{Kind: kindRemoved, ID: id, Time: 1, UID: 5},
		{Kind: kindCreated, ID: id, Time: 1, Name: "rack", Uses: 3, Approval: true, Allow: []trust.What{{Target: trust.TagTarget("gpu"), Service: "*"}}},
		{Kind: kindAsked, ID: id, Time: 1, Name: "gpu1", Node: make([]byte, 32), Request: make([]byte, 8), Channel: make([]byte, 32), Address: "::1"},
		{Kind: kindDenied, ID: id, Time: 1, UID: 5, Node: make([]byte, 32)},
		{Kind: kindFile, Time: 1, Node: make([]byte, 32), Serial: 9, Cert: []byte{1}, Channel: []byte("0123456789abcdef0123456789abcdef")},
	} {
		f.Add(wire.MustMarshal(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if wire.Unmarshal(b, &r) != nil {
			return
		}
		if again := wire.MustMarshal(&r); !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x", b, again)
		}
		book := newBook()
		if book.applyLocked(&record{Kind: kindCreated, ID: id, Uses: 1}) != nil {
			t.Fatal("no invite")
		}
		if book.applyLocked(&r) == nil && r.Kind == kindSpent && len(book.invites[r.ID].Spends) != 1 {
			t.Fatal("a spend was lost")
		}
	})
}

// Books of the first release are read: an invite for one machine, spent before names and channels were written.
func TestFirstReleaseBook(t *testing.T) {
	b := newBook()
	for _, text := range []string{
		"aa010102480102030405060708031a6553f100046467707531058163677075061a6553ff100701081a0076a700091af48657000a1903e8",
		"a6010202480102030405060708031a6553f1010b582009000000000000000000000000000000000000000000000000000000000000000c020d43010203",
		"a4010302480102030405060708031a6553f1020a1903e8",
	} {
		raw, err := hex.DecodeString(text)
		must(t, err)
		var r record
		must(t, wire.Unmarshal(raw, &r))
		must(t, b.applyLocked(&r))
	}
	v := b.invites[identity.InviteID{1, 2, 3, 4, 5, 6, 7, 8}]
	if v.Name != "gpu1" || v.Tags[0] != "gpu" || v.Uses != 1 || v.Life != 7776000 || v.Expiry != 1700003600 || v.Approval || v.Allow != nil ||
		len(v.Spends) != 1 || v.Spends[0].Serial != 2 || v.Spends[0].Node != (keys.NodeID{9}) || len(v.Spends[0].Certificate) != 3 || v.UID != 1000 || v.Removed != 1700000002 {
		t.Fatalf("%+v", v)
	}
}
