package control_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

// reads and writes are one call of each route.
func reads(c *control.Client, t *testing.T) map[string]error {
	errs := map[string]error{}
	_, errs["status"] = c.Status(t.Context())
	_, errs["peers"] = c.Peers(t.Context())
	_, errs["services"] = c.Services(t.Context())
	_, errs["grants"] = c.Grants(t.Context(), control.GrantsQuery{})
	_, errs["decision"] = c.Decide(t.Context(), control.DecideRequest{Target: "nas/postgres"})
	_, errs["doctor"] = c.Doctor(t.Context())
	_, errs["version"] = c.Version(t.Context())
	_, errs["root"] = c.Root(t.Context())
	_, errs["root chain"] = c.RootChain(t.Context())
	errs["ready"] = c.WaitReady(t.Context(), patience)
	_, errs["audit log"] = c.AuditLog(t.Context(), control.AuditQuery{})
	_, errs["audit entry"] = c.AuditEntry(t.Context(), 7)
	_, errs["audit verify"] = c.AuditVerify(t.Context())
	_, errs["metrics"] = c.Metrics(t.Context())
	return errs
}

func writes(c *control.Client, t *testing.T) map[string]error {
	errs := map[string]error{}
	_, errs["expose"] = c.Expose(t.Context(), &control.ExposeRequest{Name: "web", Target: "80"})
	_, errs["unexpose"] = c.Unexpose(t.Context(), &control.UnexposeRequest{Name: "web"})
	_, errs["grant"] = c.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "web"})
	_, errs["policy"] = c.PolicyFile(t.Context(), &control.PolicyRequest{Mode: control.PolicyDiff})
	_, errs["ungrant"] = c.Ungrant(t.Context(), &control.UngrantRequest{ID: "g-1"})
	_, errs["revoke"] = c.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"})
	_, errs["root accept"] = c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Hash: strings.Repeat("00", 32)})
	_, errs["root cut"] = c.CutIssuer(t.Context(), &control.CutIssuerRequest{Issuer: "nas"})
	_, errs["keys issuer"] = c.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "nas"})
	_, errs["rotate"] = c.RotateNode(t.Context(), &control.RotateNodeRequest{})
	_, errs["leave"] = c.Leave(t.Context(), &control.LeaveRequest{})
	_, errs["rotate group"] = c.RotateGroup(t.Context(), &control.RotateGroupRequest{})
	_, errs["invite"] = c.CreateInvite(t.Context(), &control.InviteRequest{Name: "gpu2"})
	errs["profile"] = c.Profile(t.Context(), "goroutine", 0, io.Discard)
	_, errs["invites"] = c.Invites(t.Context())
	errs["invite rm"] = c.RemoveInvite(t.Context(), "0102030405060708")
	_, errs["pending"] = c.Pending(t.Context())
	_, errs["approve"] = c.Approve(t.Context(), &control.ApproveRequest{ID: controltest.RequestID})
	_, errs["deny"] = c.Deny(t.Context(), &control.DenyRequest{ID: controltest.RequestID})
	stop := errors.New("first event")
	errs["connect"] = c.Connect(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama"}, func(*control.ConnectEvent) error { return stop })
	if errs["connect"] == stop {
		errs["connect"] = nil
	}
	s, err := c.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama"})
	if err == nil {
		s.Close()
	}
	errs["stream"] = err
	_, errs["reset floor"] = c.ResetTimeFloor(t.Context(), &control.ResetTimeFloorRequest{})
	_, errs["repin"] = c.Repin(t.Context(), &control.RepinRequest{Name: "laptop", DryRun: true})
	errs["shutdown"] = c.Shutdown(t.Context())
	return errs
}

func all(t *testing.T, errs map[string]error, allowed bool) {
	t.Helper()
	for name, err := range errs {
		if allowed && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !allowed && err == nil {
			t.Errorf("%s was let through", name)
		}
	}
}

