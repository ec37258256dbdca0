package control

import (
	"context"

	"github.com/sovereignmesh/meshkey/internal/forward"
)

// Caller is the local user behind a request, as the kernel reported it for the socket connection.
type Caller struct {
	UID uint32
	GID uint32
	PID int32 // 0 where the system does not tell; never used for a decision
}

// Backend is the daemon as the local API sees it. Every field must be set. The methods are called from many goroutines, each
// with a context that ends with the client's connection or a deadline; errors are [*Error] where the client should act on them.
// The server has already checked that the caller may do it; Caller is for the audit record.
type Backend struct {
	View    Viewer
	Offer   Offerer
	Policy  Policy
	Invites Inviter
	Audit   Auditor
	Connect Connector
	Process Process
	Roots   Rooter
	Life    Lifer
}

// Viewer reads. Results are snapshots the server may keep and change.
type Viewer interface {
	Status(ctx context.Context) (*Status, error)
	Peers(ctx context.Context) (*Peers, error)
	Services(ctx context.Context) (*Services, error)
	Grants(ctx context.Context, q GrantsQuery) (*Grants, error)
	Decide(ctx context.Context, r DecideRequest) (*Decision, error)
	Doctor(ctx context.Context) (*Doctor, error)
	Metrics(ctx context.Context) (*Metrics, error)
}

// Offerer changes what this node offers. A service is durable before Expose returns.
type Offerer interface {
	Expose(ctx context.Context, by Caller, r *ExposeRequest) (*ExposeResult, error)
	Unexpose(ctx context.Context, by Caller, r *UnexposeRequest) (*UnexposeResult, error)
}

// Policy changes the mesh. The change is durable and applied on this node before these return; r.WaitMS bounds the wait for
// others, and its end is no error.
type Policy interface {
	Grant(ctx context.Context, by Caller, r *GrantRequest) (*GrantResult, error)
	Ungrant(ctx context.Context, by Caller, r *UngrantRequest) (*UngrantResult, error)
	PolicyFile(ctx context.Context, by Caller, r *PolicyRequest) (*PolicyResult, error) // changes only with mode apply
	Revoke(ctx context.Context, by Caller, r *RevokeRequest) (*RevokeResult, error)
	RotateGroup(ctx context.Context, by Caller, r *RotateGroupRequest) (*RotateGroupResult, error)
}

// Lifer changes this node's own membership. After RotateNode the daemon runs on with the new key; after Leave it stops.
type Lifer interface {
	RotateNode(ctx context.Context, by Caller, r *RotateNodeRequest) (*RotateNodeResult, error)
	Leave(ctx context.Context, by Caller, r *LeaveRequest) (*LeaveResult, error)
}

// Inviter keeps the invites of this node's issuer, and who waits for approval. An approval is durable before Approve returns; wrong
// words are Unverified, an unknown id NotFound.
type Inviter interface {
	CreateInvite(ctx context.Context, by Caller, r *InviteRequest) (*InviteResult, error)
	Invites(ctx context.Context) (*Invites, error)
	RemoveInvite(ctx context.Context, by Caller, id string) error
	Pending(ctx context.Context) (*Pendings, error)
	Approve(ctx context.Context, by Caller, r *ApproveRequest) (*ApproveResult, error)
	Deny(ctx context.Context, by Caller, r *DenyRequest) (*DenyResult, error)
}

// Auditor reads this node's audit log. Log returns at most q.Limit records (1 to MaxAuditPage).
type Auditor interface {
	Log(ctx context.Context, q AuditQuery) (*AuditPage, error)
	Entry(ctx context.Context, index uint64) (*AuditEntry, error)
	Verify(ctx context.Context) (*AuditReport, error)
}

// Endpoint is a service of a peer, resolved. Port is the port to offer locally if one is known, else 0.
type Endpoint struct {
	Node    NodeRef
	Service string
	HTTP    bool
	Port    uint16
	// Warnings say what may keep it from working: it is down, or not known.
	Warnings []Warning
}

// Connector opens streams. Resolve fails with NotFound for an unknown node, and for a service that its node is known not to offer, which
// it may ask once; if the grants held here already say no it returns the endpoint *and* an error of [Refuse]. Open asks the peer; a refusal is a [Refuse] with the number of
// the peer's audit record, if it told one. What first, which may be nil, has to send already goes with the request for the stream. Its context bounds the
// opening alone: the stream outlives it and belongs to the caller.
// Repin makes a name mean another key than at its first use here; it is recorded before it is done.
type Connector interface {
	Resolve(ctx context.Context, target string) (*Endpoint, error)
	Open(ctx context.Context, by Caller, target string, first func(p []byte) int) (forward.Stream, error)
	Repin(ctx context.Context, by Caller, r *RepinRequest) (*RepinResult, error)
}

// Rooter shows and changes the root. AcceptRoot and CutIssuer are durable and applied on this node before they return; r.WaitMS
// bounds the wait for others. None of them needs, or has, a root key: a root is signed elsewhere.
type Rooter interface {
	Root(ctx context.Context) (*Root, error)
	RootChain(ctx context.Context) (*RootChain, error)
	AcceptRoot(ctx context.Context, by Caller, r *AcceptRootRequest) (*AcceptRootResult, error)
	CutIssuer(ctx context.Context, by Caller, r *CutIssuerRequest) (*CutIssuerResult, error)
	NewIssuerKey(ctx context.Context, by Caller, r *NewIssuerKeyRequest) (*PublicKey, error)
}

// Process is the daemon as a process. A reset of the time floor is recorded before it is done, and durable before it returns.
type Process interface {
	Version() *Version
	Ready(ctx context.Context) error // nil as soon as the node serves, also if ctx has ended; else the context's error
	ResetTimeFloor(ctx context.Context, by Caller, r *ResetTimeFloorRequest) (*ResetTimeFloorResult, error)
	Shutdown(by Caller) // asks for an orderly stop and returns at once
}
