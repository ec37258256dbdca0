package controltest

import (
	"context"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// inviter has method names of its own.
type inviter struct{ f *Fake }

// RequestID is the one machine that waits for approval, and RequestWords what it shows.
const RequestID = "a1b2c3d4e5f60718"

// RequestWords returns the words of the waiting machine.
func RequestWords() []string { return []string{"acorn", "lemon", "zebra"} }

func waiter() control.Waiter {
	return control.Waiter{
		ID: RequestID, Node: id("gpu3"), NodeText: "7QK4-M2XD-C", Name: "gpu3", Tags: []string{"gpu"}, Words: RequestWords(), Since: Began,
		Address: "192.168.1.30", Invite: "0102030405060708", InviteName: "rack",
	}
}

func (i inviter) CreateInvite(_ context.Context, by control.Caller, r *control.InviteRequest) (*control.InviteResult, error) {
	inv := control.Invite{
		ID: "0102030405060708", Name: r.Name, Tags: r.Tags, Created: Began, Expires: Began.Add(time.Hour), Uses: max(r.Uses, 1), State: "open",
		Allow: r.Allow, Approval: r.Approval, Guest: r.GuestMS != 0, RenewUntil: r.RenewUntil,
	}
	return &control.InviteResult{Invite: inv, Text: "mk1ifaketext", Endpoints: []string{"192.168.1.20:7477"}}, i.f.call("CreateInvite", by, *r)
}

// Invites lists one that was just made, and from the second time on has been used.
func (i inviter) Invites(context.Context) (*control.Invites, error) {
	inv := control.Invite{ID: "0102030405060708", Name: "gpu2", Created: Began, Expires: Began.Add(time.Hour), Uses: 1, State: "open"}
	if i.f.Enrolled {
		inv.Uses, inv.State, inv.UsedBy = 0, "used", []control.NodeRef{Laptop}
		inv.Used = []control.InviteUse{{Node: Laptop, Time: Began, Words: RequestWords()}}
	}
	if i.f.Asking {
		inv.Asking = []control.InviteAsking{{NodeText: "7QK4-M2XD-C", Address: "192.168.1.30", Since: Began, Words: RequestWords()}}
	}
	return &control.Invites{Invites: []control.Invite{inv}}, i.f.call("Invites", control.Caller{}, "")
}

func (i inviter) RemoveInvite(_ context.Context, by control.Caller, id string) error {
	return i.f.call("RemoveInvite", by, id)
}

func (i inviter) Pending(context.Context) (*control.Pendings, error) {
	return &control.Pendings{Waiting: []control.Waiter{waiter()}}, i.f.call("Pending", control.Caller{}, "")
}

func (i inviter) Approve(_ context.Context, by control.Caller, r *control.ApproveRequest) (*control.ApproveResult, error) {
	name := "gpu3"
	if r.Name != "" {
		name = r.Name
	}
	res := &control.ApproveResult{Node: control.NodeRef{Name: name, ID: id("gpu3")}, Tags: r.Tags, NotAfter: Began.Add(90 * 24 * time.Hour), Words: RequestWords()}
	if len(r.File) > 0 {
		res.Response = []byte("mk1r sealed")
	}
	return res, i.f.call("Approve", by, *r)
}

func (i inviter) Deny(_ context.Context, by control.Caller, r *control.DenyRequest) (*control.DenyResult, error) {
	return &control.DenyResult{Waiter: waiter()}, i.f.call("Deny", by, *r)
}
