package demo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/demo"
)

func TestCleanUpRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, "/", filepath.Join(os.TempDir(), "other"), filepath.Join(os.TempDir(), "meshkey-demo-1", "..", "x"), ""} {
		if err := demo.CleanUp(strings.NewReader(""), d); err == nil {
			t.Errorf("%q removed", d)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
