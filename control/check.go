package control

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/forward"
	"github.com/sovereignmesh/meshkey/keys"
)

// Subject is who a grant is for, as a person wrote it: exactly one field is set.
type Subject struct {
	Any  bool
	Tag  string
	Node string // a name, or an id or its beginning as package keys reads them
}

// Resource is what a grant is about. Service may be "*".
type Resource struct {
	On      Subject
	Service string
}

// ParseSubject reads "any", "tag:x", a node's name, its id or the beginning of that.
func ParseSubject(s string) (Subject, error) {
	if s == "any" {
		return Subject{Any: true}, nil
	}
	if tag, ok := strings.CutPrefix(s, "tag:"); ok {
		if err := identity.CheckTag(tag); err != nil {
			return Subject{}, Errorf(Usage, "", "%w", err)
		}
		return Subject{Tag: tag}, nil
	}
	if err := checkNode(s); err != nil {
		return Subject{}, err
	}
	return Subject{Node: s}, nil
}

// ParseResource reads "service" (on any node), "node/service" or "tag:x/service"; "*" is every service, and before the slash
// every node.
func ParseResource(s string) (Resource, error) {
	on, service, ok := strings.Cut(s, "/")
	if !ok {
		on, service = "any", s
	}
	if on == "*" {
		on = "any"
	}
	sub, err := ParseSubject(on)
	if err != nil {
		return Resource{}, err
	}
	if service != "*" {
		if err := checkName("service", service); err != nil {
			return Resource{}, err
		}
	}
	return Resource{On: sub, Service: service}, nil
}

// ParseServiceRef reads "node/service": one service of one node.
func ParseServiceRef(s string) (node, service string, err error) {
	node, service, ok := strings.Cut(s, "/")
	if !ok {
		return "", "", Errorf(Usage, "meshkey services", "%q is no service of a peer; write NODE/SERVICE", clip(s))
	}
	if err := checkNode(node); err != nil {
		return "", "", err
	}
	if err := checkName("service", service); err != nil {
		return "", "", err
	}
	return node, service, nil
}

// checkNode accepts a name, a node id, or the beginning of one.
func checkNode(s string) error {
	_, err := keys.ParseNodePrefix(s)
	switch {
	case err == nil:
		return nil
	case len(s) > identity.MaxName: // every form of a whole id is longer than any name
		return Errorf(Usage, "meshkey peers", "%w", err)
	}
	return checkName("node", s)
}

func checkName(what, s string) error {
	if err := identity.CheckName(s); err != nil {
		return Errorf(Usage, "", "%s: %w", what, err)
	}
	return nil
}

// checkText accepts a sentence of a person: bounded, one line, printable.
func checkText(what, s string, most int) error {
	if len(s) > most || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return Errorf(Usage, "", "the %s must be one line of at most %d bytes", what, most)
	}
	return nil
}

func checkWait(ms int64) error {
	if ms < 0 || ms > MaxWait.Milliseconds() {
		return Errorf(Usage, "", "the wait must be 0 to %s", MaxWait)
	}
	return nil
}

// clip bounds what is repeated of a request in an error.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func (r *ExposeRequest) check() error {
	if err := checkName("service", r.Name); err != nil {
		return err
	}
	t, err := forward.ParseTarget(r.Target)
	if err != nil {
		return Errorf(Usage, "", "%w", err)
	}
	r.Target = t.String()
	if len(r.Allow) > maxAllow {
		return Errorf(Usage, "give them a tag and allow that", "at most %d subjects at once", maxAllow)
	}
	for _, a := range r.Allow {
		if _, err := ParseSubject(a); err != nil {
			return err
		}
	}
	return nil
}

func (r *UnexposeRequest) check() error { return checkName("service", r.Name) }

func (r *GrantRequest) check() error {
	if _, err := ParseSubject(r.Who); err != nil {
		return err
	}
	if _, err := ParseResource(r.What); err != nil {
		return err
	}
	if err := checkText("note", r.Note, maxNote); err != nil {
		return err
	}
	for _, t := range []time.Time{r.NotBefore, r.NotAfter} {
		if !t.IsZero() && t.Unix() <= 0 {
			return Errorf(Usage, "", "%s is no time of a grant", t.Format(time.RFC3339))
		}
	}
	if !r.NotAfter.IsZero() && !r.NotBefore.Before(r.NotAfter) {
		return Errorf(Usage, "", "the grant would end before it begins")
	}
	return checkWait(r.WaitMS)
}

func (r *UngrantRequest) check() error {
	if r.ID == "" {
		return Errorf(Usage, "meshkey grants", "which grant?")
	}
	if err := checkText("grant", r.ID, maxQuery); err != nil {
		return err
	}
	return checkWait(r.WaitMS)
}

func (r *RevokeRequest) check() error {
	if err := checkNode(r.Node); err != nil {
		return err
	}
	if err := checkText("reason", r.Reason, maxReason); err != nil {
		return err
	}
	return checkWait(r.WaitMS)
}

func (r *RepinRequest) check() error {
	if err := checkName("node", r.Name); err != nil {
		return err
	}
	if r.Was == "" && r.Is == "" && r.DryRun {
		return nil
	}
	for _, s := range []string{r.Was, r.Is} {
		if _, err := keys.ParseNodeID(s); err != nil {
			return Errorf(Usage, "meshkey repin "+r.Name, "a name is accepted for the keys that were shown: %w", err)
		}
	}
	return nil
}

func (*ShutdownRequest) check() error { return nil }

func (r *ConnectRequest) check() error {
	if _, _, err := ParseServiceRef(r.Target); err != nil {
		return err
	}
	if len(r.AllowUIDs) > maxAllow {
		return Errorf(Usage, "", "at most %d users", maxAllow)
	}
	if r.Listen != "" {
		if _, err := parseListen(r.Listen); err != nil {
			return err
		}
	}
	return nil
}

// String returns the text ParseSubject reads.
func (s Subject) String() string {
	switch {
	case s.Any:
		return "any"
	case s.Tag != "":
		return "tag:" + s.Tag
	}
	return s.Node
}

// String returns the text ParseResource reads.
func (r Resource) String() string {
	if r.On.Any {
		return fmt.Sprintf("*/%s", r.Service)
	}
	return r.On.String() + "/" + r.Service
}
