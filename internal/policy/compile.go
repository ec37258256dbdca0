package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/trust"
)

// Mark begins the note of every grant that a policy made; no other grant may be given such a note.
const Mark = "policy:"

// Names turn the words of a file into what grants name.
type Names struct {
	Who  func(string) (trust.Target, error)
	What func(string) (trust.What, error)
}

// Rule is one grant that a policy asks for, and where.
type Rule struct {
	Who       trust.Target
	What      trust.What
	NotBefore int64
	NotAfter  int64
	Note      string
	At        config.Place
}

// NoteOf is the note of the grants of a policy.
func NoteOf(name, reason string) string {
	return strings.TrimSuffix(Mark+name+" "+reason, " ")
}

// OwnerOf is the policy that made a grant, by its note; empty: none did.
func OwnerOf(note string) string {
	rest, ok := strings.CutPrefix(note, Mark)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// Compile multiplies the lists of a policy. over are its grants whose time is past, which ask for nothing.
func Compile(p *config.Policy, names Names, now int64) (rules []Rule, over []config.Place, err error) {
	type key struct {
		who         trust.Target
		what        trust.What
		begin, ends int64
	}
	first := map[key]config.Place{}
	for i := range p.Grants {
		g := &p.Grants[i]
		var begin, ends int64
		if !g.From.IsZero() {
			begin = g.From.Unix()
		}
		if !g.Until.IsZero() {
			ends = g.Until.Unix()
		}
		gone := ends != 0 && ends <= now
		if gone {
			over = append(over, g.Place)
			continue // machines it names may be gone with it
		}
		for _, w := range g.Who {
			who, err := names.Who(w.Text)
			if err != nil {
				return nil, nil, &NameError{p.Err(w.Place, "%s", err), err}
			}
			for _, x := range g.What {
				what, err := names.What(x.Text)
				if err != nil {
					return nil, nil, &NameError{p.Err(x.Place, "%s", err), err}
				}
				k := key{who, what, begin, ends}
				if at, twice := first[k]; twice {
					return nil, nil, p.Err(x.Place, "%s -> %s is granted twice, first in line %d", w.Text, x.Text, at.Line)
				}
				first[k] = x.Place
				if len(rules) == config.MaxPolicyGrants {
					return nil, nil, p.Err(g.Place, "more than %d grants, lists multiplied", config.MaxPolicyGrants)
				}
				rules = append(rules, Rule{Who: who, What: what, NotBefore: begin, NotAfter: ends, Note: NoteOf(p.Name, g.Reason), At: g.Place})
			}
		}
	}
	return rules, over, nil
}

// NameError is a word of the file that means nobody now. Cause is what the look-up said.
type NameError struct {
	In    *config.Error
	Cause error
}

// Error is the place and the cause.
func (e *NameError) Error() string { return e.In.Error() }

// Unwrap returns the cause.
func (e *NameError) Unwrap() error { return e.Cause }

// same reports whether a grant is what a rule asks for.
func (r *Rule) same(st *trust.State, g *trust.Grant) bool {
	return g.NotBefore == r.NotBefore && g.NotAfter == r.NotAfter && g.Note == r.Note && g.What.Verb == r.What.Verb &&
		g.What.Service == r.What.Service && sameTarget(st, g.Who, r.Who) && sameTarget(st, g.What.Target, r.What.Target)
}

func sameTarget(st *trust.State, a, b trust.Target) bool {
	if a.Kind == trust.TargetNode && b.Kind == trust.TargetNode {
		return st.Heir(a.Node) == st.Heir(b.Node)
	}
	return a == b
}

// owned are the grants of a policy that count or will, in the order of their numbers.
func owned(st *trust.State, name string, now int64) (out []trust.Grant) {
	for g := range st.Grants() {
		if g.Removed == nil && (g.NotAfter == 0 || now < g.NotAfter) && OwnerOf(g.Note) == name {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b trust.Grant) int {
		return cmp.Or(cmp.Compare(a.Ref.GID, b.Ref.GID), slices.Compare(a.Ref.Issuer[:], b.Ref.Issuer[:]))
	})
	return out
}
