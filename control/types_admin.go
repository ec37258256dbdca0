package control

import "time"

// Decision is the policy's answer to "may FROM use TARGET", by the grants this node holds.
type Decision struct {
	Envelope
	Allowed bool   `json:"allowed"`
	From    string `json:"from"`
	Target  string `json:"target"` // node/service
	Reason  string `json:"reason"`
	Grant   string `json:"grant,omitempty"`   // the grant that allows it: "g-09 tag:dba -> */postgres"
	Near    string `json:"near,omitempty"`    // the grant that almost does
	Why     string `json:"why,omitempty"`     // what keeps that one from it, in a sentence
	Command string `json:"command,omitempty"` // that would mend it

	By      *Grant    `json:"by,omitempty"`      // the grant that allows it
	Nearest *Grant    `json:"nearest,omitempty"` // the one of Near
	At      time.Time `json:"at,omitzero"`       // the time that was asked about; zero: now
}

func (*Decision) SchemaName() string { return "meshkey.decision/1" }

// DecideRequest asks for a Decision. Empty From is this node, zero At is now.
type DecideRequest struct {
	From   string
	Target string
	At     time.Time
}

// Denial is what the refused side can know about a refusal. Audit is the number of the record in the refusing node's log
// ("gpu1#18211"); it is empty if that node was not asked.
type Denial struct {
	From    string `json:"from"`
	Target  string `json:"target"`
	Reason  string `json:"reason,omitempty"`
	Near    string `json:"near,omitempty"`
	Audit   string `json:"audit,omitempty"`
	Command string `json:"command,omitempty"` // meshkey grant …, for somebody who may
}

// AuditQuery selects records of this node's log in order of index. Zero From begins at the start; with Last the newest Limit
// matching records are selected instead. Empty filters match all.
type AuditQuery struct {
	Log     string // empty: the log of the key in use; 1: of the key before the last rotation, 2: of the one before that; or such a key's id
	From    uint64
	Limit   int
	Last    bool
	Since   time.Time
	Until   time.Time
	Code    string // noun.verb, or noun alone
	Actor   string
	Target  string
	Verdict string
}

