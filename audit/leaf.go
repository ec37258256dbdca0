package audit

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sovereignmesh/meshkey/internal/wire"
)

// Event is what is written down. Only Code is required. Times and durations are kept in milliseconds.
//
// Free text is made fit to be kept: what is too long is cut and ends in "…", bytes that are not UTF-8 and control characters
// become U+FFFD, and what looks like a secret key or an invite becomes "[redacted]".
type Event struct {
	Time     time.Time     // zero: now
	Code     Code          // of the registry
	Actor    string        // who: node id (compact), "uid:1000", an address
	Target   string        // on what: node, service, name
	Verdict  Verdict       //
	Reason   string        // why
	Grant    string        // the grant that decided
	Session  string        // what belongs together: a session, an invite
	Bytes    uint64        // moved
	Duration time.Duration // lasted
	Before   string        // state before a change
	After    string        // state after it
	Count    uint64        // how many events an aggregate stands for, or a gap lost; 0: it stands for itself
}

// ErrEvent means that an Event cannot be written as it is: a programmer's error.
var ErrEvent = errors.New("not an audit event")

// ErrLeaf means that bytes are no leaf.
var ErrLeaf = errors.New("not an audit leaf")

const leafVersion = 1

// leaf is the map of §13, one field per key. Empty fields are left out.
type leaf struct {
	Version  uint64 `cbor:"1,keyasint"`
	TimeMs   uint64 `cbor:"2,keyasint"`
	Code     string `cbor:"3,keyasint"`
	Actor    string `cbor:"4,keyasint,omitempty"`
	Target   string `cbor:"5,keyasint,omitempty"`
	Verdict  uint8  `cbor:"6,keyasint,omitempty"`
	Reason   string `cbor:"7,keyasint,omitempty"`
	Grant    string `cbor:"8,keyasint,omitempty"`
	Session  string `cbor:"9,keyasint,omitempty"`
	Bytes    uint64 `cbor:"10,keyasint,omitempty"`
	Duration uint64 `cbor:"11,keyasint,omitempty"`
	Before   string `cbor:"12,keyasint,omitempty"`
	After    string `cbor:"13,keyasint,omitempty"`
	Count    uint64 `cbor:"14,keyasint,omitempty"`
}

// texts lists the bounded text fields of a leaf.
func (l *leaf) texts() [7]struct {
	text *string
	max  int
} {
	return [7]struct {
		text *string
		max  int
	}{
		{&l.Actor, maxActor},
		{&l.Target, maxTarget},
		{&l.Reason, maxReason},
		{&l.Grant, maxGrant},
		{&l.Session, maxSession},
		{&l.Before, maxChange},
		{&l.After, maxChange},
	}
}

// encodeLeaf returns the canonical bytes of e. It fails only with ErrEvent.
func encodeLeaf(e Event) ([]byte, error) {
	if !e.Code.Registered() {
		return nil, fmt.Errorf("%w: code %q is not in the registry", ErrEvent, e.Code)
	}
	if e.Verdict > Failed {
		return nil, fmt.Errorf("%w: verdict %d", ErrEvent, e.Verdict)
	}
	ms := e.Time.UnixMilli()
	if ms < 0 || ms > maxTimeMs || e.Duration < 0 {
		return nil, fmt.Errorf("%w: time out of range", ErrEvent)
	}
	l := leaf{
		Version: leafVersion, TimeMs: uint64(ms), Code: string(e.Code), Actor: e.Actor, Target: e.Target,
		Verdict: uint8(e.Verdict), Reason: e.Reason, Grant: e.Grant, Session: e.Session, Bytes: e.Bytes,
		Duration: uint64(e.Duration.Milliseconds()), Before: e.Before, After: e.After, Count: e.Count,
	}
	for _, f := range l.texts() {
		*f.text = fit(*f.text, f.max)
	}
	return wire.MustMarshal(&l), nil
}

// parseLeaf reads a leaf strictly: what it accepts, encodeLeaf writes back to the same bytes if its code is registered.
func parseLeaf(b []byte) (Event, error) {
	if len(b) > maxLeaf {
		return Event{}, fmt.Errorf("%w: %d bytes", ErrLeaf, len(b))
	}
	var l leaf
	if err := wire.Unmarshal(b, &l); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	switch {
	case l.Version != leafVersion:
		return Event{}, fmt.Errorf("%w: version %d, this program reads %d", ErrLeaf, l.Version, leafVersion)
	case l.TimeMs > maxTimeMs:
		return Event{}, fmt.Errorf("%w: time out of range", ErrLeaf)
	case !Code(l.Code).wellFormed():
		return Event{}, fmt.Errorf("%w: code is not noun.verb", ErrLeaf)
	case l.Verdict > uint8(Failed):
		return Event{}, fmt.Errorf("%w: verdict %d", ErrLeaf, l.Verdict)
	case l.Duration > uint64(1<<63-1)/uint64(time.Millisecond):
		return Event{}, fmt.Errorf("%w: duration out of range", ErrLeaf)
	}
	for _, f := range l.texts() {
		if fit(*f.text, f.max) != *f.text {
			return Event{}, fmt.Errorf("%w: a text is too long, not plain, or must not be kept", ErrLeaf)
		}
	}
	return Event{
		Time: time.UnixMilli(int64(l.TimeMs)).UTC(), Code: Code(l.Code), Actor: l.Actor, Target: l.Target,
		Verdict: Verdict(l.Verdict), Reason: l.Reason, Grant: l.Grant, Session: l.Session, Bytes: l.Bytes,
		Duration: time.Duration(l.Duration) * time.Millisecond, Before: l.Before, After: l.After, Count: l.Count,
	}, nil
}

const (
	redacted = "[redacted]"
	ellipsis = "…"
	// minInviteText is far below the base32 of an invite's 32 secret bytes and above any word.
	minInviteText = 40
)

// fit makes s a text of at most limit bytes that may be kept. It changes nothing the second time.
func fit(s string, limit int) string {
	if plain(s) && len(s) <= limit && !mayBeSecret(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if !printable(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	// Before the cut, which could otherwise leave half a secret that no longer looks like one.
	if mayBeSecret(s) {
		return redacted
	}
	if len(s) <= limit {
		return s
	}
	cut := limit - len(ellipsis)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}

// mayBeSecret finds the text forms of secrets this program has: age identities (AGE-SECRET-KEY-…, AGE-PLUGIN-…) and invites
// (mk1i and base32). It is the last net under the rule that callers never pass secrets, not a replacement for it.
func mayBeSecret(s string) bool {
	for i := range len(s) {
		switch s[i] | 0x20 {
		case 'a':
			if hasFold(s[i:], "age-secret-key-") || hasFold(s[i:], "age-plugin-") {
				return true
			}
		case 'm':
			if hasFold(s[i:], "mk1i") && base32Run(s[i+4:]) >= minInviteText {
				return true
			}
		}
	}
	return false
}

func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func base32Run(s string) int {
	n := 0
	for n < len(s) && (s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return n
}

func plain(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !printable(r) {
			return false
		}
		i += n
	}
	return true
}

// printable refuses what could change how a terminal or a browser shows the rest of a line: control characters, line and
// paragraph separators, and the formats that reorder text.
func printable(r rune) bool {
	return !unicode.IsControl(r) && !unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}
