package control

import (
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
)

// InviteRequest makes an invite. Zero TTL is one hour, or a day if approval is required; zero Uses is one. Allow are resources as in a
// grant, which the newcomer may use. Guest is a membership that is never renewed by itself, for so long; RenewUntil one that ends then.
type InviteRequest struct {
	Name       string    `json:"name"`
	Tags       []string  `json:"tags,omitempty"`
	TTLMS      int64     `json:"ttl_ms,omitempty"`
	Uses       int       `json:"uses,omitempty"`
	Allow      []string  `json:"allow,omitempty"`
	GuestMS    int64     `json:"guest_ms,omitempty"`
	RenewUntil time.Time `json:"renew_until,omitzero"`
	Approval   bool      `json:"approval,omitempty"`
}

// Invite is one invite as its issuer keeps it; the secret is not part of it.
type Invite struct {
	ID         string      `json:"id"`
	Name       string      `json:"name"`
	Tags       []string    `json:"tags,omitempty"`
	Created    time.Time   `json:"created"`
	Expires    time.Time   `json:"expires"`
	Uses       int         `json:"uses_left"`
	State      string      `json:"state"` // open | used | expired | removed
	UsedBy     []NodeRef   `json:"used_by,omitempty"`
	Used       []InviteUse `json:"used,omitempty"` // the same with more of it
	Allow      []string    `json:"allow,omitempty"`
	Approval   bool        `json:"approval,omitempty"`
	Guest      bool        `json:"guest,omitempty"` // never renewed by itself
	RenewUntil time.Time   `json:"renew_until,omitzero"`
	Waiting    []string    `json:"waiting,omitempty"` // ids of requests that wait for approval
	// Asking are machines that hold the invite in this moment, and have not asked to join yet.
	Asking []InviteAsking `json:"asking,omitempty"`
}

// InviteAsking is a machine in front of the question whether to join: its screen shows the same words, unless somebody is in between.
type InviteAsking struct {
	NodeText string    `json:"node_short"`
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`
	Words    []string  `json:"words"`
}

// InviteUse is one machine that became a member by an invite. Words are those both ends showed.
type InviteUse struct {
	Node  NodeRef   `json:"node"`
	Time  time.Time `json:"time"`
	Words []string  `json:"words,omitempty"`
}

// InviteResult is a new invite. Text is the secret line itself; it is in no other document.
type InviteResult struct {
	Envelope
	Invite    Invite    `json:"invite"`
	Text      string    `json:"text"`
	Endpoints []string  `json:"endpoints"`
	Warnings  []Warning `json:"warnings,omitempty"`
}

func (*InviteResult) SchemaName() string { return "meshkey.invite/1" }

// Invites lists the invites of this issuer.
type Invites struct {
	Envelope
	Invites []Invite `json:"invites"`
}

func (*Invites) SchemaName() string { return "meshkey.invites/1" }

// Waiter is a machine that waits for approval. Name and Tags are its wishes; it gets those of the invite unless who approves says
// otherwise.
type Waiter struct {
	ID         string    `json:"id"`
	Node       string    `json:"node"` // its id
	NodeText   string    `json:"node_short"`
	Name       string    `json:"name"`
	Tags       []string  `json:"tags,omitempty"`
	Words      []string  `json:"words"`
	Since      time.Time `json:"since"`
	Address    string    `json:"address"`
	Invite     string    `json:"invite"`
	InviteName string    `json:"invite_name"`
	InviteTags []string  `json:"invite_tags,omitempty"`
}

// Pendings lists who waits for approval at this issuer, oldest first.
type Pendings struct {
	Envelope
	Waiting []Waiter `json:"waiting"`
}

func (*Pendings) SchemaName() string { return "meshkey.pending/1" }

// ApproveRequest lets a machine in: the waiting one with this ID, or the one whose request file is File. Words are those the machine
// shows; a file is not approved without them. What is empty is as the invite, or the file, says.
type ApproveRequest struct {
	ID     string   `json:"id,omitempty"`
	File   []byte   `json:"file,omitempty"`
	Name   string   `json:"name,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	NoTags bool     `json:"no_tags,omitempty"`
	Allow  []string `json:"allow,omitempty"`
	Words  []string `json:"words,omitempty"`
}

