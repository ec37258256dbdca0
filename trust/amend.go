package trust

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// The edits of a proposed root. They refuse what makes no sense to a person; what no receiver would take, Propose refuses.

var (
	// ErrNoSuch: no root key or issuer of that name or key.
	ErrNoSuch = errors.New("the root has none of that name")
	// ErrTaken: a root key or an issuer that works has the name or the key already.
	ErrTaken = errors.New("the root has one of that name or key already")
)

// setThreshold takes the one asked for, else keeps the old one as far as the number of keys allows.
func (r *Root) setThreshold(want uint64) {
	n := uint64(len(r.Keys))
	if want == 0 {
		want = max(min(r.Threshold, n), n/2+1)
	}
	r.Threshold = want
}

// AddKey adds a root key. Threshold 0 keeps the old one, or takes the least that is more than half.
func (r *Root) AddKey(k RootKey, threshold uint64) error {
	for _, o := range r.Keys {
		if o.Pub == k.Pub || o.Name == k.Name {
			return fmt.Errorf("root key %s: %w", o.Name, ErrTaken)
		}
	}
	r.Keys = append(r.Keys, k)
	r.setThreshold(threshold)
	return nil
}

// RemoveKey removes a root key, by name or by key. Threshold is as in AddKey.
func (r *Root) RemoveKey(who string, threshold uint64) error {
	at := -1
	for i, k := range r.Keys {
		if k.Name == who || k.Pub == parsedKey(who) {
			if at >= 0 {
				return fmt.Errorf("%q is the name of two root keys; write the key itself", who)
			}
			at = i
		}
	}
	if at < 0 {
		return fmt.Errorf("root key %q: %w", who, ErrNoSuch)
	}
	if len(r.Keys) == 1 {
		return errors.New("it is the only root key: nobody could ever change the root again; add another one first")
	}
	r.Keys = slices.Delete(slices.Clone(r.Keys), at, at+1)
	r.setThreshold(threshold)
	return nil
}

// parsedKey is the key a person wrote instead of a name; the zero key, which nobody has, for anything else.
func parsedKey(s string) keys.PublicKey {
	id, err := keys.ParseNodeID(s)
	if err != nil {
		return keys.PublicKey{}
	}
	return id.Public()
}

// FindIssuer finds an issuer by key or by name; of several of one name the only one that is not cut off.
func (r *Root) FindIssuer(who string) (*Issuer, error) {
	var named, working []*Issuer
	for i := range r.Issuers {
		is := &r.Issuers[i]
		if is.ID == parsedKey(who) {
			return is, nil
		}
		if is.Name != who {
			continue
		}
		named = append(named, is)
		if is.Cutoff == nil {
			working = append(working, is)
		}
	}
	switch {
	case len(working) == 1:
		return working[0], nil
	case len(working) == 0 && len(named) == 1:
		return named[0], nil
	case len(named) == 0:
		return nil, fmt.Errorf("issuer %q: %w", who, ErrNoSuch)
	}
	return nil, fmt.Errorf("%q is the name of %d issuers; write the key itself", who, len(named))
}

// AddIssuer adds an issuer. If there is no group issuer it becomes that.
func (r *Root) AddIssuer(is Issuer) error {
	for _, o := range r.Issuers {
		if o.ID == is.ID || o.Name == is.Name && o.Cutoff == nil {
			return fmt.Errorf("issuer %s: %w", o.Name, ErrTaken)
		}
	}
	if len(r.Issuers) == maxIssuers {
		return fmt.Errorf("the root has %d issuers, and no more fit", maxIssuers)
	}
	r.Issuers = append(r.Issuers, is)
	if r.GroupIssuer.IsZero() {
		r.GroupIssuer = is.ID
	}
	return nil
}

// CutIssuer ends an issuer's chain behind an entry; remove takes its rights too, which for what it has said makes no difference. If it
// was the group issuer, the next is it from now on: an issuer that is not cut off, or the zero key for none.
func (r *Root) CutIssuer(id keys.PublicKey, cut Cutoff, remove bool, group keys.PublicKey) error {
	i := slices.IndexFunc(r.Issuers, func(is Issuer) bool { return is.ID == id })
	if i < 0 {
		return ErrNoSuch
	}
	r.Issuers[i].Cutoff = &cut
	if remove {
		r.Issuers[i].Caps = 0
	}
	if r.GroupIssuer == id {
		r.GroupIssuer = group
	}
	return nil
}

// Works reports whether the issuer can make entries that count at this time.
func (i *Issuer) Works(now int64) bool { return i.Cutoff == nil && now <= i.NotAfter }

// Stranded returns the rights that somebody had in the root before, and nobody has in this one at this time.
func (r *Root) Stranded(prev *Root, now int64) Caps {
	held := func(r *Root) (c Caps) {
		for i := range r.Issuers {
			if r.Issuers[i].Works(now) {
				c |= r.Issuers[i].Caps
			}
		}
		return c
	}
	return held(prev) &^ held(r)
}
