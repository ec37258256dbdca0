package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/sovereignmesh/meshkey/identity"
)

// Policy is a policy file: what it grants, and what it says must come of that.
type Policy struct {
	File   string
	Name   string
	Grants []PolicyGrant
	Tests  []PolicyTest
}

// Word is a string of a policy file and where it stands.
type Word struct {
	Text string
	Place
}

// Place counts lines and bytes of a line from 1.
type Place struct{ Line, Column int }

// PolicyGrant is one [[grant]]: each of Who may use each of What. Zero times are without bound.
type PolicyGrant struct {
	Place
	Who, What   []Word
	From, Until time.Time
	Reason      string
}

// PolicyTest is one [[test]]: each of Who may use all of Allow and none of Deny, at a time; zero is the time of the test.
type PolicyTest struct {
	Place
	Who, Allow, Deny []Word
	At               time.Time
}

// PolicyForms check the forms a policy's strings can have, which this package does not know.
type PolicyForms struct{ Who, What func(string) error }

// Err is an error of the policy at a place of its file.
func (p *Policy) Err(at Place, format string, args ...any) *Error {
	return &Error{File: p.File, Line: at.Line, Column: at.Column, Text: fmt.Sprintf(format, args...)}
}

// ParsePolicy reads a policy file; name is for errors, all of which tell line and column.
func ParsePolicy(name string, data []byte, forms PolicyForms) (*Policy, error) {
	if len(data) > MaxPolicyFile {
		return nil, &Error{File: name, Line: 1, Column: 1, Text: fmt.Sprintf("the file is longer than %d bytes", MaxPolicyFile)}
	}
	r := &policyReader{p: &Policy{File: name, Name: DefaultPolicy}, forms: forms, data: data}
	for at, c := range data {
		if c == '\n' {
			r.ends = append(r.ends, at)
		}
	}
	// Each key is looked at where it stands, and the first that is unknown ends it. Then the library reads it, as any TOML: it knows what no
	// document may be, and takes long for thousands of keys in one table.
	err := r.read()
	if e, placed := errors.AsType[*Error](err); placed && e.Line > 0 {
		return nil, err
	}
	if err := decode(name, data, &map[string]any{}, nil); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return r.p, nil
}

// policyReader walks the expressions of the file.
type policyReader struct {
	p     *Policy
	forms PolicyForms
	data  []byte
	ends  []int // offsets of the line feeds

	table string          // "", "grant" or "test"
	seen  map[string]bool // keys of this table
	open  func() error    // checks the table that is complete
}

