package keys

import (
	"fmt"
	"strings"
)

// NodePrefix is the beginning of a node id's text, as a person copies it from a table: upper case, without separators. It names nobody by
// itself; whoever looks it up has to refuse one that fits several ids.
type NodePrefix string

// minNodePrefix is the least that is taken: a group with its check character, as tables show it, so that a typing error names no other node
// and few names of machines can be read as one.
const minNodePrefix = groupChars + 1

// ParseNodePrefix reads the beginning of a node id in any form ParseNodeID reads; a whole id is one, too. Of groups that are whole it
// compares the check character.
func ParseNodePrefix(s string) (NodePrefix, error) {
	clean, err := nodeChars(s)
	if err != nil {
		return "", err
	}
	if len(clean) < minNodePrefix {
		return "", fmt.Errorf("%w: the beginning of one has at least %d characters", ErrNodeText, minNodePrefix)
	}
	if len(clean) >= nodeGroups*(groupChars+1) {
		if _, err := ParseNodeID(s); err != nil {
			return "", err
		}
	}
	for g := 0; (g+1)*(groupChars+1) <= len(clean); g++ {
		if _, err := groupValues(clean, g); err != nil {
			return "", err
		}
	}
	for i, c := range clean {
		clean[i] = base32Alphabet[base32Value(c)]
	}
	return NodePrefix(clean), nil
}

// Matches reports whether the id begins so.
func (p NodePrefix) Matches(n NodeID) bool {
	at := 0
	for _, g := range n.groups() {
		for i := 0; i < len(g) && at < len(p); i++ {
			if g[i] == '-' {
				continue
			}
			if p[at] != g[i] {
				return false
			}
			at++
		}
	}
	return p != "" && at == len(p)
}

// nodeChars takes the separators out of an id's text.
func nodeChars(s string) ([]byte, error) {
	if len(s) > maxNodeText {
		return nil, fmt.Errorf("%w: too long", ErrNodeText)
	}
	clean := make([]byte, 0, 64)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '-', '.', '\t':
		case 0xc2: // first byte of "·" in UTF-8
			if i+1 >= len(s) || s[i+1] != 0xb7 {
				return nil, fmt.Errorf("%w: character %q", ErrNodeText, s[i])
			}
			i++
		default:
			if base32Value(c) < 0 {
				return nil, fmt.Errorf("%w: character %q", ErrNodeText, c)
			}
			clean = append(clean, c)
		}
	}
	return clean, nil
}

// groupValues reads one whole group and compares its check character.
func groupValues(clean []byte, g int) ([]int, error) {
	group := clean[g*(groupChars+1) : (g+1)*(groupChars+1)]
	gv := make([]int, groupChars)
	for i := range gv {
		gv[i] = base32Value(group[i])
	}
	if groupCheck(gv) != base32Alphabet[base32Value(group[groupChars])] {
		return nil, fmt.Errorf("%w: group %d (%s) is mistyped", ErrNodeText, g+1, strings.ToUpper(string(group)))
	}
	return gv, nil
}
