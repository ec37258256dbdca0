package enroll

import (
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Ask notes a request for a person to decide about, durably; from is the address it came from. recorded, which may be nil, is told a new
// request before it is written; its error ends the matter. A node that asks again with another
// session replaces what it asked before, words included.
func (i *Issuer) Ask(id identity.InviteID, csr *identity.SignedCSR, from string, recorded func(Request) error) (*Request, error) {
	b := i.Book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := i.Now()
	v, again, err := b.usableLocked(id, csr.Node, now)
	if err != nil {
		return nil, err
	}
	if again != nil { // approved in this moment: it will find its answer
		return v.requests[csr.Node], nil
	}
	if _, err := i.planLocked(v, csr.Node, now, nil); err != nil {
		return nil, err
	}
	r, err := b.askLocked(v, csr, from, now, recorded)
	if err != nil {
		return nil, err
	}
	out := *r
	return &out, nil
}

// Fetch answers a node that asked before: with what it was granted, or ErrWaiting. It changes nothing but a log that lacks the entry.
func (i *Issuer) Fetch(id identity.InviteID, node keys.NodeID) (*Grant, error) {
	b := i.Book
	b.mu.Lock()
	defer b.mu.Unlock()
	v, again, err := b.usableLocked(id, node, i.Now())
	switch {
	case err != nil:
		return nil, err
	case again != nil:
		if err := i.repairLocked(); err != nil {
			return nil, err
		}
		return i.answerLocked(again, nil)
	case v.requests[node] != nil:
		return nil, ErrWaiting
	}
	return nil, ErrNoRequest
}

// Approve enrols the node of a waiting request, in the same transaction as Spend. Approving it twice is approving it once.
func (i *Issuer) Approve(id RequestID, a Approval, recorded Record) (*Grant, error) {
	b := i.Book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := i.Now()
	if err := i.repairLocked(); err != nil {
		return nil, err
	}
	r := b.asked[id]
	if r == nil {
		return nil, ErrNoRequest
	}
	if a.Words != nil && *a.Words != r.Words() {
		return nil, ErrWords
	}
	v := b.invites[r.Invite]
	if again := v.spendOf(r.Node); again != nil {
		return i.answerLocked(again, recorded)
	}
	if err := b.waitsLocked(r, now); err != nil {
		return nil, err
	}
	p, err := i.planLocked(v, r.Node, now, &a)
	if err != nil {
		return nil, err
	}
	return i.spendLocked(&record{Kind: kindSpent, ID: v.ID, UID: a.UID, Channel: r.Channel[:]}, p, r.Node, now, recorded)
}

// ApproveFile enrols the node of a request file. Unlike an invite's, the request's own name and tags count where the person says nothing
// else. The same file gets the same certificate again.
func (i *Issuer) ApproveFile(q *RequestFile, a Approval, recorded Record) (*Grant, error) {
	b := i.Book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := i.Now()
	if err := i.repairLocked(); err != nil {
		return nil, err
	}
	// The words are what ties the file to the machine it was made on: whoever carried it could have put another one in its place.
	if a.Words == nil || *a.Words != q.CSR.Words() {
		return nil, ErrWords
	}
	if again := b.files[q.CSR.ID]; again != nil {
		return i.answerLocked(again, recorded)
	}
	p, err := i.finish(plan{name: q.CSR.Name, tags: q.CSR.Tags, life: a.Life, renewUntil: a.RenewUntil}, q.CSR.Node, now, &a)
	if err != nil {
		return nil, err
	}
	return i.spendLocked(&record{Kind: kindFile, UID: a.UID, Channel: q.CSR.ID[:]}, p, q.CSR.Node, now, recorded)
}
