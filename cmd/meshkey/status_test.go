package main

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// The age of a view is said where it is known; where it is not, the line says why, and what is known instead.
func TestTrustAge(t *testing.T) {
	now := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	age := int64(12000)
	for want, info := range map[string]control.TrustInfo{
		"trust view 12 s old":                                           {AgeMS: &age, HeadSigners: []string{"nas"}},
		"trust view 12 s old (no head signer any more)":                 {AgeMS: &age},
		"trust view: no head signer, age unknown; last entry 3 h ago":   {LastEntry: now.Add(-3 * time.Hour)},
		"trust view: no head seen yet, age unknown; last entry 3 h ago": {HeadSigners: []string{"nas"}, LastEntry: now.Add(-3 * time.Hour)},
		"trust view: no head signer, age unknown; no entry yet":         {},
		"trust view: no head signer, age unknown; last entry 0 ms ago":  {LastEntry: now.Add(time.Minute)},
	} {
		if got := trustAge(&info, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
