package enroll

import (
	"bytes"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
)

// FuzzRecord: what parses as a record of the book is written the same, and replaying it never panics.
func FuzzRecord(f *testing.F) {
	id := identity.InviteID{1, 2, 3}
	for _, r := range []*record{
		{Kind: kindCreated, ID: id, Time: 1, Name: "gpu1", Tags: []string{"gpu"}, Expiry: 2, Uses: 1, Life: 3, RenewUntil: 4, UID: 5},
		{Kind: kindSpent, ID: id, Time: 1, Node: make([]byte, 32), Serial: 7, Cert: []byte{1}},
		{Kind: kindRemoved, ID: id, Time: 1, UID: 5},
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
		book := &Book{invites: map[identity.InviteID]*Invite{id: {ID: id, Uses: 1}}}
		if book.applyLocked(&r) == nil && r.Kind == kindSpent && len(book.invites[r.ID].Spends) != 1 {
			t.Fatal("a spend was lost")
		}
	})
}
