package daemon_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// found makes a mesh of nas and the named others, all running and connected with nas.
func found(t *testing.T, names ...string) (nas *host, others []*host) {
	t.Helper()
	port := uint16(20000 + rand.IntN(10000))
	nas = newHost(t, "nas", port)
	if _, err := daemon.Init(t.Context(), initOptions(nas.dir)); err != nil {
		t.Fatal(err)
	}
	nas.start()
	for _, name := range names {
		inv, err := nas.client.CreateInvite(t.Context(), &control.InviteRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := identity.ParseInvite(inv.Text)
		if err != nil {
			t.Fatal(err)
		}
		h := newHost(t, name, port)
		if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: h.dir, Invite: parsed}); err != nil {
			t.Fatal(err)
		}
		h.start()
		eventually(t, name+" up at nas", patience, func() bool { return nas.peerState(name) == "up/full" })
		others = append(others, h)
	}
	return nas, others
}

func (h *host) holds(file string) bool {
	_, err := os.Stat(filepath.Join(h.dir, file))
	return err == nil
}

// A new group secret reaches every member by itself. One that was off when it changed is heard with its old one when it comes back,
// and fetches the new one; within a day there is no other unless somebody insists.
func TestGroupSecretRotation(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop")
	gpu, laptop := others[0], others[1]
	if _, err := nas.client.RotateGroup(t.Context(), &control.RotateGroupRequest{}); err == nil {
		t.Fatal("changed again within a day, and nobody insisted")
	}
	if _, err := gpu.client.RotateGroup(t.Context(), &control.RotateGroupRequest{Now: true}); err == nil {
		t.Fatal("changed by a node that is no issuer")
	}
	laptop.stop()
	res, err := nas.client.RotateGroup(t.Context(), &control.RotateGroupRequest{Now: true, WaitMS: 20_000})
	if err != nil || res.Generation != 2 {
		t.Fatal(res, err)
	}
	took := eventually(t, "gpu1 holds generation 2", patience, func() bool { return gpu.holds("group-2.age") })
	t.Logf("gpu1 holds the new secret %v later", took)
	// Twice more: what laptop holds is neither the current nor the previous one.
	for range 2 {
		if _, err := nas.client.RotateGroup(t.Context(), &control.RotateGroupRequest{Now: true, WaitMS: 20_000}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "gpu1 holds generation 4", patience, func() bool { return gpu.holds("group-4.age") })
	laptop.start()
	took = eventually(t, "laptop is back", 60*time.Second, func() bool {
		return nas.peerState("laptop") == "up/full" && gpu.peerState("laptop") == "up/full" && laptop.holds("group-4.age")
	})
	t.Logf("laptop is back, with the new secret, %v after its start", took)
	if laptop.holds("group-2.age") {
		t.Fatal("a generation nobody uses any more was handed out")
	}
	// A daemon starts with what the log commits to.
	gpu.stop()
	gpu.start()
	eventually(t, "gpu1 is back", patience, func() bool { return nas.peerState("gpu1") == "up/full" })
}

// A revocation changes the group secret in the same entry if somebody insists, and says when it will if the last change is too young.
func TestRevocationRotatesTheGroup(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop", "phone")
	gpu := others[0]
	res, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "phone", WaitMS: 20_000})
	if err != nil || res.Generation != 0 || len(res.Warnings) != 1 || res.Warnings[0].Code != "group-later" {
		t.Fatalf("%+v %v", res, err)
	}
	res, err = nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop", Now: true, WaitMS: 20_000})
	if err != nil || res.Generation != 2 || len(res.Warnings) != 0 {
		t.Fatalf("%+v %v", res, err)
	}
	eventually(t, "gpu1 holds the new secret", patience, func() bool { return gpu.holds("group-2.age") })
	if others[1].holds("group-2.age") {
		t.Fatal("the revoked node was given the new secret")
	}
}
