package control_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

// raw sends a request as bytes and returns status and body.
func raw(t *testing.T, path, request string) (int, string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// What the server did not read of an oversized request makes the socket end in a reset, after the answer.
	body, err := io.ReadAll(resp.Body)
	if err != nil && resp.StatusCode == http.StatusOK {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func postRaw(t *testing.T, path, route, contentType, body string) (int, string) {
	return raw(t, path, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", route, contentType, len(body), body))
}

func TestBodiesAreStrict(t *testing.T) {
	fake := controltest.New()
	_, path, _ := start(t, fake, nil)
	good := `{"node":"laptop"}`
	if status, body := postRaw(t, path, "/v1/revoke", "application/json", good); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	n := len(fake.Calls())
	for name, body := range map[string]string{
		"unknown field": `{"node":"laptop","dry_rum":true}`,
		"two values":    good + good,
		"trailing":      good + "x",
		"no JSON":       "node=laptop",
		"wrong type":    `{"node":["laptop"]}`,
		"empty":         "",
		"truncated":     `{"node":"lap`,
		"null":          "null",
	} {
		if status, answer := postRaw(t, path, "/v1/revoke", "application/json", body); status != 400 || !strings.Contains(answer, "meshkey.error/1") {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if status, _ := postRaw(t, path, "/v1/revoke", "application/x-www-form-urlencoded", good); status != 400 {
		t.Error("a body of another type was accepted")
	}
	if calls := fake.Calls(); len(calls) != n {
		t.Errorf("a bad request reached the daemon: %v", calls[n:])
	}
}

func TestBodyIsBounded(t *testing.T) {
	fake := controltest.New()
	_, path, _ := start(t, fake, nil)
	// Valid JSON all along: white space before the object.
	body := strings.Repeat(" ", 96<<10) + `{"node":"laptop"}`
	if status, answer := postRaw(t, path, "/v1/revoke", "application/json", body); status != 400 || !strings.Contains(answer, "longer than") {
		t.Errorf("%d %s", status, answer)
	}
	if calls := fake.Calls(); len(calls) != 0 {
		t.Errorf("an oversized request reached the daemon: %v", calls)
	}
}

// A policy is the one long request: its own bound holds, whatever its text becomes in JSON.
func TestPolicyIsBounded(t *testing.T) {
	fake := controltest.New()
	c, path, _ := start(t, fake, nil)
	if _, err := c.PolicyFile(t.Context(), &control.PolicyRequest{Mode: control.PolicyDiff, Text: strings.Repeat("\x01", control.MaxPolicyText)}); err != nil {
		t.Errorf("the longest: %v", err)
	}
	n := len(fake.Calls())
	body := strings.Repeat(" ", 6*control.MaxPolicyText+96<<10) + `{"mode":"diff"}`
	if status, answer := postRaw(t, path, "/v1/policy", "application/json", body); status != 400 || !strings.Contains(answer, "longer than") {
		t.Errorf("%d %s", status, answer)
	}
	if calls := fake.Calls(); len(calls) != n {
		t.Error("an oversized request reached the daemon")
	}
}

func TestHeaderIsBounded(t *testing.T) {
	_, path, _ := start(t, controltest.New(), nil)
	status, _ := raw(t, path, "GET /v1/version HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 32<<10)+"\r\n\r\n")
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", status)
	}
}

func TestUnknownRoutesAndQueriesAreRefused(t *testing.T) {
	_, path, _ := start(t, controltest.New(), nil)
	for _, request := range []string{
		"GET /v1/nothing", "GET /v2/status", "GET /", "DELETE /v1/status", "POST /v1/status", "GET /v1/revoke", "GET /v1/connect",
		"GET /v1/grants?whom=x", "GET /v1/grants?who=a&who=b", "GET /v1/grants?who=" + strings.Repeat("x", 300), "GET /v1/audit/log?limit=1001",
		"GET /v1/audit/log?since=yesterday", "GET /v1/audit/entry?index=-1", "GET /v1/ready?wait_ms=300001", "GET /v1/decision?target=x", "GET /v1/grants?%zz",
	} {
		status, body := raw(t, path, request+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if status != 400 || !strings.Contains(body, `"meshkey.error/1"`) {
			t.Errorf("%s: %d %s", request, status, body)
		}
	}
}

func TestRequestsAreChecked(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, nil)
	ctx := t.Context()
	long := strings.Repeat("x", 300)
	many := make([]string, 65)
	for i := range many {
		many[i] = "any"
	}
	bad := map[string]func() error{
		"expose: name": func() error { _, err := c.Expose(ctx, &control.ExposeRequest{Name: "Web", Target: "80"}); return err },
		"expose: target": func() error {
			_, err := c.Expose(ctx, &control.ExposeRequest{Name: "web", Target: "0.0.0.0:80"})
			return err
		},
		"expose: allow": func() error {
			_, err := c.Expose(ctx, &control.ExposeRequest{Name: "web", Target: "80", Allow: []string{"tag:"}})
			return err
		},
		"expose: too many": func() error {
			_, err := c.Expose(ctx, &control.ExposeRequest{Name: "web", Target: "80", Allow: many})
			return err
		},
		"unexpose":    func() error { _, err := c.Unexpose(ctx, &control.UnexposeRequest{}); return err },
		"grant: who":  func() error { _, err := c.Grant(ctx, &control.GrantRequest{Who: "a b", What: "web"}); return err },
		"grant: what": func() error { _, err := c.Grant(ctx, &control.GrantRequest{Who: "any", What: "a/b/c"}); return err },
		"grant: note": func() error {
			_, err := c.Grant(ctx, &control.GrantRequest{Who: "any", What: "web", Note: long})
			return err
		},
		"grant: note lines": func() error {
			_, err := c.Grant(ctx, &control.GrantRequest{Who: "any", What: "web", Note: "a\nb"})
			return err
		},
		"grant: window": func() error {
			_, err := c.Grant(ctx, &control.GrantRequest{Who: "any", What: "web", NotBefore: time.Unix(20, 0), NotAfter: time.Unix(10, 0)})
			return err
		},
		"grant: old": func() error {
			_, err := c.Grant(ctx, &control.GrantRequest{Who: "any", What: "web", NotAfter: time.Unix(-5, 0)})
			return err
		},
		"grant: wait": func() error {
			_, err := c.Grant(ctx, &control.GrantRequest{Who: "any", What: "web", WaitMS: 1 << 40})
			return err
		},
		"ungrant: none": func() error { _, err := c.Ungrant(ctx, &control.UngrantRequest{}); return err },
		"policy: mode":  func() error { _, err := c.PolicyFile(ctx, &control.PolicyRequest{Mode: "make"}); return err },
		"policy: name": func() error {
			_, err := c.PolicyFile(ctx, &control.PolicyRequest{File: "a\nb", Mode: control.PolicyDiff})
			return err
		},
		"policy: wait": func() error {
			_, err := c.PolicyFile(ctx, &control.PolicyRequest{Mode: control.PolicyApply, WaitMS: -1})
			return err
		},
		"policy: plan": func() error {
			_, err := c.PolicyFile(ctx, &control.PolicyRequest{Mode: control.PolicyApply, Plan: strings.Repeat("0", 300)})
			return err
		},
		"policy: long": func() error {
			_, err := c.PolicyFile(ctx, &control.PolicyRequest{Mode: control.PolicyDiff, Text: strings.Repeat("#", control.MaxPolicyText+1)})
			return err
		},
		"can: tag":   func() error { _, err := c.Decide(ctx, control.DecideRequest{From: "tag:x", Target: "a/b"}); return err },
		"can: slash": func() error { _, err := c.Decide(ctx, control.DecideRequest{From: "a/b", Target: "a/b"}); return err },
		"can: at": func() error {
			_, err := c.Decide(ctx, control.DecideRequest{From: "a", Target: "a/b", At: time.Unix(-1, 0)})
			return err
		},
		"ungrant: wait": func() error { _, err := c.Ungrant(ctx, &control.UngrantRequest{ID: "g-1", WaitMS: -1}); return err },
		"revoke: node":  func() error { _, err := c.Revoke(ctx, &control.RevokeRequest{Node: "tag:x"}); return err },
		"revoke: id": func() error {
			_, err := c.Revoke(ctx, &control.RevokeRequest{Node: strings.Repeat("7QK4-M2XD-C.", 7)})
			return err
		},
		"revoke: reason": func() error { _, err := c.Revoke(ctx, &control.RevokeRequest{Node: "a", Reason: long}); return err },
		"invite: name":   func() error { _, err := c.CreateInvite(ctx, &control.InviteRequest{}); return err },
		"invite: tag": func() error {
			_, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", Tags: []string{"A"}})
			return err
		},
		"invite: life": func() error {
			_, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", TTLMS: 1 << 40})
			return err
		},
		"invite: uses":  func() error { _, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", Uses: 101}); return err },
		"invite: guest": func() error { _, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", GuestMS: 1}); return err },
		"invite: two ends": func() error {
			_, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", GuestMS: 60000, RenewUntil: time.Now()})
			return err
		},
		"invite: no end": func() error {
			_, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", RenewUntil: time.Unix(-5, 0)})
			return err
		},
		"invite: service": func() error {
			_, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", Allow: []string{"no service"}})
			return err
		},
		"invite: services": func() error {
			_, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", Allow: make([]string, 17)})
			return err
		},
		"approve: nothing": func() error { _, err := c.Approve(ctx, &control.ApproveRequest{}); return err },
		"approve: two": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{ID: controltest.RequestID, File: []byte{1}, Words: make([]string, 3)})
			return err
		},
		"approve: id": func() error { _, err := c.Approve(ctx, &control.ApproveRequest{ID: "A1b2c3d4e5f60718"}); return err },
		"approve: name": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{ID: controltest.RequestID, Name: "A B"})
			return err
		},
		"approve: tag": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{ID: controltest.RequestID, Tags: []string{"A B"}})
			return err
		},
		"approve: tags": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{ID: controltest.RequestID, Tags: []string{"a"}, NoTags: true})
			return err
		},
		"approve: words": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{ID: controltest.RequestID, Words: []string{"a"}})
			return err
		},
		"approve: service": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{ID: controltest.RequestID, Allow: []string{"/"}})
			return err
		},
		"approve: no words": func() error { _, err := c.Approve(ctx, &control.ApproveRequest{File: []byte{1}}); return err },
		"approve: file": func() error {
			_, err := c.Approve(ctx, &control.ApproveRequest{File: make([]byte, 2049), Words: make([]string, 3)})
			return err
		},
		"deny: id": func() error { _, err := c.Deny(ctx, &control.DenyRequest{ID: "x"}); return err },
		"deny: reason": func() error {
			_, err := c.Deny(ctx, &control.DenyRequest{ID: controltest.RequestID, Reason: "a\nb"})
			return err
		},
		"invite rm":       func() error { return c.RemoveInvite(ctx, "zz") },
		"connect: target": func() error { return c.Connect(ctx, &control.ConnectRequest{Target: "web"}, nil) },
		"connect: listen": func() error { return c.Connect(ctx, &control.ConnectRequest{Target: "a/b", Listen: "0.0.0.0:80"}, nil) },
		"connect: uids": func() error {
			return c.Connect(ctx, &control.ConnectRequest{Target: "a/b", AllowUIDs: make([]uint32, 65)}, nil)
		},
		"stream: target":     func() error { _, err := c.Stream(ctx, &control.ConnectRequest{Target: "a/B"}); return err },
		"decision: target":   func() error { _, err := c.Decide(ctx, control.DecideRequest{Target: "x"}); return err },
		"audit log: filter":  func() error { _, err := c.AuditLog(ctx, control.AuditQuery{Actor: long}); return err },
		"stream: no upgrade": func() error { return statusError(t, c) },
	}
	for name, call := range bad {
		if e := control.AsError(call()); e == nil || e.Code != control.Usage {
			t.Errorf("%s: %v", name, e)
		}
	}
	if calls := fake.Calls(); len(calls) != 0 {
		t.Errorf("a bad request reached the daemon: %v", calls)
	}
	if _, err := c.Expose(ctx, &control.ExposeRequest{Name: "web", Target: "80", Allow: []string{"tag:a", "any", "nas"}}); err != nil {
		t.Error(err)
	}
	if calls := fake.Calls(); len(calls) != 1 || !strings.Contains(calls[0], "127.0.0.1:80") {
		t.Errorf("the target was not made whole: %v", calls)
	}
	if _, err := c.CreateInvite(ctx, &control.InviteRequest{Name: "a", Tags: []string{"b", "a", "b"}, TTLMS: 1000, Uses: 1}); err != nil {
		t.Error(err)
	}
	if calls := fake.Calls(); !strings.Contains(calls[1], "[a b]") {
		t.Errorf("tags were not put in order: %v", calls[1])
	}
}

