package mesh

import (
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// Streams are sealed with what both processors are good at, even where the dialer did not know the peer's when it chose the session's
// suite; and never with AES by one that computes it slowly.
func TestStreamSuite(t *testing.T) {
	for name, c := range map[string]struct {
		dialed         bool // as knowing that the peer has AES
		noAES          bool // on the far side
		suite, streams keys.Suite
	}{
		"known":   {true, false, keys.SuiteAES, keys.SuiteAES},
		"unknown": {false, false, keys.SuiteChaCha, keys.SuiteAES},
		"without": {false, true, keys.SuiteChaCha, keys.SuiteChaCha},
		// A beacon that lies about the peer decides nothing but the session's own few bytes.
		"lied": {true, true, keys.SuiteAES, keys.SuiteAES},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.member("a"), w.member("b")
			b.noAES = c.noAES
			w.allow(a, b, "echo")
			a.run()
			w.port++ // they hear no beacon of each other
			b.run()
			b.echo("echo")
			_, err := a.dialPeer(a.ctx, core.Dial{ID: 1 << 40, Peer: b.key.NodeID(), At: b.at(), AES: c.dialed})
			ok(t, err)
			l := full(a, b)
			far := b.link(a)
			if l.suite != c.suite || l.ring.Suite() != c.streams || far.ring.Suite() != c.streams {
				t.Fatalf("session %v, streams %v and %v", l.suite, l.ring.Suite(), far.ring.Suite())
			}
			if want := !c.noAES; l.may(session.FeatureAES) != want || far.may(session.FeatureAES) != want {
				t.Fatal("features", l.features.Load(), far.features.Load())
			}
			ok(t, pings(a.dial(b, "echo")))
		})
	}
}
