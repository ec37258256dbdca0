package control

import "time"

// Conventions: every document carries its schema; fields are only ever added; absent means unknown or none. Times are RFC 3339
// in UTC, durations milliseconds (`_ms`), sizes bytes, node ids the compact text form of the keys package.

// Envelope opens every document.
type Envelope struct {
	Schema string `json:"schema"`
}

func (e *Envelope) envelope() *Envelope { return e }

// Document is an answer with a schema of its own. Types outside this package join by embedding Envelope.
type Document interface {
	SchemaName() string // "meshkey.status/1"
	envelope() *Envelope
}

// NodeRef names a node: the name for people, the id for decisions. The name is empty where two live nodes hold it.
type NodeRef struct {
	Name string `json:"name,omitempty"`
	ID   string `json:"id"`
}

// Warning is something that works but needs attention, with the next step.
type Warning struct {
	Code string `json:"code"` // stable word, such as "expires-soon"
	Text string `json:"text"`
	Next string `json:"next,omitempty"`
}

// Status is the whole of this node at a glance.
type Status struct {
	Envelope
	Node        NodeRef         `json:"node"`
	Mesh        MeshInfo        `json:"mesh"`
	Version     string          `json:"version"`
	State       string          `json:"state"` // starting | syncing | up | degraded | draining | shut-out: peers say it is revoked | revoked
	Started     time.Time       `json:"started"`
	UptimeMS    int64           `json:"uptime_ms"`
	Tags        []string        `json:"tags,omitempty"`
	Issuer      bool            `json:"issuer"` // holds an unlocked issuer key
	NotAfter    time.Time       `json:"not_after,omitzero"`
	Listen      []string        `json:"listen"`
	Interfaces  []Interface     `json:"interfaces,omitempty"`
	Trust       TrustInfo       `json:"trust"`
	Peers       []Peer          `json:"peers"`
	Offering    []Service       `json:"offering"`
	Reachable   []RemoteService `json:"reachable"`
	Audit       AuditInfo       `json:"audit"`
	Connections []Connection    `json:"connections,omitempty"`
	Warnings    []Warning       `json:"warnings,omitempty"`
	Expiring    []Expiry        `json:"expiring,omitempty"`       // certificates that end soon, the next first, this node's among them
	ExpiringAll int             `json:"expiring_total,omitempty"` // with those that the list leaves out
}

// Expiry is a certificate that ends soon. Why is late (it renews itself and should have), by-hand (its membership ends at a date), guest
// (it was made to end), ended (it renews itself when its machine is back) or, of this node alone, over (it can only be enrolled
// again). TierDays is 30, 14, 7 or 1: at most so many days are left; 0
// is ended. Degraded ones are among the warnings, too.
type Expiry struct {
	Node     NodeRef   `json:"node"`
	NotAfter time.Time `json:"not_after"`
	LeftMS   int64     `json:"left_ms"`
	TierDays int       `json:"tier_days"`
	Why      string    `json:"why"`
	Self     bool      `json:"self,omitempty"`
	Degraded bool      `json:"degraded,omitempty"`
	Text     string    `json:"text"`
	Next     string    `json:"next,omitempty"`
}

func (*Status) SchemaName() string { return "meshkey.status/1" }

// MeshInfo names the mesh.
type MeshInfo struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Interface is one network interface used for beacons.
type Interface struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses,omitempty"`
	State     string   `json:"state"` // up | mute | down
	Error     string   `json:"error,omitempty"`
}

// TrustInfo says how far this node knows the mesh's decisions.
type TrustInfo struct {
	RootVersion uint64 `json:"root_version"`
	Digest      string `json:"digest"`
	Members     int    `json:"members"`
	Revoked     int    `json:"revoked"`
	Grants      int    `json:"grants"`
	AgeMS       *int64 `json:"age_ms,omitempty"` // since the newest head; absent if there never was one: the age is unknown
	Upgrade     bool   `json:"upgrade_needed,omitempty"`

	HeadSigners []string  `json:"head_signers"`        // issuers whose heads tell how old a view is
	LastEntry   time.Time `json:"last_entry,omitzero"` // the newest change known here; it does not say that nothing is missing
	MaxStaleMS  int64     `json:"max_stale_ms"`        // the root's limit for the age; 0: none
	StaleAction string    `json:"stale_action"`        // warn | restrict: what is done beyond it
	Stale       bool      `json:"stale,omitempty"`     // it is beyond it
}

