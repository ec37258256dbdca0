package enroll

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Errors of requests that a person decides about.
var (
	// ErrWaiting: the request is noted, and a person has to approve it.
	ErrWaiting = errors.New("the request waits for approval")
	// ErrDenied: a person said no.
	ErrDenied = errors.New("the request was denied")
	// ErrNoRequest: no such request waits here.
	ErrNoRequest = errors.New("no such request waits here")
	// ErrTooMany: the list of requests, or the part of it one invite or node may fill, is full.
	ErrTooMany = errors.New("too many requests wait; approve or deny some, or make a new invite")
	// ErrWords: the words a person gave are not those of the request.
	ErrWords = errors.New("these are not the words of the request: it may be somebody else's; nothing was approved")
)

// RequestID names a waiting request at its issuer.
type RequestID [8]byte

// String returns the id in hexadecimal.
func (r RequestID) String() string { return hex.EncodeToString(r[:]) }

// ParseRequestID reads the hexadecimal form.
func ParseRequestID(s string) (RequestID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(RequestID{}) {
		return RequestID{}, fmt.Errorf("a request's id is %d hexadecimal digits", 2*len(RequestID{}))
	}
	return RequestID(b), nil
}

func newRequestID() (id RequestID) {
	rand.Read(id[:])
	return id
}

// Request is what a node asked by an invite that requires approval. Name and Tags are its wishes.
type Request struct {
	ID         RequestID
	Invite     identity.InviteID
	InviteName string // the invite's name and tags are what it gets if a person says nothing else
	InviteTags []string
	Node       keys.NodeID
	Name       string
	Tags       []string
	Channel    keys.Hash // of the session it was last asked in: both ends show its words
	Address    string    // where that session came from
	Asked      int64     // the first time
	Denied     int64     // 0: not

	times int // how often it was asked
}

// Words are what both ends show.
func (r *Request) Words() [3]string { return identity.Words(r.Channel) }

// alive reports whether the request may still be answered.
func (r *Request) alive(now int64) bool { return now < r.Asked+requestLife }

func (b *Book) applyAskedLocked(v *Invite, r *record) error {
	if len(r.Node) != 32 || len(r.Request) != len(RequestID{}) || len(r.Channel) != 32 {
		return fmt.Errorf("request by invite %s without a node, an id or a session", r.ID)
	}
	node, id := keys.NodeID(r.Node), RequestID(r.Request)
	q := v.requests[node]
	if held := b.asked[id]; held != q || q != nil && q.ID != id {
		return fmt.Errorf("request %s belongs to two nodes", id)
	}
	if q == nil {
		q = &Request{ID: id, Invite: v.ID, InviteName: v.Name, InviteTags: v.Tags, Node: node, Asked: r.Time}
		v.requests[node], b.asked[id] = q, q
	}
	q.Name, q.Tags, q.Channel, q.Address = r.Name, r.Tags, keys.Hash(r.Channel), r.Address
	q.times++
	return nil
}

// waitsLocked says why a request cannot be decided any more; nil: it waits.
func (b *Book) waitsLocked(r *Request, now int64) error {
	v := b.invites[r.Invite]
	switch {
	case !r.alive(now):
		return ErrExpired
	case v.spendOf(r.Node) != nil, r.Denied != 0:
		return ErrNoRequest
	case v.Removed != 0:
		return ErrRemoved
	case len(v.Spends) >= int(v.Uses):
		return ErrUsed
	}
	return nil
}

// Waiting lists the requests that wait for a person, oldest first.
func (b *Book) Waiting(now int64) []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Request
	for _, r := range b.asked {
		if b.waitsLocked(r, now) == nil {
			out = append(out, *r)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Asked != out[j].Asked {
			return out[i].Asked < out[j].Asked
		}
		return out[i].ID.String() < out[j].ID.String()
	})
	return out
}

// askLocked notes a request, or the newest session of one that waits already, durably. Whoever is beyond the bounds leaves no record either.
func (b *Book) askLocked(v *Invite, csr *identity.SignedCSR, from string, now int64, recorded func(Request) error) (*Request, error) {
	id := newRequestID()
	if q := v.requests[csr.Node]; q != nil {
		switch {
		case !q.alive(now):
			return nil, ErrExpired
		case q.Channel == csr.Nonce:
			return q, nil
		case q.times > maxAgain:
			return nil, ErrTooMany
		}
		id = q.ID
	} else {
		waiting := 0
		for _, r := range b.asked {
			if b.waitsLocked(r, now) == nil {
				waiting++
			}
		}
		if waiting >= MaxWaiting || len(v.requests) >= 2*int(v.Uses)+maxAsked {
			return nil, ErrTooMany
		}
		if recorded != nil {
			if err := recorded(Request{Invite: v.ID, Node: csr.Node, Name: csr.Name, Tags: csr.Tags, Channel: csr.Nonce, Address: from}); err != nil {
				return nil, err
			}
		}
	}
	if err := b.writeLocked(&record{
		Kind: kindAsked, ID: v.ID, Time: now, Name: csr.Name, Tags: csr.Tags, Node: csr.Node[:], Request: id[:], Channel: csr.Nonce[:],
		Address: from[:min(len(from), maxAddress)],
	}); err != nil {
		return nil, err
	}
	return v.requests[csr.Node], nil
}

// Deny says no to a request for good: the node cannot ask again by that invite. record, which may be nil, is told the request before
// anything is written.
func (b *Book) Deny(id RequestID, uid uint32, now int64, record func(Request) error) (*Request, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.asked[id]
	if r == nil {
		return nil, ErrNoRequest
	}
	if err := b.waitsLocked(r, now); err != nil {
		return nil, err
	}
	if record != nil {
		if err := record(*r); err != nil {
			return nil, err
		}
	}
	if err := b.writeLocked(denial(r, uid, now)); err != nil {
		return nil, err
	}
	out := *r
	return &out, nil
}

func denial(r *Request, uid uint32, now int64) *record {
	return &record{Kind: kindDenied, ID: r.Invite, Time: now, UID: uid, Node: r.Node[:]}
}
