package daemon_test

import (
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// The issuer does not ask about a name whose new machine it has enrolled itself. So an invite made for a machine before it was revoked, or before
// it left, must not bring another one in under its name.
func TestInvitesGoWithTheirMachine(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop")
	gpu := others[0]
	old, mine := nas.invite(control.InviteRequest{Name: "laptop"})
	_, other := nas.invite(control.InviteRequest{Name: "pi4"})
	_, leaving := nas.invite(control.InviteRequest{Name: "gpu1", Approval: true})
	state := func(id string) string {
		list, err := nas.client.Invites(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list.Invites {
			if v.ID == id {
				return v.State
			}
		}
		return ""
	}
	would, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop", DryRun: true})
	if err != nil || len(would.Invites) != 1 || would.Invites[0].ID != mine.Invite.ID || state(mine.Invite.ID) != "open" {
		t.Fatalf("%+v, %v", would, err)
	}
	res, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"})
	if err != nil || len(res.Invites) != 1 || res.Invites[0].ID != mine.Invite.ID || res.Invites[0].State != "removed" || state(mine.Invite.ID) != "removed" {
		t.Fatalf("%+v, %v", res, err)
	}
	if state(other.Invite.ID) != "open" || !nas.audited(t, "invite.remove") {
		t.Fatal("another one's is gone, or it is not recorded")
	}
	thief := newHost(t, "thief", nas.port)
	if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: thief.dir, Invite: old}); err == nil {
		t.Fatal("it has the name")
	}
	if _, err := gpu.client.Leave(t.Context(), &control.LeaveRequest{}); err != nil {
		t.Fatal(err)
	}
	gpu.ended()
	if state(leaving.Invite.ID) != "removed" {
		t.Fatal("the name of a machine that left is open to the invite made for it")
	}
}
