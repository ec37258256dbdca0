package control

import "time"

// Doctor is what this node finds when it looks at itself.
type Doctor struct {
	Envelope
	Checks []Check   `json:"checks"`
	Clock  time.Time `json:"clock"`               // this machine's, now
	Floor  time.Time `json:"time_floor,omitzero"` // trusted time does not fall more than five minutes behind it
}

// SchemaName is the schema of the document.
func (*Doctor) SchemaName() string { return "meshkey.doctor/1" }

// Check is one thing that was looked at. A thing with several problems has a check for each.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Code string `json:"code,omitempty"` // of the problem, as in Warning
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

// ResetTimeFloorRequest sets the time floor to this machine's clock, if that stands before it.
type ResetTimeFloorRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// ResetTimeFloorResult tells what was, or would be, done. Changed is false where the clock was not behind the floor.
type ResetTimeFloorResult struct {
	Envelope
	Before  time.Time `json:"before,omitzero"`
	After   time.Time `json:"after,omitzero"`
	Changed bool      `json:"changed"`
	DryRun  bool      `json:"dry_run,omitempty"`
}

// SchemaName is the schema of the document.
func (*ResetTimeFloorResult) SchemaName() string { return "meshkey.reset-time-floor/1" }

func (*ResetTimeFloorRequest) check() error { return nil }