func (r *policyReader) place(n *unstable.Node) Place {
	offset := int(n.Raw.Offset)
	lo, hi := 0, len(r.ends)
	for lo < hi {
		if mid := (lo + hi) / 2; r.ends[mid] < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	begin := 0
	if lo > 0 {
		begin = r.ends[lo-1] + 1
	}
	return Place{lo + 1, offset - begin + 1}
}

func (r *policyReader) read() error {
	parser := &unstable.Parser{}
	parser.Reset(r.data)
	r.seen, r.open = map[string]bool{}, func() error { return nil }
	for parser.NextExpression() {
		n := parser.Expression()
		var err error
		switch n.Kind {
		case unstable.Comment:
		case unstable.KeyValue:
			err = r.keyValue(n)
		default:
			err = r.header(n)
		}
		if err != nil {
			return err
		}
	}
	if err := parser.Error(); err != nil {
		return &Error{File: r.p.File, Text: clip(err.Error())}
	}
	return r.open()
}

// header begins a table.
func (r *policyReader) header(n *unstable.Node) error {
	if err := r.open(); err != nil {
		return err
	}
	var parts []string
	it := n.Key()
	var first *unstable.Node
	for it.Next() {
		if first == nil {
			first = it.Node()
		}
		parts = append(parts, string(it.Node().Data))
	}
	at, name := r.place(first), strings.Join(parts, ".")
	if len(parts) != 1 || name != "grant" && name != "test" {
		return r.p.Err(at, "unknown table %q: a policy has [[grant]] and [[test]]", clip(name))
	}
	if n.Kind == unstable.Table {
		return r.p.Err(at, "write [[%s]]: there may be many", name)
	}
	r.table, r.seen = name, map[string]bool{}
	if name == "grant" {
		if len(r.p.Grants) == MaxPolicyGrants {
			return r.p.Err(at, "more than %d grants", MaxPolicyGrants)
		}
		r.p.Grants = append(r.p.Grants, PolicyGrant{Place: at})
		r.open = r.endGrant
		return nil
	}
	if len(r.p.Tests) == maxPolicyTests {
		return r.p.Err(at, "more than %d tests", maxPolicyTests)
	}
	r.p.Tests = append(r.p.Tests, PolicyTest{Place: at})
	r.open = r.endTest
	return nil
}

func (r *policyReader) endGrant() error {
	g := &r.p.Grants[len(r.p.Grants)-1]
	switch {
	case len(g.Who) == 0:
		return r.p.Err(g.Place, "the grant does not say who")
	case len(g.What) == 0:
		return r.p.Err(g.Place, "the grant does not say what")
	case !g.Until.IsZero() && !g.Until.After(g.From):
		return r.p.Err(g.Place, "the grant ends before it begins")
	}
	return nil
}

func (r *policyReader) endTest() error {
	t := &r.p.Tests[len(r.p.Tests)-1]
	switch {
	case len(t.Who) == 0:
		return r.p.Err(t.Place, "the test does not say who")
	case len(t.Allow)+len(t.Deny) == 0:
		return r.p.Err(t.Place, "the test says neither what to allow nor what to deny")
	}
	return nil
}

func (r *policyReader) keyValue(n *unstable.Node) error {
	it := n.Key()
	it.Next()
	key := it.Node()
	at, name, v := r.place(key), string(key.Data), n.Value()
	if !it.IsLast() {
		return r.p.Err(at, "a key with a dot: a policy has none")
	}
	if r.seen[name] {
		return r.p.Err(at, "%s twice", clip(name))
	}
	r.seen[name] = true
	var err error
	switch r.table + "." + name {
	case ".name":
		var w Word
		if w, err = r.word(name, v, at); err == nil {
			if err = identity.CheckName(w.Text); err != nil {
				err = r.p.Err(w.Place, "name: %v", err)
			}
			r.p.Name = w.Text
		}
	case "grant.who":
		g := &r.p.Grants[len(r.p.Grants)-1]
		g.Who, err = r.words(name, v, at, r.forms.Who)
	case "grant.what":
		g := &r.p.Grants[len(r.p.Grants)-1]
		g.What, err = r.words(name, v, at, r.forms.What)
	case "grant.from":
		g := &r.p.Grants[len(r.p.Grants)-1]
		g.From, err = r.time(name, v, at)
	case "grant.until":
		g := &r.p.Grants[len(r.p.Grants)-1]
		g.Until, err = r.time(name, v, at)
	case "grant.reason":
		var w Word
		if w, err = r.word(name, v, at); err == nil {
			if len(w.Text) > MaxPolicyReason || strings.ContainsFunc(w.Text, func(c rune) bool { return !unicode.IsPrint(c) }) {
				err = r.p.Err(w.Place, "reason must be one line of at most %d bytes", MaxPolicyReason)
			}
			r.p.Grants[len(r.p.Grants)-1].Reason = w.Text
		}
	case "test.who":
		t := &r.p.Tests[len(r.p.Tests)-1]
		t.Who, err = r.words(name, v, at, r.forms.Who)
	case "test.allow":
		t := &r.p.Tests[len(r.p.Tests)-1]
		t.Allow, err = r.words(name, v, at, r.testWhat)
	case "test.deny":
		t := &r.p.Tests[len(r.p.Tests)-1]
		t.Deny, err = r.words(name, v, at, r.testWhat)
	case "test.at":
		t := &r.p.Tests[len(r.p.Tests)-1]
		t.At, err = r.time(name, v, at)
	case "grant.for":
		err = r.p.Err(at, "a policy has no \"for\": applied again it would mean another end; write until = 2027-01-01T00:00:00Z")
	default:
		err = r.p.Err(at, "unknown key %q", clip(strings.TrimPrefix(r.table+"."+name, ".")))
	}
	return err
}

// testWhat is one service: what a star covers is no question with one answer.
func (r *policyReader) testWhat(s string) error {
	if s == "*" || strings.HasSuffix(s, "/*") {
		return errors.New("a test names the service")
	}
	return r.forms.What(s)
}

// word is a string. An array has no place of its own: then the key's is told.
func (r *policyReader) word(key string, v *unstable.Node, at Place) (Word, error) {
	if v.Kind != unstable.String {
		return Word{}, r.p.Err(r.at(v, at), "%s must be a string", key)
	}
	if !utf8.Valid(v.Data) {
		return Word{}, r.p.Err(r.at(v, at), "%s is no UTF-8", key)
	}
	return Word{string(v.Data), r.place(v)}, nil
}

func (r *policyReader) at(v *unstable.Node, key Place) Place {
	if v.Kind == unstable.Array || v.Raw.Length == 0 {
		return key
	}
	return r.place(v)
}

// words are a string or a list of them, each of the right form and there once.
func (r *policyReader) words(key string, v *unstable.Node, at Place, check func(string) error) (out []Word, err error) {
	take := func(v *unstable.Node) error {
		w, err := r.word(key, v, at)
		if err != nil {
			return err
		}
		if err := check(w.Text); err != nil {
			return r.p.Err(w.Place, "%s: %s", key, clip(err.Error()))
		}
		for _, o := range out {
			if o.Text == w.Text {
				return r.p.Err(w.Place, "%s: %q twice", key, clip(w.Text))
			}
		}
		if len(out) == maxPolicyList {
			return r.p.Err(w.Place, "%s: more than %d", key, maxPolicyList)
		}
		out = append(out, w)
		return nil
	}
	if v.Kind == unstable.String {
		err = take(v)
		return out, err
	}
	if v.Kind != unstable.Array {
		return nil, r.p.Err(r.at(v, at), "%s must be a string or a list of strings", key)
	}
	it := v.Children()
	for it.Next() {
		if it.Node().Kind == unstable.Comment {
			continue
		}
		if err := take(it.Node()); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, r.p.Err(at, "%s is an empty list", key)
	}
	return out, nil
}

// time is a moment with its zone: on every machine that applies the file it is the same.
func (r *policyReader) time(key string, v *unstable.Node, at Place) (time.Time, error) {
	if v.Kind == unstable.DateTime {
		text := strings.ToUpper(strings.Replace(string(v.Data), " ", "T", 1))
		if t, err := time.Parse(time.RFC3339, text); err == nil && t.Unix() > 0 && t.Year() <= 9999 && t.Nanosecond() == 0 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, r.p.Err(r.at(v, at), "%s must be a time in whole seconds with its zone, without quotes: 2027-01-01T00:00:00Z", key)
}
