package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestNodeTextForms(t *testing.T) {
	n := testKey(t, 1).NodeID()
	long := n.String()
	if len([]rune(long)) != 7*11+6*3 || strings.Count(long, " · ") != 6 {
		t.Errorf("%q", long)
	}
	if n.Short() != strings.Join(strings.Split(long, " · ")[:3], " · ") {
		t.Errorf("short form %q of %q", n.Short(), long)
	}
	for name, s := range map[string]string{
		"long": long, "compact": n.Compact(), "lower case": strings.ToLower(long), "no spaces": strings.ReplaceAll(long, " ", ""),
		"bare":               strings.NewReplacer(" ", "", "·", "", "-", "").Replace(long),
		"letters for digits": strings.NewReplacer("0", "O", "1", "I").Replace(long), "other letters": strings.NewReplacer("0", "o", "1", "l").Replace(long),
		"wide": strings.ReplaceAll(long, " · ", "\t . "),
	} {
		got, err := ParseNodeID(s)
		if err != nil || got != n {
			t.Errorf("%s %q: %v", name, s, err)
		}
	}
	b, err := json.Marshal(n)
	if err != nil || string(b) != `"`+n.Compact()+`"` {
		t.Errorf("%s %v", b, err)
	}
	var back NodeID
	if err := json.Unmarshal(b, &back); err != nil || back != n {
		t.Errorf("%v %v", back, err)
	}
	if err := back.UnmarshalText([]byte("x")); err == nil || back != n {
		t.Error("a failed read changed the id")
	}
}

// Every single wrong character is found, and but for 0 taken for Z, which the checksum of the whole finds, it is found in its group.
func TestNodeTextFindsTypos(t *testing.T) {
	for _, first := range []byte{1, 2, 3} {
		n := testKey(t, first).NodeID()
		text := []byte(n.Compact())
		for i := range text {
			if text[i] == '.' || text[i] == '-' {
				continue
			}
			for _, c := range []byte(base32Alphabet) {
				if c == text[i] {
					continue
				}
				b := bytes.Clone(text)
				b[i] = c
				_, err := ParseNodeID(string(b))
				if !errors.Is(err, ErrNodeText) {
					t.Fatalf("character %d from %c to %c: %v", i, text[i], c, err)
				}
				zero := text[i] == '0' && c == 'Z' || text[i] == 'Z' && c == '0'
				want := "group " + string(rune('1'+i/12))
				if !zero && !strings.Contains(err.Error(), want) {
					t.Errorf("character %d from %c to %c: %v, want %s named", i, text[i], c, err, want)
				}
				if zero && i%12 < 10 && !strings.Contains(err.Error(), "checksum") {
					t.Errorf("character %d from %c to %c: %v", i, text[i], c, err)
				}
			}
		}
	}
}

func TestNodeTextFindsSwaps(t *testing.T) {
	text := []byte(testKey(t, 1).NodeID().Compact())
	for i := range len(text) - 1 {
		j := i + 1
		for j < len(text) && (text[j] == '.' || text[j] == '-') {
			j++
		}
		if text[i] == '.' || text[i] == '-' || text[i] == text[j] {
			continue
		}
		b := bytes.Clone(text)
		b[i], b[j] = b[j], b[i]
		if _, err := ParseNodeID(string(b)); err == nil {
			t.Errorf("characters %d and %d swapped: accepted", i, j)
		}
	}
}

// reseal writes raw with correct check characters and a correct checksum: only the key is wrong.
func reseal(id [32]byte) string { return NodeID(id).Compact() }

