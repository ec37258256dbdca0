package meshkey_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestNamedTestsExist holds SECURITY.md, the measurements and the decisions to the tests they name.
func TestNamedTestsExist(t *testing.T) {
	names := regexp.MustCompile(`([a-z][a-z0-9/]*)\.((?:Test|Fuzz|Benchmark|Example)[A-Z]\w*)`)
	for _, doc := range []string{"SECURITY.md", "README.md", "docs/decisions.md", "docs/measurements.md", "docs/operating.md", "docs/policy.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		found := names.FindAllSubmatch(text, -1)
		if doc == "SECURITY.md" && len(found) < 50 {
			t.Errorf("%s names only %d tests", doc, len(found))
		}
		for _, m := range found {
			if !hasTest(t, string(m[1]), m[2]) {
				t.Errorf("%s names %s, which does not exist", doc, m[0])
			}
		}
	}
}

func hasTest(t *testing.T, folder string, name []byte) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("func "+string(name)+"(")) {
			return true
		}
	}
	return false
}
