package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// policy asks about a policy of these lines, or applies it.
func (h *host) policy(mode, text string) (*control.PolicyResult, error) {
	return h.client.PolicyFile(h.t.Context(), &control.PolicyRequest{File: "p.toml", Text: text, Mode: mode})
}

func (h *host) applied(text string) *control.PolicyResult {
	h.t.Helper()
	res, err := h.policy(control.PolicyApply, text)
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

// notes are the grants in force, as lines "who what note".
func (h *host) notes() string {
	h.t.Helper()
	g, err := h.client.Grants(h.t.Context(), control.GrantsQuery{})
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, x := range g.Grants {
		if x.State == "active" || x.State == "future" {
			out = append(out, strings.TrimSpace(x.Who+" "+x.What+" "+x.Note))
		}
	}
	return strings.Join(out, "\n")
}

func accesses(list []control.Access) string {
	var out []string
	for _, a := range list {
		out = append(out, a.From+">"+a.Target)
	}
	return strings.Join(out, " ")
}

const policyOne = `
[[grant]]
who = ["tag:dev", "gpu1"]
what = "nas/wiki"
reason = "work"

[[grant]]
who = "any"
what = "tag:gpu/ollama"

[[test]]
who = "laptop"
allow = ["nas/wiki", "gpu1/ollama"]
deny = "nas/postgres"
`

// TestPolicyApply applies policies one after the other: each makes what it lacks, takes back its own and touches nobody else's.
func TestPolicyApply(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29871)
	nas.joined("laptop", "dev")
	nas.joined("gpu1", "gpu")
	nas.granted(control.GrantRequest{Who: "laptop", What: "gpu1/ssh", Note: "by hand"})

	diff, err := nas.policy(control.PolicyDiff, policyOne)
	if err != nil {
		t.Fatal(err)
	}
	if diff.Done || !diff.Changed || len(diff.Added) != 3 || diff.Added[1].Line != 2 || diff.Added[2].Line != 7 || diff.Asked != 3 || diff.FailedAll != 0 || len(diff.Plan) != 16 {
		t.Errorf("%+v", diff)
	}
	if got, want := accesses(diff.Gained), "laptop>nas/wiki gpu1>nas/wiki"; !strings.HasPrefix(got, want) || !strings.Contains(got, "laptop>gpu1/ollama") || !strings.Contains(got, "nas>gpu1/ollama") || diff.GainedAll != 4 || diff.LostAll != 0 {
		t.Errorf("gains %q", got)
	}
	if got := nas.notes(); got != "laptop gpu1/ssh by hand" {
		t.Fatalf("a diff wrote %q", got)
	}
	res := nas.applied(policyOne)
	if !res.Done || res.Plan != diff.Plan || res.Added[0].ID == "" || res.Spread == nil {
		t.Errorf("%+v", res)
	}
	want := "laptop gpu1/ssh by hand\ntag:dev nas/wiki policy:main work\ngpu1 nas/wiki policy:main work\nany tag:gpu/ollama policy:main"
	if got := nas.notes(); got != want {
		t.Fatalf("%q", got)
	}
	if !nas.audited(t, "grant.add") {
		t.Error("not in the audit log")
	}
	// Again: nothing. In another order and way of writing: nothing.
	again := `name = "main"
[[grant]]
who = "any"
what = "tag:gpu/ollama"
[[grant]]
who = "gpu1"
what = "nas/wiki"
reason = "work"
[[grant]]
who = "tag:dev"
what = ["nas/wiki"]
reason = "work"
`
	for _, text := range []string{policyOne, again} {
		if res := nas.applied(text); res.Done || res.Changed || res.Kept != 3 || nas.notes() != want {
			t.Fatalf("%+v\n%s", res, nas.notes())
		}
	}
	// Another policy owns others; its grants are no part of the first.
	nas.applied("name = \"ops\"\n[[grant]]\nwho = \"any\"\nwhat = \"nas/ntp\"\n")
	if res := nas.applied(policyOne); res.Changed {
		t.Fatalf("%+v", res)
	}
	// Less: the rest of its own goes, and what others allow is not lost.
	nas.granted(control.GrantRequest{Who: "gpu1", What: "nas/wiki"})
	less := "[[grant]]\nwho = \"any\"\nwhat = \"tag:gpu/ollama\"\n"
	diff, err = nas.policy(control.PolicyDiff, less)
	if err != nil || len(diff.Removed) != 2 || accesses(diff.Lost) != "laptop>nas/wiki" || diff.LostAll != 1 || diff.Kept != 1 {
		t.Fatalf("%+v, %v", diff, err)
	}
	nas.applied(less)
	if got, want := nas.notes(), "laptop gpu1/ssh by hand\nany tag:gpu/ollama policy:main\nany nas/ntp policy:ops\ngpu1 nas/wiki"; got != want {
		t.Fatalf("%q", got)
	}
	// A grant of the policy that was taken back by hand comes again.
	g, err := nas.client.Grants(t.Context(), control.GrantsQuery{What: "nas/ntp"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := nas.client.Ungrant(t.Context(), &control.UngrantRequest{ID: g.Grants[0].ID})
	if err != nil || len(u.Warnings) != 1 || u.Warnings[0].Code != "policy-owned" {
		t.Fatalf("%+v, %v", u, err)
	}
	if res := nas.applied("name = \"ops\"\n[[grant]]\nwho = \"any\"\nwhat = \"nas/ntp\"\n"); !res.Done || len(res.Added) != 1 {
		t.Fatalf("%+v", res)
	}
	// A mark cannot be had otherwise.
	if _, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "nas/x", Note: "policy:main"}); code(err) != control.Usage {
		t.Errorf("%v", err)
	}
}