// ApproveResult is the new member. Response is the answer to a request file, sealed to the machine that made it.
type ApproveResult struct {
	Envelope
	Node     NodeRef   `json:"node"`
	Tags     []string  `json:"tags,omitempty"`
	NotAfter time.Time `json:"not_after"`
	Words    []string  `json:"words,omitempty"`
	Again    bool      `json:"again,omitempty"` // it was approved before
	Response []byte    `json:"response,omitempty"`
}

func (*ApproveResult) SchemaName() string { return "meshkey.approve/1" }

// DenyRequest says no to a waiting machine.
type DenyRequest struct {
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"`
}

// DenyResult is who was denied.
type DenyResult struct {
	Envelope
	Waiter Waiter `json:"denied"`
}

func (*DenyResult) SchemaName() string { return "meshkey.deny/1" }

func (r *InviteRequest) check() error {
	if err := checkName("node", r.Name); err != nil {
		return err
	}
	if err := identity.CheckTags(identity.NormalTags(r.Tags)); err != nil {
		return Errorf(Usage, "", "%w", err)
	}
	r.Tags = identity.NormalTags(r.Tags)
	if r.TTLMS < 0 || r.TTLMS > maxInviteTTL.Milliseconds() || r.TTLMS > 0 && r.TTLMS < time.Second.Milliseconds() {
		return Errorf(Usage, "", "an invite lives 1 second to %d days", maxInviteTTL/(24*time.Hour))
	}
	if r.Uses < 0 || r.Uses > maxUses {
		return Errorf(Usage, "", "an invite has 1 to %d uses", maxUses)
	}
	switch {
	case r.GuestMS != 0 && !r.RenewUntil.IsZero():
		return Errorf(Usage, "", "a guest is never renewed: give one of the two")
	case r.GuestMS < 0, r.GuestMS > 0 && r.GuestMS < time.Minute.Milliseconds(), r.GuestMS > maxGuest.Milliseconds():
		return Errorf(Usage, "", "a guest stays 1 minute to %d days", maxGuest/(24*time.Hour))
	case !r.RenewUntil.IsZero() && (r.RenewUntil.Unix() <= 0 || r.RenewUntil.Unix() > identity.MaxTime):
		return Errorf(Usage, "", "%s is no end of a membership", r.RenewUntil.Format(time.RFC3339))
	}
	return checkServices(r.Allow)
}

// checkServices checks what is allowed with an enrolment.
func checkServices(list []string) error {
	if len(list) > maxAllowed {
		return Errorf(Usage, "meshkey grant, afterwards", "at most %d services are allowed with an enrolment", maxAllowed)
	}
	for _, a := range list {
		if _, err := ParseResource(a); err != nil {
			return err
		}
	}
	return nil
}

func (r *InviteRemoveRequest) check() error {
	if _, err := identity.ParseInviteID(r.ID); err != nil {
		return Errorf(Usage, "meshkey invite ls", "%w", err)
	}
	return nil
}

func (r *ApproveRequest) check() error {
	if (r.ID == "") == (len(r.File) == 0) {
		return Errorf(Usage, "meshkey pending", "approve a request by its id, or a request file")
	}
	if len(r.File) > maxRequestFile {
		return Errorf(Usage, "", "a request file has at most %d bytes", maxRequestFile)
	}
	if r.ID != "" {
		if err := checkRequestID(r.ID); err != nil {
			return err
		}
	}
	if r.Name != "" {
		if err := checkName("node", r.Name); err != nil {
			return err
		}
	}
	r.Tags = identity.NormalTags(r.Tags)
	if err := identity.CheckTags(r.Tags); err != nil {
		return Errorf(Usage, "", "%w", err)
	}
	if r.NoTags && len(r.Tags) > 0 {
		return Errorf(Usage, "", "tags and no tags exclude each other")
	}
	if len(r.Words) != 0 && len(r.Words) != 3 || len(r.File) > 0 && len(r.Words) == 0 {
		return Errorf(Usage, "type the three words the new machine shows", "a request has three words")
	}
	return checkServices(r.Allow)
}

func (r *DenyRequest) check() error {
	if err := checkRequestID(r.ID); err != nil {
		return err
	}
	return checkText("reason", r.Reason, maxReason)
}

func checkRequestID(id string) error {
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		return Errorf(Usage, "meshkey pending", "%q is no id of a request", clip(id))
	}
	return nil
}
