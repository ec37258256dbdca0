package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// RootChange is one difference between two roots, for people. Before is empty for what is new, After for what is gone.
type RootChange struct {
	What   string
	Before string
	After  string
}

// capNames are the words for the rights, in the order of their bits.
var capNames = []struct {
	cap  Caps
	name string
}{{CapEnroll, "enroll"}, {CapRevoke, "revoke"}, {CapHead, "head"}, {CapGrant, "grant"}}

// String lists the rights: "enroll,revoke".
func (c Caps) String() string {
	var out []string
	for _, n := range capNames {
		if c.Has(n.cap) {
			out = append(out, n.name)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ",")
}

// ParseCaps reads one right's word.
func ParseCaps(word string) (Caps, bool) {
	for _, n := range capNames {
		if n.name == word {
			return n.cap, true
		}
	}
	return 0, false
}

// keyText is a key as people compare it: the whole of it, since this is what they sign.
func keyText(k keys.PublicKey) string { return keys.NodeID(k).Compact() }

func timeText(t int64) string { return time.Unix(t, 0).UTC().Format(time.RFC3339) }

func spanText(seconds int64) string {
	if seconds%(24*3600) == 0 {
		return fmt.Sprintf("%d d", seconds/(24*3600))
	}
	return (time.Duration(seconds) * time.Second).String()
}

// limitText is a span of which 0 means that there is no limit.
func limitText(seconds int64) string {
	if seconds == 0 {
		return "never"
	}
	return spanText(seconds)
}

func (c *Cutoff) text() string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("entry %d (%s)", c.Seq, c.Hash)
}

func (i *Issuer) text() string {
	tags := "none"
	if len(i.Tags) > 0 {
		tags = strings.Join(i.Tags, ",")
	}
	s := fmt.Sprintf("%s may %s, tags %s, certificates up to %s, until %s", keyText(i.ID), i.Caps, tags, spanText(i.MaxTTL), timeText(i.NotAfter))
	if i.Cutoff != nil {
		s += ", cut off after " + i.Cutoff.text()
	}
	return s
}

// Changes lists how r differs from the root before it. Every field of a root is compared: what is not in the list is the same.
func (r *Root) Changes(prev *Root) (out []RootChange) {
	differ := func(what, before, after string) {
		if before != after {
			out = append(out, RootChange{what, before, after})
		}
	}
	differ("mesh name", prev.Name, r.Name)
	for _, k := range prev.Keys {
		if !r.hasKey(k.Pub) {
			differ("root key "+k.Name, keyText(k.Pub), "")
		}
	}
	for _, k := range r.Keys {
		i := slices.IndexFunc(prev.Keys, func(o RootKey) bool { return o.Pub == k.Pub })
		if i < 0 {
			differ("root key "+k.Name, "", keyText(k.Pub))
		} else {
			differ("name of root key "+keyText(k.Pub), prev.Keys[i].Name, k.Name)
		}
	}
	differ("signatures needed", fmt.Sprintf("%d of %d", prev.Threshold, len(prev.Keys)), fmt.Sprintf("%d of %d", r.Threshold, len(r.Keys)))
	for i := range r.Issuers {
		is := &r.Issuers[i]
		old, ok := prev.Issuer(is.ID)
		if !ok {
			differ("issuer "+is.Name, "", is.text())
			continue
		}
		at := "issuer " + old.Name + ": "
		differ(at+"name", old.Name, is.Name)
		differ(at+"rights", old.Caps.String(), is.Caps.String())
		differ(at+"tags", strings.Join(old.Tags, ","), strings.Join(is.Tags, ","))
		differ(at+"longest certificate", spanText(old.MaxTTL), spanText(is.MaxTTL))
		differ(at+"ends", timeText(old.NotAfter), timeText(is.NotAfter))
		differ(at+"cut off after", old.Cutoff.text(), is.Cutoff.text())
	}
	differ("group issuer", prev.issuerText(prev.GroupIssuer), r.issuerText(r.GroupIssuer))
	differ("view counts as stale after", limitText(prev.Params.MaxStale), limitText(r.Params.MaxStale))
	differ("stale view", staleText(prev.Params.StaleAction), staleText(r.Params.StaleAction))
	differ("group secret renewed after", limitText(prev.Params.GroupMaxAge), limitText(r.Params.GroupMaxAge))
	return out
}

func (r *Root) issuerText(id keys.PublicKey) string {
	if id.IsZero() {
		return "none"
	}
	name := ""
	if is, ok := r.Issuer(id); ok {
		name = is.Name + " "
	}
	return name + keyText(id)
}

func staleText(action uint64) string {
	if action == 1 {
		return "restricts"
	}
	return "warns"
}