// statusError asks for a stream without an upgrade.
func statusError(t *testing.T, _ *control.Client) error {
	_, path, _ := start(t, controltest.New(), nil)
	_, body := postRaw(t, path, "/v1/stream", "application/json", `{"target":"gpu1/ollama"}`)
	var doc control.ErrorDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Error
}

func TestErrorsTravelWhole(t *testing.T) {
	fake := controltest.New()
	d := control.Denial{From: "laptop", Target: "gpu1/postgres", Reason: "no grant matches", Near: "g-09 tag:dba -> */postgres", Audit: "gpu1#18211", Command: "meshkey grant laptop gpu1/postgres --for 2h"}
	fake.Fail = map[string]error{
		"Grant":   control.Refuse(d),
		"Ungrant": control.Errorf(control.NotFound, "meshkey grants", "no grant %s", "g-7"),
		"Revoke":  errors.New("disk full"),
		"Expose":  fmt.Errorf("wrapped: %w", control.Errorf(control.InUse, "", "in use")),
	}
	c, _, _ := start(t, fake, nil)
	_, err := c.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "web"})
	e := wantCode(t, "grant", err, control.Denied)
	if e.Denial == nil || *e.Denial != d || e.Next != d.Command ||
		e.Message != "denied: laptop may not use gpu1/postgres (no grant matches; nearest g-09 tag:dba -> */postgres)" {
		t.Errorf("%+v %+v", e, e.Denial)
	}
	_, err = c.Ungrant(t.Context(), &control.UngrantRequest{ID: "g-7"})
	if e := wantCode(t, "ungrant", err, control.NotFound); e.Message != "no grant g-7" || e.Next != "meshkey grants" {
		t.Errorf("%+v", e)
	}
	_, err = c.Revoke(t.Context(), &control.RevokeRequest{Node: "a"})
	if e := wantCode(t, "revoke", err, control.Failed); e.Message != "disk full" {
		t.Errorf("%+v", e)
	}
	_, err = c.Expose(t.Context(), &control.ExposeRequest{Name: "a", Target: "80"})
	wantCode(t, "expose", err, control.InUse)
}

