package daemon_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// TestDaemonKeepsItsState: a daemon with a log worth it keeps what it computed when it ends, begins with that, and does not believe it
// when it was touched.
func TestDaemonKeepsItsState(t *testing.T) {
	t.Parallel()
	nas := newHost(t, "nas", uint16(20000+rand.IntN(10000)))
	if _, err := daemon.Init(t.Context(), initOptions(nas.dir)); err != nil {
		t.Fatal(err)
	}
	nas.start()
	for i := range 256 {
		if _, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "any", What: fmt.Sprintf("nas/s%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	grants := func() int {
		t.Helper()
		g, err := nas.client.Grants(t.Context(), control.GrantsQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return len(g.Grants)
	}
	nas.stop()
	cache := filepath.Join(nas.dir, "trust", "cache")
	kept, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	words := &words{}
	nas.words = words
	nas.start()
	if n := grants(); n != 256 || strings.Contains(words.String(), "verified from its beginning") {
		t.Fatalf("%d grants, said %s", n, words)
	}
	nas.stop()
	kept[len(kept)/2] ^= 1
	if err := os.WriteFile(cache, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	nas.start()
	if n := grants(); n != 256 || !strings.Contains(words.String(), "verified from its beginning") {
		t.Fatalf("touched: %d grants, said %s", n, words)
	}
}
