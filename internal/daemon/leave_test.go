package daemon_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// ended waits until a daemon has stopped by itself.
func (h *host) ended() {
	h.t.Helper()
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Fatal(err)
		}
	case <-time.After(patience):
		h.t.Fatalf("%s does not stop", h.name)
	}
	h.cancel()
	h.cancel = nil
}

// A member leaves: the issuer revokes it, its daemon stops, and what made it a member is aside, with an audit log that still verifies and
// without the group secrets. Without an issuer nothing happens unless it is forced, and then it is said what remains to be done.
func TestLeave(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop")
	gpu, laptop := others[0], others[1]
	old := gpu.id()
	if res, err := gpu.client.Leave(t.Context(), &control.LeaveRequest{DryRun: true}); err != nil || res.Applied || res.Node.Name != "gpu1" || !gpu.holds("member") {
		t.Fatal("a dry run", res, err)
	}
	res, err := gpu.client.Leave(t.Context(), &control.LeaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Applied || res.Issuer.Name != "nas" || len(res.Warnings) != 0 {
		t.Fatalf("%+v", res)
	}
	gpu.ended()
	eventually(t, "nas has revoked gpu1", patience, func() bool {
		p, err := nas.client.Peers(t.Context())
		if err != nil {
			return false
		}
		for _, x := range p.Peers {
			if x.ID == old && x.State == "revoked" {
				return true
			}
		}
		return false
	})
	if !nas.audited(t, "node.leave") {
		t.Fatal("the issuer's log does not say who asked")
	}
	if gpu.holds("member") || gpu.holds("node.age") || gpu.holds("group-1.age") {
		t.Fatal("still a member by its files")
	}
	for _, dir := range []string{gpu.dir, res.Kept} {
		if secrets, err := filepath.Glob(filepath.Join(dir, "group-*")); err != nil || len(secrets) != 0 {
			t.Fatal("group secrets are left:", secrets, err)
		}
	}
	if r, err := daemon.VerifyAudit(res.Kept); err != nil || !r.OK {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := tryRun(t, gpu.dir); !errors.Is(err, daemon.ErrNotMember) {
		t.Fatal(err)
	}

	if _, err := nas.client.Leave(t.Context(), &control.LeaveRequest{}); code(err) != control.Denied || !strings.Contains(err.Error(), "last issuer of homelab") ||
		!strings.Contains(err.Error(), "laptop first") {
		t.Fatal("the last issuer leaves:", err)
	}
	nas.stop()
	if _, err := laptop.client.Leave(t.Context(), &control.LeaveRequest{WaitMS: 200}); code(err) != control.Unreachable || !strings.Contains(err.Error(), "nothing has changed") {
		t.Fatal("nobody was asked:", err)
	}
	if !laptop.holds("member") {
		t.Fatal("it left although nobody revoked it")
	}
	res, err = laptop.client.Leave(t.Context(), &control.LeaveRequest{WaitMS: 200, Force: true})
	if err != nil || res.Applied || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Next, "meshkey revoke ") {
		t.Fatal(res, err)
	}
	laptop.ended()
	if _, err := os.Stat(filepath.Join(laptop.dir, "left-1", "member")); err != nil {
		t.Fatal(err)
	}
}

// An issuer that is not the last one revokes its own node and is gone when a peer knows; the last one alone in its mesh goes by force.
func TestIssuerLeaves(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1")
	gpu := others[0]
	old := nas.id()
	res, err := nas.client.Leave(t.Context(), &control.LeaveRequest{Force: true})
	if err != nil || !res.Applied || res.Issuer.ID != old || len(res.Warnings) != 2 {
		t.Fatal(res, err) // the mesh is stranded, and the root key is here
	}
	nas.ended()
	eventually(t, "gpu1 has revoked nas", patience, func() bool {
		s, err := gpu.client.Status(t.Context())
		return err == nil && s.Trust.Revoked == 1
	})
}

// An issuer that is not the last one leaves without force, and says that its key goes on to count; the other one rotates the members.
func TestOneOfTwoIssuersLeaves(t *testing.T) {
	t.Parallel()
	nas, root := foundWithRoot(t, beaconPort())
	pi, laptop := nas.enrolled("pi4", nas), nas.enrolled("laptop", nas)
	pi.start()
	laptop.start()
	k, err := pi.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "pi4"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nas.accept(root.sign(nas, addIssuer(k))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi4 and laptop have the new root, and each other", patience, func() bool {
		return pi.root().Version == 2 && laptop.root().Version == 2 && laptop.peerState("pi4") == "up/full" && nas.peerState("pi4") == "up/full"
	})
	res, err := nas.client.Leave(t.Context(), &control.LeaveRequest{})
	if err != nil || !res.Applied {
		t.Fatal(res, err)
	}
	codes := map[string]string{}
	for _, w := range res.Warnings {
		codes[w.Code] = w.Next
	}
	if len(codes) != 2 || codes["issuer-key"] != "on another issuer, with the root key: meshkey root issuer cutoff nas" || codes["root-key"] == "" {
		t.Fatal(codes)
	}
	nas.ended()
	rot, err := laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{})
	if err != nil || rot.Issuer.Name != "pi4" {
		t.Fatal(rot, err)
	}
	eventually(t, "laptop up at pi4 with its new key", patience, func() bool { return laptop.id() == rot.New.ID && pi.peerState("laptop") == "up/full" })
}

func beaconPort() uint16 { return uint16(20000 + rand.IntN(10000)) }
