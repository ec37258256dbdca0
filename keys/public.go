package keys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// PublicLine is the public half of a new root or issuer key, as one line that its holder gives to those who change the root.
type PublicLine struct {
	Kind KeyKind // KindRoot or KindIssuer
	Mesh MeshID
	Name string
	Key  PublicKey
}

// ErrPublicLine means the text is no such line: copy it again.
var ErrPublicLine = errors.New("not the line of a public root or issuer key")

// String writes the line; its form is in the package's documentation.
func (l PublicLine) String() string {
	return "meshkey-" + string(l.Kind) + "-key/1 " + l.Mesh.String() + " " + l.Name + " " + NodeID(l.Key).Compact()
}

// ParsePublicLine reads a line; white space around it is ignored. The name is checked by whoever puts it into a root.
func ParsePublicLine(s string) (PublicLine, error) {
	if len(s) > maxPublicLine {
		return PublicLine{}, fmt.Errorf("%w: too long", ErrPublicLine)
	}
	f := strings.Split(strings.Trim(s, " \t\r\n"), " ")
	if len(f) != 4 {
		return PublicLine{}, ErrPublicLine
	}
	l := PublicLine{Name: f[2]}
	switch f[0] {
	case "meshkey-root-key/1":
		l.Kind = KindRoot
	case "meshkey-issuer-key/1":
		l.Kind = KindIssuer
	default:
		return PublicLine{}, ErrPublicLine
	}
	mesh, err := hex.DecodeString(f[1])
	if err != nil || len(mesh) != len(l.Mesh) || MeshID(mesh).IsZero() {
		return PublicLine{}, fmt.Errorf("%w: its mesh is damaged", ErrPublicLine)
	}
	l.Mesh = MeshID(mesh)
	id, err := ParseNodeID(f[3])
	if err != nil {
		return PublicLine{}, fmt.Errorf("%w: its key is damaged: %w", ErrPublicLine, err)
	}
	l.Key = id.Public()
	return l, nil
}
