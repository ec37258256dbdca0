package e2e

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// leaked returns a run of n bytes of secret that is in text, nil if there is none.
func leaked(text, secret []byte, n int) []byte {
	for i := 0; i+n <= len(secret); i++ {
		if bytes.Contains(text, secret[i:i+n]) {
			return secret[i : i+n]
		}
	}
	return nil
}

// certificate is the host's own, as it is stored and sent.
func (h *host) certificate() []byte {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.state(), "member"))
	if err != nil {
		h.t.Fatal(err)
	}
	var m struct {
		Version     uint64      `cbor:"1,keyasint"`
		Mesh        keys.MeshID `cbor:"2,keyasint"`
		Certificate []byte      `cbor:"3,keyasint"`
		Peers       [][]byte    `cbor:"4,keyasint"`
	}
	if err := wire.Unmarshal(b, &m); err != nil || len(m.Certificate) < 100 {
		h.t.Fatalf("%s: the member file: %v, a certificate of %d bytes", h.name, err, len(m.Certificate))
	}
	return m.Certificate
}

// TestCapture listens on the wire from before the first packet to after an HTTP answer: discovery, enrolment, sessions, streams.
//
//	alpha-treasury ──┐   captures: eth0 of every host, which is all that the switch carries
//	bravo-foundry  ──┼─ br0
//	charlie-pilot  ──┘   bravo's loopback, between daemon and web server: the control, where the text must be found
func TestCapture(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	br := n.Bridge("br0")
	alpha, bravo, charlie := newHost(t, n, "alpha-treasury"), newHost(t, n, "bravo-foundry"), newHost(t, n, "charlie-pilot")
	all := []*host{alpha, bravo, charlie}
	var cables []*netns.Capture
	for i, h := range all {
		l := br.Attach(h.Host, v4[i]...)
		cables = append(cables, h.Capture(l.Dev))
	}
	inside := bravo.Capture("lo")
	for _, h := range all {
		h.WaitDAD()
	}

	alpha.found("clandestine-mesh")
	alpha.start()
	var invites []*identity.Invite
	for _, h := range all[1:] {
		var inv control.InviteResult
		alpha.document(&inv, "invite", h.name)
		h.must("enroll", "--yes", inv.Text)
		h.start()
		parsed, err := identity.ParseInvite(inv.Text)
		if err != nil {
			t.Fatal(err)
		}
		invites = append(invites, parsed)
	}
	full(t, 2*time.Second, all...)
	bravo.must("expose", "ledger-archive", bravo.web())
	alpha.must("grant", charlie.name, bravo.name+"/ledger-archive")
	eventually(t, "grant known", time.Second, func() bool {
		d, err := charlie.client.Decide(t.Context(), control.DecideRequest{Target: bravo.name + "/ledger-archive"})
		return err == nil && d.Allowed
	})
	addr := charlie.connect(bravo.name + "/ledger-archive")
	const question, answer = "confidential-question", "a secret greeting"
	if got := charlie.Run("curl", "-sS", "--max-time", "10", "http://"+addr+"/?"+question); got != answer+"\n" {
		t.Fatalf("curl got %q", got)
	}

	secrets := map[string][]byte{
		"the request": []byte(question), "the answer": []byte(answer), "a header": []byte("HTTP/1.1"), "the mesh's name": []byte("clandestine-mesh"),
		"the service's name": []byte("ledger-archive"),
	}
	windows := map[string][]byte{}
	for _, h := range all {
		st, err := h.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id, err := keys.ParseNodeID(st.Node.ID)
		if err != nil {
			t.Fatal(err)
		}
		mesh, err := hex.DecodeString(st.Mesh.ID)
		if err != nil || len(mesh) != 32 {
			t.Fatalf("mesh id %q", st.Mesh.ID)
		}
		secrets["the name "+h.name] = []byte(h.name)
		windows["the node id of "+h.name], windows["the certificate of "+h.name], windows["the mesh id"] = id[:], h.certificate(), mesh
	}
	for i, inv := range invites {
		windows["the invite secret of "+all[1+i].name] = inv.Secret.Bytes()
	}

	eventually(t, "the text on the loopback of the web server", 100*time.Millisecond, func() bool {
		return inside.Contains([]byte(question)) && inside.Contains([]byte(answer))
	})

	// What was seen must be the whole story, or finding nothing proves nothing.
	sources, firsts := map[netip.Addr]bool{}, map[byte]bool{}
	var texts [][]byte
	size := 0
	for _, c := range cables {
		raw, err := c.Stop()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range raw {
			texts = append(texts, p.Data)
			size += len(p.Data)
		}
		ps := packets(c)
		for _, p := range ps {
			if p.broadcast() {
				sources[p.src.Addr()] = true
			}
		}
		for _, stream := range flows(ps) {
			texts = append(texts, stream)
			firsts[stream[0]] = true
		}
	}
	for _, want := range []string{"10.9.0.1", "10.9.0.2", "10.9.0.3"} {
		if !sources[netip.MustParseAddr(want)] {
			t.Errorf("no beacon of %s in the capture", want)
		}
	}
	if !firsts[0x11] || !firsts[0x20] || !firsts[0x01] && !firsts[0x02] {
		t.Errorf("the capture lacks an enrolment, a session or a stream: first bytes %v", firsts)
	}
	for _, text := range texts {
		for what, s := range secrets {
			if bytes.Contains(text, s) {
				t.Errorf("%s is on the wire", what)
			}
		}
		for what, s := range windows {
			if run := leaked(text, s, 12); run != nil {
				t.Errorf("%x of %s is on the wire", run, what)
			}
		}
	}
	t.Logf("%d packets and flows, %d bytes, beacons of %d addresses: none of %d secrets", len(texts), size, len(sources), len(secrets)+len(windows))
}
