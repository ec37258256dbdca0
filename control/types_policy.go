package control

import "time"

// The modes of a PolicyRequest.
const (
	PolicyTest  = "test"  // what its tests say of the grants there would be
	PolicyDiff  = "diff"  // and what an apply would change
	PolicyApply = "apply" // and does it
)

// PolicyRequest is a policy file, and what to do with it. Plan, if it is set, is that of the result that was shown: another change is not made.
type PolicyRequest struct {
	File   string `json:"file"` // its name, for errors
	Text   string `json:"text"`
	Mode   string `json:"mode"`
	Plan   string `json:"plan,omitempty"`
	Force  bool   `json:"force,omitempty"` // also a change that locks out
	WaitMS int64  `json:"wait_ms,omitempty"`
}

// Access is one machine's use of one service, by names; service * stands for those that no grant names.
type Access struct {
	From    string `json:"from"`
	Target  string `json:"target"`
	Streams int    `json:"streams,omitempty"` // open ones, of Closes
}

// PolicyGrant is a grant that is made or taken back. Line is where the file asks for it; ID is empty for one that is not made yet.
type PolicyGrant struct {
	Grant
	Line int `json:"line,omitempty"`
}

// PolicyFailure is what a test wants and the grants would not give.
type PolicyFailure struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Text   string `json:"text"`
}

// PolicyResult tells what a policy file comes to. Gained, Lost and the failures are at most MaxPolicyList each; the numbers beside them are whole.
type PolicyResult struct {
	Envelope
	Policy  string `json:"policy"`         // its name
	Plan    string `json:"plan,omitempty"` // of diff and apply
	Changed bool   `json:"changed"`        // there is, or was, something to do
	Done    bool   `json:"done,omitempty"` // it was

	Kept      int             `json:"kept"` // grants of the policy that stay as they are
	Added     []PolicyGrant   `json:"added,omitempty"`
	Removed   []PolicyGrant   `json:"removed,omitempty"`
	Gained    []Access        `json:"gained,omitempty"`
	Lost      []Access        `json:"lost,omitempty"`
	GainedAll int             `json:"gained_total"`
	LostAll   int             `json:"lost_total"`
	Partly    bool            `json:"partly,omitempty"`   // there are too many pairs to ask about them all
	Closes    []Access        `json:"closes,omitempty"`   // streams of this machine that would close, or have
	LockOut   string          `json:"lock_out,omitempty"` // why it is refused without force
	Asked     int             `json:"asked"`              // decisions that tests asked for
	Failed    []PolicyFailure `json:"failed,omitempty"`
	FailedAll int             `json:"failed_total"`
	Warnings  []Warning       `json:"warnings,omitempty"`
	*Spread
}

func (*PolicyResult) SchemaName() string { return "meshkey.policy/1" }

func (r *PolicyRequest) check() error {
	if err := checkText("file name", r.File, maxFileName); err != nil {
		return err
	}
	if len(r.Text) > MaxPolicyText {
		return Errorf(Usage, "", "the policy is longer than %d bytes", MaxPolicyText)
	}
	switch r.Mode {
	case PolicyTest, PolicyDiff, PolicyApply:
	default:
		return Errorf(Usage, "", "a policy is for test, diff or apply")
	}
	if len(r.Plan) > maxQuery {
		return Errorf(Usage, "", "that is no plan")
	}
	return checkWait(r.WaitMS)
}

// most is how long the request may be: a byte of a text has at most six in JSON.
func (r *PolicyRequest) most() int64 { return 6*MaxPolicyText + maxBody }

// policyTimeout bounds a policy's questions, and an entry of the audit log for each grant it makes, on a slow disk.
const policyTimeout = 2 * time.Minute
