package daemon_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// ageIdentity writes an age identity, and returns its file and recipient.
func ageIdentity(t *testing.T) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "id")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "id.txt")
	if err := os.WriteFile(file, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, id.Recipient().String()
}

// holder is somebody with the root key of a mesh.
type holder struct {
	t   *testing.T
	key *keys.SigningKey
}

// foundWithRoot starts a mesh whose root key opens without a passphrase.
func foundWithRoot(t *testing.T, port uint16) (*host, holder) {
	t.Helper()
	id, to := ageIdentity(t)
	h := newHost(t, "nas", port)
	res, err := daemon.Init(t.Context(), daemon.InitOptions{StateDir: h.dir, Mesh: "homelab", Name: "nas", RootRecipients: []string{to}})
	if err != nil {
		t.Fatal(err)
	}
	k, err := daemon.OpenRootKey(daemon.RootKeyOptions{File: res.RootFile, Mesh: res.Mesh, Keys: daemon.KeyOptions{Identities: []string{id}}})
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	return h, holder{t, k}
}

func (h *host) enrolled(name string, by *host) *host {
	h.t.Helper()
	inv, err := by.client.CreateInvite(h.t.Context(), &control.InviteRequest{Name: name})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.enrolledBy(name, inv)
}

func (h *host) enrolledBy(name string, inv *control.InviteResult) *host {
	h.t.Helper()
	parsed, err := identity.ParseInvite(inv.Text)
	if err != nil {
		h.t.Fatal(err)
	}
	n := newHost(h.t, name, h.port)
	if _, err := daemon.Enroll(h.t.Context(), daemon.EnrollOptions{StateDir: n.dir, Invite: parsed}); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// sign proposes a change at a host and signs it.
func (r holder) sign(at *host, change func(*trust.Root) error) []byte {
	r.t.Helper()
	doc, err := at.client.RootChain(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	st, err := trust.ParseChain([]byte(doc.Text))
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := st.Propose(time.Now().Unix(), change)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := p.Sign(r.key); err != nil {
		r.t.Fatal(err)
	}
	raw, err := p.Root()
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

func (h *host) accept(raw []byte) (*control.AcceptRootResult, error) {
	return h.client.AcceptRoot(h.t.Context(), &control.AcceptRootRequest{Root: raw})
}

func addIssuer(k *control.PublicKey) func(*trust.Root) error {
	return func(r *trust.Root) error {
		id, err := keys.ParseNodeID(k.Key)
		if err != nil {
			return err
		}
		return r.AddIssuer(trust.Issuer{
			ID: id.Public(), Name: k.Name, Caps: trust.CapEnroll | trust.CapRevoke | trust.CapGrant, Tags: []string{"*"},
			MaxTTL: 365 * 24 * 3600, NotAfter: time.Now().Unix() + 365*24*3600,
		})
	}
}

func (h *host) root() *control.Root {
	h.t.Helper()
	r, err := h.client.Root(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *host) issuer(name string) *control.Issuer {
	h.t.Helper()
	r := h.root()
	i := slices.IndexFunc(r.Issuers, func(i control.Issuer) bool { return i.Name == name })
	if i < 0 {
		h.t.Fatalf("no issuer %s", name)
	}
	return &r.Issuers[i]
}

// An issuer's key that is made while the daemon runs waits for the root, and then enrols, grants and revokes without a restart.
func TestIssuerKeyMadeWhileRunning(t *testing.T) {
	t.Parallel()
	nas, root := foundWithRoot(t, 29990)
	pi := nas.enrolled("pi4", nas)
	pi.start()
	if _, err := nas.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "nas"}); code(err) != control.Failed {
		t.Fatal("a second key for an issuer that works:", err)
	}
	if _, err := pi.client.CreateInvite(t.Context(), &control.InviteRequest{Name: "gpu1"}); code(err) != control.Denied {
		t.Fatal(err)
	}
	k, err := pi.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "pi4"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := pi.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "pi4"})
	if err != nil || again.Line != k.Line || !again.Existed {
		t.Fatal("the line is not told again:", again, err)
	}
	// Not named yet: nothing of it counts, and status says what to do.
	for _, err := range []error{
		second(pi.client.CreateInvite(t.Context(), &control.InviteRequest{Name: "gpu1"})),
		second(pi.client.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "web"})),
		second(pi.client.Revoke(t.Context(), &control.RevokeRequest{Node: "nas"})),
	} {
		if err == nil {
			t.Error("an unnamed issuer was listened to")
		}
	}
	if r := pi.root(); !slices.ContainsFunc(r.Warnings, func(w control.Warning) bool { return w.Code == "issuer-unnamed" }) {
		t.Errorf("%+v", r.Warnings)
	}
	if _, err := nas.accept(root.sign(nas, addIssuer(k))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi4 has the root", patience, func() bool { return pi.root().Version == 2 })
	if !pi.issuer("pi4").Here {
		t.Error("it does not know that it is one")
	}
	gpu := pi.enrolled("gpu1", pi)
	gpu.start()
	if _, err := pi.client.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "web"}); err != nil {
		t.Fatal(err)
	}
	if got := pi.issuer("pi4").Entries; got != 2 {
		t.Errorf("%d entries", got)
	}
	// And after a restart.
	pi.stop()
	pi.start()
	if !pi.issuer("pi4").Here {
		t.Error("forgotten")
	}
	// Cut off, it makes a new key; the old one is kept aside.
	r := root.sign(nas, func(r *trust.Root) error {
		is, err := r.FindIssuer("pi4")
		if err != nil {
			return err
		}
		hash, err := hex.DecodeString(pi.cut("pi4").Cutoff.Hash)
		return errors.Join(err, r.CutIssuer(is.ID, trust.Cutoff{Seq: 2, Hash: keys.Hash(hash)}, true, r.GroupIssuer))
	})
	if _, err := nas.accept(r); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi4 is cut off", patience, func() bool { return pi.root().Version == 3 })
	if _, err := pi.client.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "web"}); err == nil {
		t.Error("an issuer that is cut off grants")
	}
	next, err := pi.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "pi4"})
	if err != nil || next.Key == k.Key {
		t.Fatal(next, err)
	}
	list, err := daemon.ListKeys(pi.dir, daemon.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range list {
		if f.Kind == keys.KindIssuer {
			found = append(found, filepath.Base(f.File)+" "+keys.NodeID(f.Key).Compact())
		}
	}
	if want := []string{"issuer-old-1.age " + k.Key, "issuer.age " + next.Key}; !slices.Equal(found, want) {
		t.Errorf("%v, want %v", found, want)
	}
}