type panicking struct{ control.Viewer }

func TestPanicIsOneRequestsError(t *testing.T) {
	c, _, _ := start(t, controltest.New(), func(cfg *control.ServerConfig) {
		v := cfg.Backend.View
		cfg.Backend.View = panicking{v}
	})
	for range 2 {
		_, err := c.Peers(t.Context())
		if e := wantCode(t, "peers", err, control.Failed); e.Message != "the daemon failed on this request; its log tells more" {
			t.Errorf("the client is told %q", e.Message)
		}
	}
	if _, err := c.Services(t.Context()); err != nil {
		t.Fatal("after a panic:", err)
	}
}

func (p panicking) Peers(ctx ctxT) (*control.Peers, error) {
	var none *controltest.Fake
	return none.Peers(ctx)
}

func TestReadyWaitsAndGivesUp(t *testing.T) {
	fake := controltest.New()
	fake.NotReady = true
	c, _, _ := start(t, fake, nil)
	err := c.WaitReady(t.Context(), 30*time.Millisecond)
	wantCode(t, "ready", err, control.Unreachable)
}

func TestShutdownReachesTheDaemon(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, nil)
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, "shutdown", fake.Stopped())
}

func TestEveryDocumentHasItsSchema(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range []control.Document{
		&control.Status{}, &control.Peers{}, &control.Services{}, &control.ExposeResult{}, &control.UnexposeResult{}, &control.Grants{}, &control.GrantResult{},
		&control.UngrantResult{}, &control.RevokeResult{}, &control.Decision{}, &control.InviteResult{}, &control.Invites{}, &control.AuditPage{},
		&control.AuditEntry{}, &control.AuditReport{}, &control.Version{}, &control.Empty{}, &control.ConnectEvent{}, &control.ErrorDocument{},
		&control.Doctor{}, &control.ResetTimeFloorResult{}, &control.RepinResult{},
	} {
		var b bytes.Buffer
		if err := control.WriteDocument(&b, d); err != nil {
			t.Fatal(err)
		}
		name := d.SchemaName()
		if !strings.HasPrefix(b.String(), `{"schema":"`+name+`"`) || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%T: %s", d, b.String())
		}
		if seen[name] || !strings.HasPrefix(name, "meshkey.") || !strings.HasSuffix(name, "/1") {
			t.Errorf("%T: schema %q", d, name)
		}
		seen[name] = true
	}
}