func TestOwnerReadsAndWrites(t *testing.T) {
	c, _, _ := start(t, controltest.New(), nil)
	all(t, reads(c, t), true)
	all(t, writes(c, t), true)
}

func TestRootReadsAndWrites(t *testing.T) {
	c, _, _ := start(t, controltest.New(), func(cfg *control.ServerConfig) { cfg.Credentials = as(0) })
	all(t, reads(c, t), true)
	all(t, writes(c, t), true)
}

func TestAnotherUserIsRefusedEverything(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, func(cfg *control.ServerConfig) { cfg.Credentials = as(1001) })
	all(t, reads(c, t), false)
	all(t, writes(c, t), false)
	if calls := fake.Calls(); len(calls) != 0 {
		t.Errorf("a refused caller reached the daemon: %v", calls)
	}
	_, err := c.Status(t.Context())
	if e := wantCode(t, "status", err, control.Failed); !strings.Contains(e.Message, "uid 1001") || !strings.Contains(e.Next, "1000") {
		t.Errorf("message %q, next %q", e.Message, e.Next)
	}
}

func TestReadingGroupReadsOnly(t *testing.T) {
	gid := uint32(77)
	fake := controltest.New()
	c, _, _ := start(t, fake, func(cfg *control.ServerConfig) {
		cfg.ReadGroup, cfg.Credentials = &gid, as(1001, 76, 77)
	})
	all(t, reads(c, t), true)
	n := len(fake.Calls())
	all(t, writes(c, t), false)
	if calls := fake.Calls(); len(calls) != n {
		t.Errorf("a reader changed something: %v", calls[n:])
	}
}

func TestAnotherGroupIsRefused(t *testing.T) {
	gid := uint32(77)
	c, _, _ := start(t, controltest.New(), func(cfg *control.ServerConfig) {
		cfg.ReadGroup, cfg.Credentials = &gid, as(1001, 76)
	})
	all(t, reads(c, t), false)
}

func TestGroupMeansNothingUnlessOpened(t *testing.T) {
	c, _, _ := start(t, controltest.New(), func(cfg *control.ServerConfig) { cfg.Credentials = as(1001, 0, owner) })
	all(t, reads(c, t), false)
}

func TestUnknownCallerIsRefused(t *testing.T) {
	// The zero uid that comes with the error must not count as root.
	c, _, _ := start(t, controltest.New(), func(cfg *control.ServerConfig) {
		cfg.Credentials = func(net.Conn) (control.Credentials, error) { return control.Credentials{}, errors.New("no idea") }
	})
	all(t, reads(c, t), false)
	all(t, writes(c, t), false)
}

func TestKernelTellsWhoWeAre(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, func(cfg *control.ServerConfig) {
		cfg.Owner, cfg.Credentials = uint32(os.Getuid()), nil
	})
	if _, err := c.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "web"}); err != nil {
		t.Fatal(err)
	}
	me, path := uint32(os.Getuid()), socketPath(t)
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cl, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cred, err := control.PeerCredentials(conn)
	if err != nil || cred.UID != me || cred.GID != uint32(os.Getgid()) {
		t.Fatalf("%+v, %v; want uid %d gid %d", cred, err, me, os.Getgid())
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		found := uint32(g) == cred.GID
		for _, h := range cred.Groups {
			found = found || h == uint32(g)
		}
		if !found {
			t.Errorf("group %d is missing in %v", g, cred.Groups)
		}
	}
}

func TestOnlyAUnixSocketHasCredentials(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, err := control.PeerCredentials(a); err == nil {
		t.Fatal("credentials of a pipe")
	}
}

func TestCallerReachesTheBackend(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, func(cfg *control.ServerConfig) { cfg.Credentials = as(0) })
	if _, err := c.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"}); err != nil {
		t.Fatal(err)
	}
	if calls := fake.Calls(); len(calls) != 1 || !strings.HasPrefix(calls[0], "Revoke uid=0 ") {
		t.Fatalf("calls %v", calls)
	}
}
