package control

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