func second[T any](_ T, err error) error { return err }

func (h *host) cut(name string) *control.CutIssuerResult {
	h.t.Helper()
	r, err := h.client.CutIssuer(h.t.Context(), &control.CutIssuerRequest{Issuer: name, DryRun: true, NoRepeat: true})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// A cutoff lists what it takes back, and another issuer repeats the removals among it before there is a root.
func TestCutoffRepeatsRemovals(t *testing.T) {
	t.Parallel()
	nas, root := foundWithRoot(t, 29989)
	pi := nas.enrolled("pi4", nas)
	pi.start()
	k, err := pi.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "pi4"})
	if err != nil {
		t.Fatal(err)
	}
	nas.enrolled("gpu1", nas)
	nas.enrolled("laptop", nas)
	g, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "pi4", What: "web"})
	if err != nil {
		t.Fatal(err)
	}
	at := nas.issuer("nas").Entries
	for _, err := range []error{
		second(nas.client.Ungrant(t.Context(), &control.UngrantRequest{ID: g.Grant.ID})),
		second(nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "gpu1"})),
		second(nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"})),
		second(nas.client.Grant(t.Context(), &control.GrantRequest{Who: "any", What: "db"})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "pi4 has them", patience, func() bool { return pi.issuer("nas").Entries == at+4 })
	cut := &control.CutIssuerRequest{Issuer: "nas", At: &at}
	// A host that is no other issuer cannot repeat anything, and says so instead of losing it.
	for _, h := range []*host{nas, pi} {
		if _, err := h.client.CutIssuer(t.Context(), cut); code(err) != control.Denied {
			t.Fatalf("%s: %v", h.name, err)
		}
	}
	if _, err := nas.accept(root.sign(nas, addIssuer(k))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi4 is an issuer", patience, func() bool { return pi.root().Version == 2 })
	far := at + 100
	if _, err := pi.client.CutIssuer(t.Context(), &control.CutIssuerRequest{Issuer: "nas", At: &far}); code(err) != control.NotFound {
		t.Fatal(err)
	}
	dry := *cut
	dry.DryRun = true
	would, err := pi.client.CutIssuer(t.Context(), &dry)
	if err != nil {
		t.Fatal(err)
	}
	if len(would.Voided.Removals) != 3 || len(would.Voided.Grants) != 1 || len(would.Voided.Members) != 0 || would.Repeated != 0 || would.Here != k.Key {
		t.Fatalf("%+v", would)
	}
	if pi.issuer("pi4").Entries != 0 {
		t.Fatal("a dry run wrote an entry")
	}
	// The thief's own revocation, of laptop, is left out.
	var laptop string
	for _, r := range would.Voided.Removals {
		if strings.HasPrefix(r.Text, "the revocation of ") {
			laptop = r.ID
		}
	}
	real := *cut
	real.Drop = []string{laptop}
	done, err := pi.client.CutIssuer(t.Context(), &real)
	if err != nil || done.Repeated != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	// Each is in the audit log, as what it is.
	log, err := pi.client.AuditLog(t.Context(), control.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	repeated := map[string]int{}
	for _, r := range log.Records {
		if strings.HasPrefix(r.Reason, "repeated before the cutoff") {
			repeated[r.Code]++
		}
	}
	if repeated["node.revoke"] != 1 || repeated["grant.remove"] != 1 {
		t.Errorf("recorded %v", repeated)
	}
	left, err := pi.client.CutIssuer(t.Context(), &dry)
	if err != nil || len(left.Voided.Removals) != 1 || left.Voided.Removals[0].ID != laptop {
		t.Fatalf("%+v %v", left, err)
	}
	id, err := keys.ParseNodeID(done.Key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := hex.DecodeString(done.Cutoff.Hash)
	if err != nil {
		t.Fatal(err)
	}
	res, err := pi.accept(root.sign(pi, func(r *trust.Root) error {
		pid, _ := keys.ParseNodeID(k.Key)
		return r.CutIssuer(id.Public(), trust.Cutoff{Seq: at, Hash: keys.Hash(hash)}, false, pid.Public())
	}))
	if err != nil || len(res.Voided.Removals) != 1 || len(res.Voided.Grants) != 1 || !slices.ContainsFunc(res.Warnings, func(w control.Warning) bool { return w.Code == "removal-undone" }) {
		t.Fatalf("%+v %v", res, err)
	}
	grants, err := pi.client.Grants(t.Context(), control.GrantsQuery{})
	if err != nil || len(grants.Grants) != 0 {
		t.Fatalf("%+v %v", grants, err)
	}
	peers, err := pi.client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state := map[string]string{}
	for _, p := range peers.Peers {
		state[p.ID] = p.State
	}
	for _, r := range would.Voided.Removals {
		if s, ok := state[r.ID]; ok && (s == "revoked") != (r.ID != laptop) {
			t.Errorf("%s is %s", r.ID, s)
		}
	}
	if _, err := pi.client.CutIssuer(t.Context(), cut); code(err) != control.Failed {
		t.Fatal("cut off twice at one place:", err)
	}
}

// What an operator hands over by mistake never becomes a fork of the mesh, and what does not verify changes nothing.
func TestAcceptRootRefusals(t *testing.T) {
	t.Parallel()
	nas, root := foundWithRoot(t, 29988)
	extend := func(by int64) func(*trust.Root) error {
		return func(r *trust.Root) error { r.Issuers[0].NotAfter += by; return nil }
	}
	first, other := root.sign(nas, extend(1)), root.sign(nas, extend(2))
	stranger, err := keys.SigningKeyFromSeed(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := foundWithRoot(t, 29987)
	for name, bad := range map[string][]byte{
		"garbage":  []byte("garbage"),
		"cut":      first[:len(first)-1],
		"resigned": resigned(t, first, stranger),
	} {
		if _, err := nas.accept(bad); code(err) != control.Unverified {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := foreign.accept(first); code(err) != control.Unverified {
		t.Error(err)
	}
	records := func() int {
		p, err := nas.client.AuditLog(t.Context(), control.AuditQuery{Code: "root.accept"})
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Records)
	}
	if nas.root().Version != 1 || records() != 0 {
		t.Fatal("something was taken")
	}
	if _, err := nas.accept(first); err != nil {
		t.Fatal(err)
	}
	if _, err := nas.accept(other); code(err) != control.Unverified {
		t.Error("a root beside the one that holds:", err)
	}
	if _, err := nas.accept(first); code(err) != control.Failed {
		t.Error(err)
	}
	r := nas.root()
	if r.Version != 2 || len(r.Pending) != 0 || len(r.Warnings) != 0 {
		t.Fatalf("%+v", r)
	}
	if records() != 1 {
		t.Error("not recorded once")
	}
	if _, err := nas.client.AcceptRoot(t.Context(), &control.AcceptRootRequest{Hash: r.Hash}); code(err) != control.NotFound {
		t.Error(err)
	}
	// It is durable.
	nas.stop()
	nas.start()
	if nas.root().Version != 2 {
		t.Error("forgotten")
	}
}

// resigned is a root signed by another key.
func resigned(t *testing.T, raw []byte, k *keys.SigningKey) []byte {
	t.Helper()
	e, err := identity.ParseEnvelope(raw, trust.MaxRoot)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Seal(keys.LabelRoot, keys.MeshID{}, e.Payload, k).Encode()
}

// The daemon's own keys can be sealed to recipients; what would never start is refused before there is a mesh.
func TestKeyOptions(t *testing.T) {
	t.Parallel()
	id, to := ageIdentity(t)
	_, elsewhere := ageIdentity(t)
	init := func(o daemon.KeyOptions) (string, error) {
		dir := filepath.Join(t.TempDir(), "state")
		_, err := daemon.Init(t.Context(), daemon.InitOptions{StateDir: dir, Mesh: "homelab", Name: "nas", RootRecipients: []string{to}, Keys: o})
		return dir, err
	}
	dir, err := init(daemon.KeyOptions{Recipients: []string{elsewhere}})
	if err == nil || !strings.Contains(err.Error(), "keys.identity") {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); err == nil {
		t.Fatal("a mesh whose daemon never starts")
	}
	if _, err := init(daemon.KeyOptions{Identities: []string{filepath.Join(dir, "none.txt")}}); err == nil {
		t.Fatal("a missing identity file")
	}
	for name, o := range map[string]daemon.KeyOptions{
		"recipients and identity": {Recipients: []string{to, elsewhere}, Identities: []string{id}},
		"credential":              {Credential: id},
	} {
		dir, err := init(o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "identity.txt")); err == nil {
			t.Errorf("%s: an identity beside the keys", name)
		}
		if err := tryRun(t, dir); !errors.Is(err, keys.ErrLocked) {
			t.Errorf("%s: without them: %v", name, err)
		}
		h := &host{t: t, name: "nas", dir: dir, port: 29986, keys: o}
		h.start()
		h.stop()
	}
	// A credential that is not there is none: the same unit starts with and without it.
	if dir, err = init(daemon.KeyOptions{Credential: filepath.Join(t.TempDir(), "none")}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "identity.txt")); err != nil {
		t.Error(err)
	}
}

func TestResealKeys(t *testing.T) {
	t.Parallel()
	id, to := ageIdentity(t)
	h := newHost(t, "nas", 29985)
	if _, err := daemon.Init(t.Context(), daemon.InitOptions{StateDir: h.dir, Mesh: "homelab", Name: "nas", RootRecipients: []string{to}}); err != nil {
		t.Fatal(err)
	}
	opts := daemon.KeyOptions{Identities: []string{id}}
	reseal := func(key, to string, o daemon.KeyOptions) error {
		_, err := daemon.Reseal(daemon.ResealOptions{StateDir: h.dir, Key: key, To: []string{to}, Keys: o})
		return err
	}
	h.start()
	if err := reseal("node", to, opts); !errors.Is(err, durable.ErrLocked) {
		t.Fatal("while the daemon runs:", err)
	}
	if err := reseal("root", to, opts); err != nil {
		t.Fatal("no daemon needs the root key:", err)
	}
	h.stop()
	if err := reseal("node", to, daemon.KeyOptions{}); !errors.Is(err, keys.ErrLocked) {
		t.Fatal("a node key its daemon could not open:", err)
	}
	if err := reseal("other", to, opts); err == nil {
		t.Fatal("of what?")
	}
	for _, key := range []string{"node", "issuer", "group"} {
		if err := reseal(key, to, opts); err != nil {
			t.Fatal(key, err)
		}
	}
	h.keys = opts
	h.start()
	h.stop()
}
