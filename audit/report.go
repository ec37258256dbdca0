package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Kind is what is wrong with a log.
type Kind string

// The kinds of problems.
const (
	KindEntry      Kind = "entry"      // an entry is not the one that was signed
	KindLeaf       Kind = "leaf"       // an entry is no canonical leaf
	KindMissing    Kind = "missing"    // entries were removed
	KindUnsigned   Kind = "unsigned"   // there are entries or bytes that nobody signed
	KindTile       Kind = "tile"       // a hash tile is missing or wrong; entries may be right
	KindRange      Kind = "range"      // entries and tiles were changed together, somewhere in the range
	KindCheckpoint Kind = "checkpoint" // a checkpoint is missing, damaged or not signed by the node
	KindJournal    Kind = "journal"    // a journal is damaged or not signed by the node
	KindFork       Kind = "fork"       // the node signed two different logs of one size
	KindUnreadable Kind = "unreadable" // the file system failed
)

// Problem is one thing that is wrong. Entries before First are not affected by it. For a damaged checkpoint or journal First
// is how many entries the remaining signatures prove.
type Problem struct {
	Kind   Kind
	First  uint64
	Last   uint64 // of the range; equal to First for a single entry
	File   string // relative to the folder of all logs
	Detail string
}

// String says it in a sentence.
func (p Problem) String() string {
	where := fmt.Sprintf("entry %d", p.First)
	if p.Last > p.First {
		where = fmt.Sprintf("entries %d-%d", p.First, p.Last)
	}
	s := fmt.Sprintf("%s: %s: %s", p.Kind, where, p.Detail)
	if p.File != "" {
		s += " (" + p.File + ")"
	}
	return s
}

// Report is what Verify found.
type Report struct {
	Node       keys.NodeID
	Mesh       keys.MeshID
	Origin     string
	Size       uint64     // entries found
	Signed     uint64     // entries the newest signature speaks of
	Checkpoint Checkpoint // the published one; zero if it is missing or wrong
	Signatures int        // checkpoints and commits whose signatures verified
	Gaps       uint64     // audit.gap records: times when events were lost, as the log itself says
	Recoveries uint64     // audit.recover records: starts after a crash
	Torn       bool       // a journal ends in a half-written commit, as after a crash
	Problems   []Problem  // by First; at most maxProblems
	More       int        // problems left out
	Follows    *Followed  // the log of the key before, as VerifyChain reads it; nil: none

	before string // of the first entry
}

// OK reports whether the log is whole and says nothing that its node did not sign.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// FirstBad returns the first entry that is not proven.
func (r *Report) FirstBad() (uint64, bool) {
	if r.OK() {
		return 0, false
	}
	return r.Problems[0].First, true
}

// Age is how long ago the published checkpoint was signed; negative without one.
func (r *Report) Age(now time.Time) time.Duration {
	if r.Checkpoint.Note == nil {
		return -1
	}
	return now.Sub(r.Checkpoint.Time)
}

// add puts a problem into the report, which keeps those with the lowest entries. Missing entries that follow each other are
// one problem.
func (r *Report) add(p Problem) {
	if p.Last < p.First {
		p.Last = p.First
	}
	if n := len(r.Problems); n > 0 && p.Kind == KindMissing {
		if last := &r.Problems[n-1]; last.Kind == KindMissing && last.File == p.File && last.Last+1 == p.First {
			last.Last = p.Last
			return
		}
	}
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, p)
		return
	}
	r.More++
	worst := 0
	for i := range r.Problems {
		if r.Problems[i].First > r.Problems[worst].First {
			worst = i
		}
	}
	if p.First < r.Problems[worst].First {
		r.Problems[worst] = p
	}
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return cmp.Compare(a.First, b.First) })
}