// AuditInfo is the state of this node's audit log.
type AuditInfo struct {
	Entries     uint64    `json:"entries"`
	State       string    `json:"state"` // ok | degraded
	Reason      string    `json:"reason,omitempty"`
	Checkpoint  time.Time `json:"checkpoint,omitzero"`
	Witnesses   []string  `json:"witnesses,omitempty"`
	RefusedDay  uint64    `json:"refused_today"`
	Unwitnessed bool      `json:"unwitnessed,omitempty"`
}

// Peer is another member. State means: up, suspect (silent for 10 s), stale, offline, pruned (silent for 20 s), expired,
// revoked, pending.
type Peer struct {
	NodeRef
	State     string    `json:"state"`
	Was       string    `json:"was,omitempty"` // of a revoked key: the name it had
	Tags      []string  `json:"tags,omitempty"`
	Path      string    `json:"path,omitempty"`    // direct lan | direct | relay NAME
	Address   string    `json:"address,omitempty"` // in use, or the last one
	RTTMicros int64     `json:"rtt_us,omitempty"`
	BytesIn   uint64    `json:"bytes_in"`
	BytesOut  uint64    `json:"bytes_out"`
	Streams   int       `json:"streams"`
	Since     time.Time `json:"since,omitzero"` // of State
	LastSeen  time.Time `json:"last_seen,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Session   string    `json:"session,omitempty"` // full | restricted | sync-only | renew-only | draining
	Version   string    `json:"version,omitempty"`
	Flags     []string  `json:"flags,omitempty"` // clock_skew, clone, name_conflict, …
	Reason    string    `json:"reason,omitempty"`
	View      *PeerView `json:"view,omitempty"`
	Health    *Health   `json:"health,omitempty"`
}

// Health is what a peer has said of itself, and when. It is the peer's own word, and no sign of life.
type Health struct {
	At       time.Time `json:"at"`
	Told     bool      `json:"told,omitempty"` // signed by the peer and passed on by others: there is no session with it
	Version  string    `json:"version,omitempty"`
	UptimeMS int64     `json:"uptime_ms,omitempty"`
	Load     float64   `json:"load"` // one-minute average
	DiskFree uint64    `json:"disk_free,omitempty"`
	Audit    string    `json:"audit,omitempty"`    // ok | degraded
	ClockMS  int64     `json:"clock_ms,omitempty"` // its clock less this machine's, as its heartbeats arrive
}

// PeerView is what a peer has told of its trust view.
type PeerView struct {
	Same  bool      `json:"same"`             // as this node's
	At    time.Time `json:"at"`               // when it told
	AgeMS *int64    `json:"age_ms,omitempty"` // since the newest head it holds; absent: it told of none
}

// Peers lists the members but this one, by name.
type Peers struct {
	Envelope
	Peers []Peer     `json:"peers"`
	Trust *TrustInfo `json:"trust,omitempty"` // this node's view
}

func (*Peers) SchemaName() string { return "meshkey.peers/1" }

// Service is one service this node offers.
type Service struct {
	Name      string    `json:"name"`
	Target    string    `json:"target"`
	HTTP      bool      `json:"http,omitempty"`
	State     string    `json:"state"` // up | down | draining
	Since     time.Time `json:"since,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Grants    int       `json:"grants"`
	Refused   uint64    `json:"refused_today"`
	Streams   int       `json:"streams"`
	AllowedTo []NodeRef `json:"allowed_to,omitempty"` // who can reach it now
}