// AuditRecord is one entry of the log. Names are the ones known now, of keys that are no
// member's any more with the beginning of the id; the log itself holds ids. An entry that cannot be read has
// only an index and an error.
type AuditRecord struct {
	Index      uint64    `json:"index"`
	Time       time.Time `json:"time,omitzero"`
	Code       string    `json:"code,omitempty"`
	Actor      string    `json:"actor,omitempty"`
	Target     string    `json:"target,omitempty"`
	Verdict    string    `json:"verdict,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Grant      string    `json:"grant,omitempty"`
	Session    string    `json:"session,omitempty"`
	Bytes      uint64    `json:"bytes,omitempty"`
	DurationMS int64     `json:"duration_ms,omitempty"`
	Before     string    `json:"before,omitempty"`
	After      string    `json:"after,omitempty"`
	Count      uint64    `json:"count,omitempty"` // how many events it stands for, if more than one
	Error      string    `json:"error,omitempty"`
}

// AuditPage is a part of the log. Next is where to go on, 0 at the end.
type AuditPage struct {
	Envelope
	Log     string        `json:"log"` // origin of the log
	Size    uint64        `json:"size"`
	Records []AuditRecord `json:"records"`
	Next    uint64        `json:"next,omitempty"`
}

func (*AuditPage) SchemaName() string { return "meshkey.audit/1" }

// AuditEntry is one record with what is hashed.
type AuditEntry struct {
	Envelope
	Log    string      `json:"log"`
	Record AuditRecord `json:"record"`
	Leaf   []byte      `json:"leaf"`      // canonical CBOR, base64 in JSON
	Hash   string      `json:"leaf_hash"` // RFC 6962 leaf hash, hexadecimal
}

func (*AuditEntry) SchemaName() string { return "meshkey.audit-entry/1" }

// AuditFinding is one thing that does not verify. First and Last are record indices, both included; all before First is proven.
type AuditFinding struct {
	Log   string `json:"log,omitempty"` // of an earlier key; empty: the report's own
	Kind  string `json:"kind"`          // entry | leaf | missing | unsigned | tile | range | checkpoint | journal | fork | unreadable
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	File  string `json:"file,omitempty"`
	Text  string `json:"text"`
}

// AuditReport is the result of a verification. OK is true only if there is no finding.
type AuditReport struct {
	Envelope
	Log         string         `json:"log"`
	OK          bool           `json:"ok"`
	Size        uint64         `json:"size"`
	Signed      uint64         `json:"signed"` // records the newest signature covers
	Root        string         `json:"root,omitempty"`
	Checkpoint  time.Time      `json:"checkpoint,omitzero"`
	Witnesses   []string       `json:"witnesses,omitempty"`
	Gaps        uint64         `json:"gaps,omitempty"`       // times when events were lost, as the log itself says
	Recoveries  uint64         `json:"recoveries,omitempty"` // starts after a crash, as the log itself says
	Findings    []AuditFinding `json:"findings,omitempty"`   // by First
	More        int            `json:"more_findings,omitempty"`
	DurationMS  int64          `json:"duration_ms"`
	StateDir    string         `json:"state_dir,omitempty"` // with an offline verification
	Unwitnessed bool           `json:"unwitnessed,omitempty"`
	Before      []AuditBefore  `json:"before,omitempty"` // the logs of this node's earlier keys, newest first
}

// AuditBefore is the log of a key this node had before a rotation, held against what the next log says of it. State is missing or damaged
// if it was so when the next one began: then nothing is proven of it, nor of those before it.
type AuditBefore struct {
	Log   string `json:"log"`
	Size  uint64 `json:"size"`
	OK    bool   `json:"ok"`
	State string `json:"state,omitempty"`
}

func (*AuditReport) SchemaName() string { return "meshkey.audit-report/1" }

// Version tells what the daemon is.
type Version struct {
	Envelope
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Protocol int    `json:"protocol"`
	PID      int    `json:"pid,omitempty"`
	OwnerUID int64  `json:"owner_uid"`
}

func (*Version) SchemaName() string { return "meshkey.version/1" }

// Empty answers requests that have nothing else to tell.
type Empty struct {
	Envelope
}

func (*Empty) SchemaName() string { return "meshkey.done/1" }

// ConnectRequest asks for a way to a service, "node/service". Without Stdio the daemon listens on Listen, or on an address of
// its choice, for as long as the connection of the request is open. AllowUIDs and AnyUser widen who is served beyond the owner.
type ConnectRequest struct {
	Target    string   `json:"target"`
	Listen    string   `json:"listen,omitempty"`
	AllowUIDs []uint32 `json:"allow_uids,omitempty"`
	AnyUser   bool     `json:"any_user,omitempty"`
}

// Connection is one listener held for a client.
type Connection struct {
	Listen  string    `json:"listen"`
	Target  string    `json:"target"`
	Since   time.Time `json:"since"`
	Active  int       `json:"active"`
	Total   uint64    `json:"total"`
	Refused uint64    `json:"refused"`
}

// ConnectEvent is one line of the answer to a ConnectRequest, a stream of JSON Lines. The first is "listening" or an error
// document, and one more follows when the daemon has come back; "open" and "close" follow for each connection, "refused" for one that was not served, "failed" if the listener broke.
type ConnectEvent struct {
	Envelope
	Event    string `json:"event"` // listening | open | close | refused | failed
	Listen   string `json:"listen,omitempty"`
	Target   string `json:"target,omitempty"`
	HTTP     bool   `json:"http,omitempty"` // the service speaks HTTP
	From     string `json:"from,omitempty"`
	BytesIn  int64  `json:"bytes_in,omitempty"`  // from the mesh
	BytesOut int64  `json:"bytes_out,omitempty"` // to the mesh
	Note     string `json:"note,omitempty"`      // such as: another port than asked for, and why
	Error    *Error `json:"error,omitempty"`

	Warnings []Warning `json:"warnings,omitempty"` // with listening: why connections may fail
}

func (*ConnectEvent) SchemaName() string { return "meshkey.connect/1" }

// ErrorDocument carries an Error.
type ErrorDocument struct {
	Envelope
	Error *Error `json:"error"`
}

func (*ErrorDocument) SchemaName() string { return "meshkey.error/1" }
