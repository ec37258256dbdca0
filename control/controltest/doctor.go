package controltest

import (
	"context"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// Doctor implements control.Viewer: one thing is well and one is not.
func (f *Fake) Doctor(context.Context) (*control.Doctor, error) {
	return &control.Doctor{
		Clock: Began, Floor: Began.Add(48 * time.Hour),
		Checks: []control.Check{
			{Name: "audit log", OK: true, Text: "18204 entries, written and signed"},
			{
				Name: "time floor", Code: "clock-behind", Text: "this machine's clock stands 2 d before the time floor",
				Fix: "set the clock; if it is right: meshkey doctor --reset-time-floor",
			},
		},
	}, f.call("Doctor", control.Caller{}, "")
}

// ResetTimeFloor implements control.Process.
func (f *Fake) ResetTimeFloor(_ context.Context, by control.Caller, r *control.ResetTimeFloorRequest) (*control.ResetTimeFloorResult, error) {
	return &control.ResetTimeFloorResult{Before: Began.Add(48 * time.Hour), After: Began, Changed: true, DryRun: r.DryRun}, f.call("ResetTimeFloor", by, *r)
}

// Repin implements control.Connector: laptop is gpu1's key now.
func (f *Fake) Repin(_ context.Context, by control.Caller, r *control.RepinRequest) (*control.RepinResult, error) {
	return &control.RepinResult{
		Name: r.Name, Was: control.NodeRef{ID: Laptop.ID}, WasText: "revoked by nas on 2026-11-01", Is: control.NodeRef{Name: r.Name, ID: GPU1.ID},
		Issuer: "nas", Since: Began, Changed: true, DryRun: r.DryRun,
	}, f.call("Repin", by, *r)
}
