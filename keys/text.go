package keys

import (
	"errors"
	"fmt"
	"strings"
)

// The text form of a node id: 35 bytes = id(32) || H("meshkey/1 node-check" || id)[:3], in Crockford's base32: 56 characters
// in 7 groups of 8, each written XXXX-XXXX-C with a check character C of its own, groups joined by " · ". Reading ignores
// case, spaces, dots and hyphens, and takes O for 0 and I or L for 1; a mistyped character is found in its group.
const (
	base32Alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	nodeCheck      = 3 // checksum bytes behind the id: 35 bytes are 56 characters without a bit to spare
	nodeGroups     = 7
	groupChars     = 8
)

// ErrNodeText is returned for text that is no node id.
var ErrNodeText = errors.New("not a node id")

func base32Value(c byte) int {
	switch c {
	case 'O', 'o':
		return 0
	case 'I', 'i', 'L', 'l':
		return 1
	}
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	return strings.IndexByte(base32Alphabet, c)
}

// groupCheck is the check character of one group: a weighted sum modulo the prime 31 finds a single wrong character (but for
// 0 taken for Z, which the checksum of the whole finds) and a swap of neighbours.
func groupCheck(vals []int) byte {
	sum := 0
	for i, v := range vals {
		sum += (i + 1) * v
	}
	return base32Alphabet[sum%31]
}

func nodeGroup(vals []int) string {
	var b strings.Builder
	for i, v := range vals {
		if i == 4 {
			b.WriteByte('-')
		}
		b.WriteByte(base32Alphabet[v])
	}
	b.WriteByte('-')
	b.WriteByte(groupCheck(vals))
	return b.String()
}

func (n NodeID) groups() [nodeGroups]string {
	check := Sum([]byte(infoNodeCheck), n[:])
	raw := append(append(make([]byte, 0, len(n)+nodeCheck), n[:]...), check[:nodeCheck]...)
	var vals [nodeGroups * groupChars]int
	for i := range vals {
		bit := i * 5
		v := int(raw[bit/8]) << 8
		if bit/8+1 < len(raw) {
			v |= int(raw[bit/8+1])
		}
		vals[i] = v >> (11 - bit%8) & 31
	}
	var out [nodeGroups]string
	for g := range out {
		out[g] = nodeGroup(vals[g*groupChars : (g+1)*groupChars])
	}
	return out
}

// String returns the whole id in its text form.
func (n NodeID) String() string {
	g := n.groups()
	return strings.Join(g[:], " · ")
}

// Compact returns the whole id as one word without spaces, for files, JSON and command lines: groups joined by ".".
func (n NodeID) Compact() string {
	g := n.groups()
	return strings.Join(g[:], ".")
}

// Short returns the first three groups: 120 bits, enough to compare by eye. It is for display; as input it is only a beginning, see NodePrefix.
func (n NodeID) Short() string {
	g := n.groups()
	return strings.Join(g[:3], " · ")
}

// MarshalText writes the compact form.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.Compact()), nil }

// UnmarshalText reads any accepted form of the whole id.
func (n *NodeID) UnmarshalText(b []byte) error {
	v, err := ParseNodeID(string(b))
	if err != nil {
		return err
	}
	*n = v
	return nil
}

// ParseNodeID reads the text form of a whole node id and names the group that is wrong. Keys that are not canonical points of
// large order are refused.
func ParseNodeID(s string) (NodeID, error) {
	var vals []int
	clean, err := nodeChars(s)
	if err != nil {
		return NodeID{}, err
	}
	if len(clean) != nodeGroups*(groupChars+1) {
		return NodeID{}, fmt.Errorf("%w: %d characters, want %d", ErrNodeText, len(clean), nodeGroups*(groupChars+1))
	}
	for g := range nodeGroups {
		gv, err := groupValues(clean, g)
		if err != nil {
			return NodeID{}, err
		}
		vals = append(vals, gv...)
	}
	raw := make([]byte, len(NodeID{})+nodeCheck)
	for i, v := range vals {
		bit := i * 5
		w := v << (11 - bit%8)
		raw[bit/8] |= byte(w >> 8)
		if bit/8+1 < len(raw) {
			raw[bit/8+1] |= byte(w)
		}
	}
	n := NodeID(raw[:32])
	check := Sum([]byte(infoNodeCheck), n[:])
	if [nodeCheck]byte(raw[32:]) != [nodeCheck]byte(check[:nodeCheck]) {
		return NodeID{}, fmt.Errorf("%w: its checksum is wrong; copy it again", ErrNodeText)
	}
	if err := CheckPublicKey(n); err != nil {
		return NodeID{}, fmt.Errorf("%w: %w", ErrNodeText, err)
	}
	return n, nil
}