func TestNodeTextRefuses(t *testing.T) {
	good := testKey(t, 1).NodeID().Compact()
	for name, s := range map[string]string{
		"empty": "", "cut": good[:len(good)-1], "longer": good + "0", "six groups": good[:len(good)-11], "other letter": "U" + good[1:],
		"other text": strings.Replace(good, "-", "_", 1), "half a dot": strings.Replace(good, ".", "\xc2", 1), "dot at the end": good[:len(good)-1] + "\xc2",
		"other two bytes": strings.Replace(good, ".", "\u00b8", 1), "much space": good + strings.Repeat(" ", maxNodeText), "null": good + "\x00",
		"short form": testKey(t, 1).NodeID().Short(),
	} {
		if n, err := ParseNodeID(s); !errors.Is(err, ErrNodeText) || !n.IsZero() {
			t.Errorf("%s: %v %v", name, n, err)
		}
	}
	for i := range len(good) {
		if b := []byte(good); b[i] != '.' && b[i] != '-' {
			b[i] = 'U'
			if _, err := ParseNodeID(string(b)); !errors.Is(err, ErrNodeText) || !strings.Contains(err.Error(), `character 'U'`) {
				t.Errorf("letter of no value at %d: %v", i, err)
			}
		}
	}
	if _, err := ParseNodeID(strings.Repeat(" ", maxNodeText-len(good)) + good); err != nil {
		t.Errorf("space up to the bound: %v", err)
	}
	for _, p := range torsion(t) {
		if _, err := ParseNodeID(reseal([32]byte(p.Bytes()))); !errors.Is(err, ErrWeakKey) {
			t.Errorf("small order: %v", err)
		}
	}
	for _, b := range nonCanonical(t) {
		if _, err := ParseNodeID(reseal(b)); !errors.Is(err, ErrWeakKey) {
			t.Errorf("not canonical: %v", err)
		}
	}
	// A checksum that belongs to another id, with every check character correct.
	a, b := testKey(t, 1).NodeID(), testKey(t, 2).NodeID()
	mixed := strings.Join(append(strings.Split(a.Compact(), ".")[:6], strings.Split(b.Compact(), ".")[6]), ".")
	if _, err := ParseNodeID(mixed); !errors.Is(err, ErrNodeText) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("foreign checksum: %v", err)
	}
}

func TestOtherTexts(t *testing.T) {
	if s := (MeshID{0xab, 0xcd}).Short(); s != "abcd0000" {
		t.Error(s)
	}
	if s := (MeshID{0xab}).String(); len(s) != 64 || s[:2] != "ab" {
		t.Error(s)
	}
	if s := (Hash{0xab}).String(); len(s) != 64 || s[:2] != "ab" {
		t.Error(s)
	}
	for s, want := range map[Suite]string{SuiteAES: "AESGCM", SuiteChaCha: "ChaCha", SuiteEnroll: "enroll", 9: "unknown"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("%v", s)
		}
	}
	if !(MeshID{}).IsZero() || (MeshID{1}).IsZero() || !(Hash{}).IsZero() || (Hash{1}).IsZero() || !(PublicKey{}).IsZero() || !(NodeID{}).IsZero() {
		t.Error("IsZero")
	}
}

// FuzzParseNodeID: what parses is written in forms that parse to the same id, and an error comes without an id.
func FuzzParseNodeID(f *testing.F) {
	for i := range byte(4) {
		n := testKey(f, i).NodeID()
		f.Add(n.String())
		f.Add(n.Compact())
		f.Add(strings.ToLower(n.Compact()))
	}
	f.Add("")
	f.Add("7QK4-M2XD-C · 9RTB")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNodeID(s)
		if err != nil {
			if !n.IsZero() {
				t.Fatal("an id comes with the error")
			}
			return
		}
		for _, form := range []string{n.String(), n.Compact()} {
			again, err := ParseNodeID(form)
			if err != nil || again != n {
				t.Fatalf("%q: %v", form, err)
			}
		}
		// Apart from spacing, case and the letters taken for digits there is one text for one id.
		clean := strings.NewReplacer(" ", "", "\t", "", ".", "", "-", "", "·", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(s))
		if want := strings.NewReplacer(".", "", "-", "").Replace(n.Compact()); clean != want {
			t.Fatalf("%q is read as %q", s, n.Compact())
		}
		if CheckPublicKey(n) != nil {
			t.Fatal("a weak key")
		}
	})
}
