package keys

import (
	"errors"
	"strings"
	"testing"
)

func TestNodePrefix(t *testing.T) {
	n, other := testKey(t, 1).NodeID(), testKey(t, 2).NodeID()
	for name, s := range map[string]string{
		"short form": n.Short(), "whole": n.Compact(), "long": n.String(), "one group": n.Compact()[:11], "one and a half": n.Compact()[:16],
		"lower case": strings.ToLower(n.Compact()[:11]), "letters for digits": strings.NewReplacer("0", "O", "1", "l").Replace(n.Short()),
		"bare": strings.NewReplacer(".", "", "-", "").Replace(n.Compact()[:20]),
	} {
		p, err := ParseNodePrefix(s)
		if err != nil || !p.Matches(n) || p.Matches(other) {
			t.Errorf("%s %q: %q, %v", name, s, p, err)
		}
	}
	bad := []byte(n.Compact()[:11])
	bad[10] = base32Alphabet[(strings.IndexByte(base32Alphabet, bad[10])+1)%31]
	mixed := strings.Join(append(strings.Split(n.Compact(), ".")[:6], strings.Split(other.Compact(), ".")[6]), ".")
	for name, s := range map[string]string{
		"empty": "", "without its check": n.Compact()[:9], "no letter": "U" + n.Compact()[1:], "mistyped group": string(bad), "too long": n.Compact() + "0",
		"foreign checksum": mixed, "name": "laptop", "much space": n.Short() + strings.Repeat(" ", maxNodeText),
	} {
		if p, err := ParseNodePrefix(s); !errors.Is(err, ErrNodeText) || p != "" {
			t.Errorf("%s %q: %q, %v", name, s, p, err)
		}
	}
	if NodePrefix("").Matches(n) {
		t.Error("nothing is no beginning")
	}
}