// RemoteService is one service of a peer that this node may use.
type RemoteService struct {
	Node   NodeRef   `json:"node"`
	Name   string    `json:"name"`
	Proto  string    `json:"proto,omitempty"` // tcp | http
	State  string    `json:"state"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Grant  string    `json:"grant,omitempty"`
}

// Services lists both directions.
type Services struct {
	Envelope
	Offering  []Service       `json:"offering"`
	Reachable []RemoteService `json:"reachable"`
}

func (*Services) SchemaName() string { return "meshkey.services/1" }

// ExposeRequest offers a service. Target is PORT, HOST:PORT or unix:/PATH. Allow holds subjects as in GrantRequest.Who; each
// makes a grant, if this node may.
type ExposeRequest struct {
	Name    string   `json:"name"`
	Target  string   `json:"target"`
	HTTP    bool     `json:"http,omitempty"`
	Allow   []string `json:"allow,omitempty"`
	Replace bool     `json:"replace,omitempty"` // an existing service of that name with another target
}

// ExposeResult tells who can reach the service now.
type ExposeResult struct {
	Envelope
	Service  Service   `json:"service"`
	Granted  []Grant   `json:"granted,omitempty"`
	Next     string    `json:"next,omitempty"` // how to let somebody in, or who must be asked
	Warnings []Warning `json:"warnings,omitempty"`
}

func (*ExposeResult) SchemaName() string { return "meshkey.expose/1" }

// UnexposeRequest withdraws a service.
type UnexposeRequest struct {
	Name string `json:"name"`
}

// UnexposeResult tells what was cut off. Target and HTTP allow undoing it.
type UnexposeResult struct {
	Envelope
	Service       Service `json:"service"`
	ClosedStreams int     `json:"closed_streams"`
}

func (*UnexposeResult) SchemaName() string { return "meshkey.unexpose/1" }

// Grant is one permission of the mesh. ID is short and unique in the mesh as this node sees it ("g-18").
type Grant struct {
	ID        string    `json:"id"`
	Who       string    `json:"who"`  // any | node name or id | tag:x
	What      string    `json:"what"` // service | node/service | tag:x/service; service may be *
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Note      string    `json:"note,omitempty"`
	State     string    `json:"state"`         // active | future | expired | void: a machine it names is no member any more
	Why       string    `json:"why,omitempty"` // of void
}

// Grants lists permissions.
type Grants struct {
	Envelope
	Grants []Grant `json:"grants"`
}

func (*Grants) SchemaName() string { return "meshkey.grants/1" }

// GrantsQuery filters; empty fields match all.
type GrantsQuery struct {
	Who  string
	What string
}

// GrantRequest gives a permission. Who is any, a node name or id, or tag:x; What as in Grant. Zero times: from now, for ever.
type GrantRequest struct {
	Who       string    `json:"who"`
	What      string    `json:"what"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Note      string    `json:"note,omitempty"`
	WaitMS    int64     `json:"wait_ms,omitempty"` // how long to wait for acknowledgements
}

// Applied tells that one node has acted on a change.
type Applied struct {
	Node           NodeRef `json:"node"`
	AfterMS        int64   `json:"after_ms"`
	ClosedSessions int     `json:"closed_sessions"`
	ClosedStreams  int     `json:"closed_streams"`
	Signed         bool    `json:"signed,omitempty"` // by the node's own receipt
}

// Pending tells that one node is not known to have acted on a change.
type Pending struct {
	Node   NodeRef `json:"node"`
	Reason string  `json:"reason"` // "offline 3 d", "no acknowledgement yet"
}

// Spread tells how far a change of the mesh has got. The first element of Applied is this node.
type Spread struct {
	Applied []Applied `json:"applied"`
	Pending []Pending `json:"pending,omitempty"`
}

// GrantResult is the grant as written.
type GrantResult struct {
	Envelope
	Grant    Grant `json:"grant"`
	Existing bool  `json:"existing,omitempty"` // nothing was written: it said so already
	Spread
	// Offered tells whether anybody the grant is about offers the service: yes, no, or unknown, for a node is told only of services it
	// may use. Empty: not one service.
	Offered  string    `json:"offered,omitempty"`
	Warnings []Warning `json:"warnings,omitempty"`
}

func (*GrantResult) SchemaName() string { return "meshkey.grant/1" }

// UngrantRequest takes a permission back.
type UngrantRequest struct {
	ID     string `json:"id"`
	WaitMS int64  `json:"wait_ms,omitempty"`
}

// UngrantResult tells which permission is gone.
type UngrantResult struct {
	Envelope
	Grant Grant `json:"grant"`
	Spread
	Warnings []Warning `json:"warnings,omitempty"`
}

func (*UngrantResult) SchemaName() string { return "meshkey.ungrant/1" }

// RevokeRequest removes a node's key from the mesh, for ever. With DryRun nothing happens and the result tells what would.
type RevokeRequest struct {
	Node   string `json:"node"` // name or id
	Reason string `json:"reason,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
	Force  bool   `json:"force,omitempty"` // also the last issuer
	Now    bool   `json:"now,omitempty"`   // change the group secret even if it was changed within a day
	WaitMS int64  `json:"wait_ms,omitempty"`
}

// RevokeResult tells what was cut off. Grants are those that name the node, or a key it had before, and so become void; Shared are those it has
// a part in by its tags, or as anybody, and that stay for others.
type RevokeResult struct {
	Envelope
	Node   NodeRef `json:"node"`
	DryRun bool    `json:"dry_run,omitempty"`
	Grants []Grant `json:"grants,omitempty"`
	Shared []Grant `json:"shared_grants,omitempty"`
	Spread
	Invites    []Invite  `json:"invites,omitempty"`          // open ones for its name, of this issuer, which are taken back with it
	Generation uint64    `json:"group_generation,omitempty"` // of the group secret made with it
	Warnings   []Warning `json:"warnings,omitempty"`
}

func (*RevokeResult) SchemaName() string { return "meshkey.revoke/1" }