// TestPolicyRefused: whatever keeps a policy from being applied, nothing is changed.
func TestPolicyRefused(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29872)
	nas.joined("laptop", "dev")
	nas.joined("gpu1", "gpu")
	way := "[[grant]]\nwho = \"laptop\"\nwhat = \"nas/ssh\"\n"
	nas.applied(way + "[[grant]]\nwho = \"laptop\"\nwhat = \"gpu1/ssh\"\n")
	before := nas.notes()
	big := strings.Builder{}
	for i := range 70 {
		fmt.Fprintf(&big, "[[grant]]\nwho = [\"laptop\", \"gpu1\", \"nas\"]\nwhat = [")
		for j := range 10 {
			fmt.Fprintf(&big, "\"s-%d-%d\", ", i, j)
		}
		big.WriteString("]\n")
	}
	for name, c := range map[string]struct {
		text string
		code control.Code
		want string
	}{
		"unknown machine": {way + "[[grant]]\nwho = [\"gpu1\", \"gpu9\"]\nwhat = \"nas/x\"\n", control.NotFound, "p.toml:5:16: "},
		"unknown on":      {way + "[[grant]]\nwho = \"gpu1\"\nwhat = \"gpu9/x\"\n", control.NotFound, "p.toml:6:8: "},
		"granted twice":   {way + way, control.Usage, "p.toml:6:8: laptop -> nas/ssh is granted twice, first in line 3"},
		"look-alike":      {way + "[[grant]]\nwho = \"lаptop\"\nwhat = \"nas/x\"\n", control.Usage, "p.toml:5:7: who: node: name not allowed"},
		"slashes":         {way + "[[grant]]\nwho = \"any\"\nwhat = \"nas/x/y\"\n", control.Usage, "p.toml:6:8: what: service: name not allowed"},
		"malformed":       {way + "[[grant]\n", control.Usage, "p.toml:4:"},
		"a test fails":    {way + "[[test]]\nwho = \"gpu1\"\nallow = \"nas/ssh\"\n", control.Failed, "nothing was changed: 1 of the policy's tests would not hold, the first in line 6: gpu1 -> nas/ssh must be allowed, and is denied: no grant matches; nearest the grant"},
		"a denial fails":  {way + "[[grant]]\nwho = \"any\"\nwhat = \"nas/x\"\n[[test]]\nwho = \"tag:dev\"\ndeny = \"nas/x\"\n", control.Failed, "nothing was changed: 1 of the policy's tests would not hold, the first in line 9: laptop -> nas/x must be denied, and is allowed by the grant of line 4"},
		"about nobody":    {way + "[[test]]\nwho = \"tag:none\"\nallow = \"nas/ssh\"\n", control.Failed, "nothing was changed: 1 of the policy's tests would not hold, the first in line 6: tag:none -> nas/ssh must be allowed, and there are no two such machines"},
		"issuers":         {"[[grant]]\nwho = \"laptop\"\nwhat = \"gpu1/ssh\"\n", control.Denied, "nothing was changed: nobody could use any service of nas after it"},
		"all":             {"", control.Denied, "nothing was changed: nobody could use any service of any machine after it"},
		"too many":        {big.String(), control.Usage, "p.toml:"},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := nas.policy(control.PolicyApply, c.text)
			if name == "a test fails" {
				c.want = strings.TrimSuffix(c.want, " the grant") // a kept grant is named by its id
			}
			if err == nil || code(err) != c.code || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v %+v, want %q", err, res, c.want)
			}
			if got := nas.notes(); got != before {
				t.Errorf("changed: %q", got)
			}
		})
	}
	// What was shown is not what there is any more.
	text := way + "[[grant]]\nwho = \"any\"\nwhat = \"nas/x\"\n"
	diff, err := nas.policy(control.PolicyDiff, text)
	if err != nil {
		t.Fatal(err)
	}
	nas.applied(way)
	if _, err := nas.client.PolicyFile(t.Context(), &control.PolicyRequest{File: "p.toml", Text: text, Mode: control.PolicyApply, Plan: diff.Plan}); code(err) != control.Failed || !strings.Contains(err.Error(), "others than when the change was shown") {
		t.Errorf("%v", err)
	}
	// Forced, the last way in goes.
	res, err := nas.client.PolicyFile(t.Context(), &control.PolicyRequest{File: "p.toml", Text: "", Mode: control.PolicyApply, Force: true})
	if err != nil || !res.Done || nas.notes() != "" || res.LockOut == "" {
		t.Fatalf("%+v, %v, %q", res, err, nas.notes())
	}
	// Nobody is locked out of what nobody could use.
	if res, err := nas.policy(control.PolicyApply, "# empty\n"); err != nil || res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	// What is over, and what nobody has, is told.
	res = nas.applied("[[grant]]\nwho = \"gone\"\nwhat = \"nas/x\"\nuntil = 2020-01-01T00:00:00Z\n[[grant]]\nwho = \"tag:none\"\nwhat = \"nas/x\"\n[[test]]\nwho = \"tag:none\"\ndeny = \"nas/y\"\n")
	var codes []string
	for _, w := range res.Warnings {
		codes = append(codes, w.Code)
	}
	if strings.Join(codes, " ") != "test-empty grant-over tag-of-nobody" || len(res.Added) != 1 {
		t.Errorf("%+v", res)
	}
}

