package identity

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "7", "gpu1", "my-nas", "a--b", strings.Repeat("n", MaxName)} {
		if err := CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "-", "-a", "a-", "A", "a.b", "a b", "a_b", "a/b", "a:b", "é", "а", "a\x00", "a\n", "\x1b[2J", "*", strings.Repeat("n", MaxName+1),
	} {
		err := CheckName(s)
		if !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", s, err)
		} else if strings.ContainsAny(err.Error(), "\x00\n\x1b") || len(err.Error()) > 200 {
			t.Errorf("%q: the error carries it unquoted: %q", s, err)
		}
	}
}

func TestCheckTags(t *testing.T) {
	for _, s := range []string{"a", "gpu", "role:db", "a.b_c-d", strings.Repeat("t", MaxTag)} {
		if err := CheckTag(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", ":", ":a", "a:", "A", "a b", "a*", "a/b", "é", "a\n", strings.Repeat("t", MaxTag+1)} {
		if err := CheckTag(s); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if err := CheckTags(longTags()); err != nil {
		t.Error(err)
	}
	if err := CheckTags(nil); err != nil {
		t.Error(err)
	}
	if got := NormalTags([]string{"b", "a", "b", "a", "c"}); !slices.Equal(got, []string{"a", "b", "c"}) || CheckTags(got) != nil {
		t.Errorf("%q", got)
	}
	in := []string{"b", "a"}
	if NormalTags(in); in[0] != "b" {
		t.Error("the caller's slice was changed")
	}
	if got := NormalTags(nil); got == nil || len(got) != 0 {
		t.Errorf("%#v", got)
	}
}

// distance is the number of letters to insert, delete or replace between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func TestWordList(t *testing.T) {
	if !slices.IsSorted(wordList[:]) {
		t.Error("not in alphabetical order")
	}
	for i, w := range wordList {
		if len(w) < 4 || len(w) > 7 || strings.ContainsFunc(w, func(r rune) bool { return r < 'a' || r > 'z' }) {
			t.Errorf("%q is not of 4 to 7 letters a-z", w)
		}
		for _, v := range wordList[:i] {
			if d := distance(v, w); d < 3 {
				t.Errorf("%q and %q differ in %d letters only", v, w, d)
			}
			if v[:3] == w[:3] {
				t.Errorf("%q and %q begin alike", v, w)
			}
		}
	}
}

// The list and its order are protocol: this is its hash.
func TestWordListIsFixed(t *testing.T) {
	const want = "06608c5e04ebad8ad954cc1d3c63aa40420fd322c4a3b60b4c1d36d181edb7c7"
	if got := keys.Sum([]byte(strings.Join(wordList[:], " "))).String(); got != want {
		t.Errorf("the word list has changed: %s", got)
	}
}

func TestWords(t *testing.T) {
	h := keys.Hash(seq(0x40))
	sum := keys.ConfirmationHash(h)
	want := [3]string{wordList[sum[0]], wordList[sum[1]], wordList[sum[2]]}
	if got := Words(h); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	csr, err := SignCSR(smallCSR(t), testKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	sum = keys.RequestHash(csr.ID)
	if got := csr.Words(); got != ([3]string{wordList[sum[0]], wordList[sum[1]], wordList[sum[2]]}) {
		t.Errorf("%q", got)
	}
	if Words(csr.ID) == csr.Words() {
		t.Error("words of a session and of a request are one domain")
	}
	differ := 0
	for i := range byte(100) {
		if Words(keys.Hash{i}) != Words(keys.Hash{i + 1}) {
			differ++
		}
	}
	if differ < 99 {
		t.Errorf("only %d of 100 neighbours have other words", differ)
	}
}