// foreign answers every request with fixed bytes.
func foreign(t *testing.T, status int, body string) *control.Client {
	t.Helper()
	path := socketPath(t)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return control.NewClient(path)
}

func TestClientRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, c := range map[string]*control.Client{
		"another version": foreign(t, 200, `{"schema":"meshkey.status/2","node":{}}`),
		"no schema":       foreign(t, 200, `{}`),
		"no JSON":         foreign(t, 200, `hello`),
		"wrong type":      foreign(t, 200, `{"schema":"meshkey.status/1","node":7}`),
		"error, no text":  foreign(t, 500, `{"schema":"meshkey.error/1","error":{"code":1}}`),
		"error, done":     foreign(t, 500, `{"schema":"meshkey.error/1","error":{"code":0,"message":"x"}}`),
		"error, code":     foreign(t, 500, `{"schema":"meshkey.error/1","error":{"code":99,"message":"x"}}`),
		"redirect":        foreign(t, 302, ``),
	} {
		st, err := c.Status(t.Context())
		if e := control.AsError(err); e == nil || e.Code != control.Failed || st != nil {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if _, err := foreign(t, 200, `{"schema":"meshkey.status/1","later":[1,2]}`).Status(t.Context()); err != nil {
		t.Error("a field added later:", err)
	}
}

func TestClientBoundsTheAnswer(t *testing.T) {
	c := foreign(t, 200, strings.Repeat(" ", 32<<20)+`{"schema":"meshkey.status/1"}`)
	_, err := c.Status(t.Context())
	if e := wantCode(t, "status", err, control.Failed); !strings.Contains(e.Message, "longer") {
		t.Error(e.Message)
	}
}
