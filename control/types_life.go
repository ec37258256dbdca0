package control

import "time"

// RotateGroupRequest asks for a new group secret: the one that hides beacons and the handshake from outsiders.
type RotateGroupRequest struct {
	Now    bool  `json:"now,omitempty"` // even if the last one is less than a day old
	WaitMS int64 `json:"wait_ms,omitempty"`
}

// RotateGroupResult tells the new generation and how far it has got.
type RotateGroupResult struct {
	Envelope
	Generation uint64 `json:"generation"`
	Spread
}

// SchemaName is the schema of the document.
func (*RotateGroupResult) SchemaName() string { return "meshkey.rotate-group/1" }

func (r *RotateGroupRequest) check() error { return checkWait(r.WaitMS) }

// RotateNodeRequest asks for a new key of this node. Drop gives up a rotation that is under way.
type RotateNodeRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
	Drop   bool `json:"drop,omitempty"`
}

// RotateNodeResult tells who this node is now. Sessions and Streams are what ends with the old key; Grants name it and pass on.
type RotateNodeResult struct {
	Envelope
	Old      NodeRef   `json:"old"`
	New      NodeRef   `json:"new,omitzero"`
	Issuer   NodeRef   `json:"issuer,omitzero"` // who has done it
	NotAfter time.Time `json:"not_after,omitzero"`
	Sessions int       `json:"sessions"`
	Streams  int       `json:"streams"`
	Grants   []Grant   `json:"grants,omitempty"`
	Pending  bool      `json:"pending,omitempty"` // a rotation was under way
	DryRun   bool      `json:"dry_run,omitempty"`
}

// SchemaName is the schema of the document.
func (*RotateNodeResult) SchemaName() string { return "meshkey.rotate-node/1" }

func (r *RotateNodeRequest) check() error {
	if r.DryRun && r.Drop {
		return Errorf(Usage, "", "a rotation is given up, or shown, not both")
	}
	return nil
}

// LeaveRequest asks that this node leave the mesh. Force leaves although it strands the mesh, or although nobody could be asked.
type LeaveRequest struct {
	DryRun bool  `json:"dry_run,omitempty"`
	Force  bool  `json:"force,omitempty"`
	WaitMS int64 `json:"wait_ms,omitempty"` // how long to look for an issuer
}

// LeaveResult tells what a leave has done, or would do. Applied is false if nobody could revoke the key: then that remains to be done.
type LeaveResult struct {
	Envelope
	Node     NodeRef   `json:"node"`
	Mesh     MeshInfo  `json:"mesh"`
	Applied  bool      `json:"applied"`
	Already  bool      `json:"already,omitempty"` // the key was revoked before, by a signed entry in this node's log
	Told     bool      `json:"told,omitempty"`    // peers say that it was, and nothing here proves it
	Issuer   NodeRef   `json:"issuer,omitzero"`   // who has revoked the key
	Sessions int       `json:"sessions"`
	Streams  int       `json:"streams"`
	Services []string  `json:"services,omitempty"`      // offered here
	Grants   []Grant   `json:"grants,omitempty"`        // that name this node, or a key it had before
	Shared   []Grant   `json:"shared_grants,omitempty"` // that it has a part in by its tags, or as anybody: they stay, without it
	Kept     string    `json:"kept,omitempty"`          // where the files are
	Warnings []Warning `json:"warnings,omitempty"`
	DryRun   bool      `json:"dry_run,omitempty"`
}

// SchemaName is the schema of the document.
func (*LeaveResult) SchemaName() string { return "meshkey.leave/1" }

func (r *LeaveRequest) check() error { return checkWait(r.WaitMS) }

// RepinRequest accepts that a name means another key than at its first use on this machine. Was and Is are both keys as a dry run has
// shown them, so that what is accepted is what was looked at.
type RepinRequest struct {
	Name   string `json:"name"`
	Was    string `json:"was,omitempty"`
	Is     string `json:"is,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// RepinResult tells what the name meant and means. Changed is false where there was nothing to accept; then Was and Is are the same.
type RepinResult struct {
	Envelope
	Name    string    `json:"name"`
	Was     NodeRef   `json:"was"`
	WasText string    `json:"was_text,omitempty"` // what became of that key, by the log
	Is      NodeRef   `json:"is"`
	Issuer  string    `json:"issuer,omitempty"`  // who has enrolled the new key
	Since   time.Time `json:"since,omitzero"`    // when
	Living  bool      `json:"living,omitempty"`  // the old key is a member still
	Changed bool      `json:"changed,omitempty"` // or, with DryRun, would be
	DryRun  bool      `json:"dry_run,omitempty"`
}

// SchemaName is the schema of the document.
func (*RepinResult) SchemaName() string { return "meshkey.repin/1" }
