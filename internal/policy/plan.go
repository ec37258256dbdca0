package policy

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Plan is what an apply would do: Add is made, Remove taken back, Keep stays as it is. After is the State it would lead to.
type Plan struct {
	File          *config.Policy
	Add           []Rule
	Remove, Keep  []trust.Grant
	Before, After *trust.State

	issuer keys.PublicKey
	next   uint64 // number of the first grant to be made
	live   []trust.Member
	now    int64
	other  string // a service that no grant names, once it was looked for
}

// Make compares a policy with the grants it owns in a State, and supposes that issuer writes the difference.
func Make(st *trust.State, issuer keys.PublicKey, f *config.Policy, rules []Rule, now int64) (*Plan, error) {
	is, ok := st.IssuerStatus(issuer)
	if !ok {
		return nil, trust.ErrNotIssuer
	}
	p := &Plan{File: f, Before: st, issuer: issuer, next: is.NextGID, now: now}
	for m := range st.Members() {
		if live, ok := st.LiveMember(m.Node, now); ok {
			p.live = append(p.live, live)
		}
	}
	have := owned(st, f.Name, now)
	// Of equal grants one is kept, so each is taken by one rule at most. What has the same service lies in one row.
	rows := map[string][]int{}
	for i := range have {
		rows[have[i].What.Service] = append(rows[have[i].What.Service], i)
	}
	taken := make([]bool, len(have))
	for i := range rules {
		found := false
		for _, at := range rows[rules[i].What.Service] {
			if !taken[at] && rules[i].same(st, &have[at]) {
				taken[at], found = true, true
				p.Keep = append(p.Keep, have[at])
				break
			}
		}
		if !found {
			p.Add = append(p.Add, rules[i])
		}
	}
	for i := range have {
		if !taken[i] {
			p.Remove = append(p.Remove, have[i])
		}
	}
	var all []trust.Op
	for _, e := range p.Entries() {
		all = append(all, e...)
	}
	var err error
	p.After, err = st.Suppose(issuer, now, all...)
	return p, err
}

// Entries are the ops of the change in the order in which they are written, an entry each: what is given comes before what is taken, so that
// whoever has the same access before and after never lacks it. If we crash in between, the next apply of the file makes the rest.
func (p *Plan) Entries() (entries [][]trust.Op) {
	var ops []trust.Op
	for i, r := range p.Add {
		ops = append(ops, trust.OpGrant{GID: p.next + uint64(i), Who: r.Who, What: r.What, NotBefore: r.NotBefore, NotAfter: r.NotAfter, Note: r.Note})
	}
	for _, g := range p.Remove {
		ops = append(ops, trust.OpUngrant{Issuer: g.Ref.Issuer, GID: g.Ref.GID})
	}
	for len(ops) > 0 {
		n := min(len(ops), opsPerEntry)
		entries = append(entries, ops[:n:n])
		ops = ops[n:]
	}
	return entries
}

// Changes reports whether there is anything to do.
func (p *Plan) Changes() bool { return len(p.Add)+len(p.Remove) > 0 }

// ID names the change, so that what is applied is what was shown.
func (p *Plan) ID() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q\n", p.File.Name)
	for _, r := range p.Add {
		fmt.Fprintf(&b, "+ %v %v %d %d %q\n", r.Who, r.What, r.NotBefore, r.NotAfter, r.Note)
	}
	for _, g := range p.Remove {
		fmt.Fprintf(&b, "- %v %d\n", g.Ref.Issuer, g.Ref.GID)
	}
	h := keys.Sum([]byte(b.String()))
	return hex.EncodeToString(h[:8])
}

// RuleOf is the rule that a grant of After is supposed to be made by.
func (p *Plan) RuleOf(g trust.GrantRef) (*Rule, bool) {
	if g.Issuer != p.issuer || g.GID < p.next || g.GID >= p.next+uint64(len(p.Add)) {
		return nil, false
	}
	return &p.Add[g.GID-p.next], true
}

// Nobody are the tags that the policy names and no live member has, each with a place.
func (p *Plan) Nobody(rules []Rule) map[string]config.Place {
	out := map[string]config.Place{}
	for _, r := range rules {
		for _, t := range []trust.Target{r.Who, r.What.Target} {
			if _, told := out[t.Tag]; !told && t.Kind == trust.TargetTag && len(p.nodes(t)) == 0 {
				out[t.Tag] = r.At
			}
		}
	}
	return out
}

// nodes are the live members a target means.
func (p *Plan) nodes(t trust.Target) (out []keys.NodeID) {
	if t.Kind == trust.TargetNode {
		id := p.Before.Heir(t.Node)
		if _, ok := p.Before.LiveMember(id, p.now); ok {
			out = append(out, id)
		}
		return out
	}
	for i := range p.live {
		if t.Kind == trust.TargetAny || p.live[i].HasTag(t.Tag) {
			out = append(out, p.live[i].Node)
		}
	}
	return out
}

// First is the number of the first grant that Entries make.
func (p *Plan) First() uint64 { return p.next }
