package enroll

import (
	"cmp"
	"slices"

	"github.com/sovereignmesh/meshkey/trust"
)

// ForName returns the invites by which one machine could still be enrolled under the name, whoever holds them, oldest first. Who revokes the
// name's machine takes them back: they were made for that machine, and may be in the hands of whoever has its key. Invites for several
// machines give no name that was ever used.
func (b *Book) ForName(name string, now int64) (out []Invite) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.invites {
		if v.Rotation != nil || v.Uses != 1 || v.Name != name || v.Removed != 0 || len(v.Spends) > 0 {
			continue
		}
		alive := now < v.Expiry
		for _, r := range v.requests {
			alive = alive || r.alive(now) // a request outlives its invite
		}
		if alive {
			c := *v
			c.requests = nil
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Invite) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), slices.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// used reports whether the name was ever a node's: where it was used it is pinned to that one's key.
func used(st *trust.State, name string) bool { return len(st.EverNamed(name)) > 0 }