// TestPolicyLarge applies a policy that takes many entries, and half of it after that.
func TestPolicyLarge(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29873)
	nas.joined("laptop", "dev")
	rules := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "[[grant]]\nwho = \"tag:dev\"\nwhat = \"nas/s-%d\"\nreason = \"%s\"\n", i, strings.Repeat("r", 128))
		}
		return b.String()
	}
	if res := nas.applied(rules(200)); len(res.Added) != 200 || res.GainedAll != 200 {
		t.Fatalf("%d added, %d gained", len(res.Added), res.GainedAll)
	}
	if res := nas.applied(rules(200)); res.Changed {
		t.Fatal("not idempotent")
	}
	if res := nas.applied(rules(100)); len(res.Removed) != 100 || res.LostAll != 100 || res.Kept != 100 {
		t.Fatalf("%d removed", len(res.Removed))
	}
	if got := strings.Count(nas.notes(), "\n") + 1; got != 100 {
		t.Errorf("%d grants", got)
	}
}

// TestRevokeDoesNotWaitForAPolicy revokes while a large policy is being applied: the revocation goes between two of its entries, and the
// apply, whose plan that has overtaken, stops and says so.
func TestRevokeDoesNotWaitForAPolicy(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29875)
	nas.joined("laptop", "dev")
	// An apply that is over before the revocation comes shows nothing: then once more.
	for turn := range 5 {
		name := fmt.Sprintf("guest%d", turn)
		nas.joined(name, "guest")
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "[[grant]]\nwho = \"tag:dev\"\nwhat = \"nas/s-%d-%d\"\n", turn, i)
		}
		before, err := nas.client.AuditLog(t.Context(), control.AuditQuery{Code: "grant.add", Last: true, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := nas.policy(control.PolicyApply, b.String())
			done <- err
		}()
		eventually(t, "the policy is being applied", 5*time.Second, func() bool {
			now, err := nas.client.AuditLog(t.Context(), control.AuditQuery{Code: "grant.add", Last: true, Limit: 1})
			return err == nil && len(now.Records) > 0 && (len(before.Records) == 0 || now.Records[0].Index > before.Records[0].Index)
		})
		if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: name}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			if !strings.Contains(err.Error(), "another change was made meanwhile") {
				t.Fatal(err)
			}
			// And again it does the rest.
			if res := nas.applied(b.String()); !res.Done {
				t.Fatal("not done")
			}
			return
		}
	}
	t.Fatal("each revocation waited for the policy")
}

// TestRefusedPolicyRemembersNoName: whom a name means is remembered when it is first used, and a policy that is refused has used none.
func TestRefusedPolicyRemembersNoName(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29876)
	nas.joined("laptop", "dev")
	remembered := func() bool {
		b, err := os.ReadFile(filepath.Join(nas.dir, "pins"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return bytes.Contains(b, []byte("laptop"))
	}
	grant := "[[grant]]\nwho = \"laptop\"\nwhat = \"nas/wiki\"\n"
	if _, err := nas.policy(control.PolicyApply, grant+"[[test]]\nwho = \"laptop\"\ndeny = \"nas/wiki\"\n"); err == nil {
		t.Fatal("applied against its own test")
	}
	if remembered() {
		t.Error("a refused policy is remembered for its names")
	}
	nas.applied(grant)
	if !remembered() {
		t.Error("the name is not remembered, though it was used")
	}
}

// TestPolicyWarningsAreBounded asks about more machines that do not exist than an answer tells of.
func TestPolicyWarningsAreBounded(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29877)
	list := func(form string) string {
		var words []string
		for i := range 30 {
			words = append(words, fmt.Sprintf(form, i))
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	res, err := nas.policy(control.PolicyTest, "[[test]]\nwho = "+list(`"tag:t%d"`)+"\ndeny = "+list(`"tag:u%d/s"`)+"\n")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(res.Warnings); n != control.MaxPolicyList {
		t.Errorf("%d warnings of 900, want %d", n, control.MaxPolicyList)
	}
}
