package policy

import (
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Failure is a case of a test that does not hold after the change. Without From there is no such machine to ask about.
type Failure struct {
	At       config.Place
	Allow    bool // what the test wants
	Who      string
	What     string
	From, On keys.NodeID
	Service  string
	Time     int64
	Decision trust.Decision
}

// Report is the result of a policy's tests: Asked decisions, and what failed. Vacuous are denials about nobody, which hold.
type Report struct {
	Asked   int
	Failed  []Failure
	Vacuous []Failure

	cases int
}

// Test asks the State after the change what the tests of the policy say. A test about a tag or about any is about each machine it means,
// and no machine is asked about itself.
func (p *Plan) Test(names Names) (r Report, err error) {
	for i := range p.File.Tests {
		t := &p.File.Tests[i]
		for _, w := range t.Who {
			who, err := names.Who(w.Text)
			if err != nil {
				return r, &NameError{p.File.Err(w.Place, "%s", err), err}
			}
			for _, list := range []struct {
				words []config.Word
				allow bool
			}{{t.Allow, true}, {t.Deny, false}} {
				for _, x := range list.words {
					what, err := names.What(x.Text)
					if err != nil {
						return r, &NameError{p.File.Err(x.Place, "%s", err), err}
					}
					f := Failure{At: x.Place, Allow: list.allow, Who: w.Text, What: x.Text, Service: what.Service, Time: p.now}
					if !t.At.IsZero() {
						f.Time = t.At.Unix()
					}
					if !p.ask(&r, f, who, what.Target) {
						return r, p.File.Err(t.Place, "the tests up to here ask %d decisions; name machines instead of any and tags", maxAsked)
					}
				}
			}
		}
	}
	return r, nil
}

// ask asks about every pair. It reports whether there was room for it.
func (p *Plan) ask(r *Report, f Failure, who, on trust.Target) bool {
	pairs := 0
	if r.cases++; r.cases > maxAsked { // one about nobody asks no decision
		return false
	}
	for _, from := range p.nodes(who) {
		for _, at := range p.nodes(on) {
			if from == at {
				continue
			}
			if r.Asked == maxAsked {
				return false
			}
			pairs++
			r.Asked++
			f.From, f.On = from, at
			if f.Decision = p.After.Decide(from, at, f.Service, f.Time); f.Decision.Allowed != f.Allow {
				r.Failed = append(r.Failed, f)
			}
		}
	}
	switch {
	case pairs > 0:
	case f.Allow:
		r.Failed = append(r.Failed, f)
	default:
		r.Vacuous = append(r.Vacuous, f)
	}
	return true
}
