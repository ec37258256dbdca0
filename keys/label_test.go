package keys

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// prefixFree fails for texts that are equal or of which one begins another: then bytes made for one domain could be read in another.
func prefixFree(t *testing.T, what string, list []string) {
	t.Helper()
	for i, a := range list {
		if a == "" {
			t.Errorf("%s %d is empty", what, i)
		}
		for j, b := range list {
			if i != j && strings.HasPrefix(b, a) {
				t.Errorf("%s %q is a prefix of %q", what, a, b)
			}
		}
	}
}

func TestLabelsUniqueAndPrefixFree(t *testing.T) {
	var labels []string
	for _, l := range Labels() {
		labels = append(labels, l.String())
	}
	prefixFree(t, "label", labels)
	prefixFree(t, "info", Infos())
	for _, l := range labels {
		if strings.ContainsFunc(l, func(r rune) bool { return r < 'a' || r > 'z' }) {
			t.Errorf("label %q is not of a-z, so its end could be misread", l)
		}
	}
	for _, i := range Infos() {
		if !strings.HasPrefix(i, sigPrefix) || strings.Contains(i, "\x00") {
			t.Errorf("info %q does not begin with %q, or contains the terminator", i, sigPrefix)
		}
	}
	// Signature inputs and KDF infos meet in no primitive, but the prologue is one text of the same family: it goes on with 0x00
	// where every other goes on with a space.
	if strings.HasPrefix(Prologue, sigPrefix) || !strings.HasPrefix(sigPrefix, Prologue) {
		t.Error("prologue")
	}
}

// TestRegistryIsComplete reads the source: a label or info that is declared and not in its list would escape the test above.
func TestRegistryIsComplete(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "label.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	infos, labels := make(map[string]bool), make(map[string]bool)
	for _, s := range Infos() {
		infos[s] = true
	}
	for _, l := range Labels() {
		labels[l.s] = true
	}
	if len(infos) != len(Infos()) || len(labels) != len(Labels()) {
		t.Error("an entry is listed twice")
	}
	found := 0
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		s, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		if s == sigPrefix || s == Prologue {
			return true
		}
		found++
		if !infos[s] && !labels[s] {
			t.Errorf("%q is declared in label.go and in no list", s)
		}
		return true
	})
	if want := len(infos) + len(labels); found != want {
		t.Errorf("%d texts in label.go, %d in the lists", found, want)
	}
}

func TestSignatureInput(t *testing.T) {
	m := MeshID{1, 2, 3}
	got := signatureInput(LabelCert, m, []byte("payload"))
	if want := "meshkey/1 cert\x00" + string(m[:]) + "payload"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("signature input without a label")
		}
	}()
	signatureInput(Label{}, m, nil)
}
