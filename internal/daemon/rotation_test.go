package daemon

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// turning is a member's state directory on a disk that fails, and an issuer on another one that does not.
type turning struct {
	t      *testing.T
	disk   *durable.Mem
	dir    *stateDir
	mesh   keys.MeshID
	old    keys.NodeID
	oldKey *keys.SigningKey
	store  *trust.Store
	issuer *enroll.Issuer
	itself bool // the issuer is on this host, and does both parts at once
}

func newTurning(t *testing.T) *turning {
	t.Helper()
	w := &turning{t: t, disk: durable.NewMem()}
	now := time.Now().Unix()
	root, key, node := keys.NewSigningKey(), keys.NewSigningKey(), keys.NewSigningKey()
	genesis, mesh, err := trust.NewGenesis(trust.GenesisConfig{
		Name: "m", Issued: now - 10, Keys: []trust.RootKey{{Pub: root.Public(), Name: "r"}},
		Issuers: []trust.Issuer{{
			ID: key.Public(), Caps: trust.CapEnroll | trust.CapRevoke, Tags: []string{"*"}, MaxTTL: 86400, NotAfter: now + 90*86400, Name: "i",
		}},
		GroupIssuer: key.Public(),
	}, root)
	w.must(err)
	far := durable.NewMem()
	w.must(trust.Create(far, genesis, nil, nil))
	w.store, err = trust.Open(far, mesh)
	w.must(err)
	t.Cleanup(func() { w.store.Close() })
	book, _, err := enroll.OpenBook(far, fileInvites)
	w.must(err)
	w.mesh, w.old, w.oldKey = mesh, node.NodeID(), node
	w.issuer = &enroll.Issuer{
		Key: key, Mesh: mesh, Book: book, State: w.store.Current, Now: func() int64 { return now },
		Append: func(ops ...trust.Op) error {
			_, err := w.store.AppendOwn(key, now, ops...)
			return err
		},
	}
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: mesh, Node: w.old, Serial: 1, Issuer: key.Public(), NotBefore: now, NotAfter: now + 86400, Name: "gpu1", RenewUntil: enroll.RenewForever,
	}, key)
	w.must(err)
	w.must(w.issuer.Append(trust.EnrollOp(cert)))
	w.dir = &stateDir{path: "state", fs: w.disk}
	w.must(w.dir.writeKeys("", keyFile{fileNode, keys.SigningMaterial(keys.KindNode, mesh, node)}))
	w.must(w.dir.writeMember(&member{Version: memberVersion, Mesh: mesh, Certificate: cert.Raw()}))
	return w
}

func (w *turning) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// enrol is the issuer's second part, as over the network.
func (w *turning) enrol(next *keys.SigningKey, r *rotation) (*identity.SignedCertificate, error) {
	if w.itself {
		k, err := keys.ReadKeyFile(w.disk, fileNode, keys.KindNode, w.mesh, w.dir.unlock(nil))
		w.must(err)
		old, err := k.SigningKey()
		w.must(err)
		return rotateSelf(w.issuer, w.mesh, old, next, "x")
	}
	id, err := identity.ParseInviteID(r.Invite)
	if err != nil {
		return nil, err
	}
	g, err := w.issuer.Spend(id, w.request(next), nil)
	if err != nil {
		return nil, err
	}
	return g.Certificate, nil
}

func (w *turning) request(k *keys.SigningKey) *identity.SignedCSR {
	w.t.Helper()
	csr, err := identity.SignCSR(identity.CSR{Mesh: w.mesh, Node: k.NodeID(), Name: "x", Nonce: keys.Hash{1}}, k)
	w.must(err)
	return csr
}

// rotate is what the daemon does, step by step.
func (w *turning) rotate() error {
	d, unlock := w.dir, w.dir.unlock(nil)
	k, err := keys.ReadKeyFile(d.fs, fileNode, keys.KindNode, w.mesh, unlock)
	if err != nil {
		return err
	}
	old, err := k.SigningKey()
	if err != nil {
		return err
	}
	to, err := d.recipient("")
	if err != nil {
		return err
	}
	next, err := d.nextKey(w.mesh, to, unlock)
	if err != nil {
		return err
	}
	r := &rotation{Mesh: w.mesh, Old: old.NodeID(), New: next.NodeID()}
	if !w.itself {
		v, err := w.issuer.Rotate(old.NodeID(), w.request(next), trust.RotateSignature(w.mesh, old, next.NodeID()), nil)
		if err != nil {
			return err
		}
		r.Invite = v.ID.String()
	}
	if err := d.writeRotation(r); err != nil {
		return err
	}
	if err := d.carryOut(r, next, w.enrol); err != nil {
		return err
	}
	return d.finishRotation()
}

// start is the beginning of a daemon, with what it does about a rotation.
func (w *turning) start() {
	w.t.Helper()
	d := w.dir
	w.must(d.finishRotation())
	r, err := d.readRotation()
	w.must(err)
	if r != nil {
		next, err := d.readNext(w.mesh, d.unlock(nil))
		w.must(err)
		w.must(d.carryOut(r, next, w.enrol))
		w.must(d.finishRotation())
	}
}

// identity is who this host is by its disk: a key and a certificate that belong together.
func (w *turning) identity() keys.NodeID {
	w.t.Helper()
	k, err := keys.ReadKeyFile(w.disk, fileNode, keys.KindNode, w.mesh, w.dir.unlock(nil))
	w.must(err)
	key, err := k.SigningKey()
	w.must(err)
	_, cert, err := w.dir.readMember()
	w.must(err)
	if key.NodeID() != cert.Node {
		w.t.Fatal("the key is not the certificate's")
	}
	return cert.Node
}

// The member dies at every one of its writes, and at half of one: the next start has the old identity, and the log has it, or the new one, and
// the log has that.
func TestRotationInterrupted(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		keep := i&1 != 0
		for n := 1; ; n += testrun.Stride(1) {
			w := newTurning(t)
			w.itself = i&2 != 0
			w.disk.CutPower(n, keep)
			err := w.rotate()
			w.disk.Crash()
			w.must(durable.Sweep(w.disk, "."))
			w.start()
			who := w.identity()
			if _, live := w.store.Current().Member(who); !live {
				t.Fatalf("cut at step %d (kept %v): this host is a node that the log does not have", n, keep)
			}
			m, _, rerr := w.dir.readMember()
			w.must(rerr)
			if who != w.old && m.previous() != w.old {
				t.Fatalf("cut at step %d: the old key's audit log is forgotten", n)
			}
			if who == w.old {
				w.must(w.rotate())
				if w.identity() == w.old {
					t.Fatal("the second attempt does nothing")
				}
			}
			if err == nil {
				break
			}
			if !errors.Is(err, durable.ErrPowerCut) {
				t.Fatalf("step %d: %v", n, err)
			}
		}
	}
}

// What is given up is not taken again: its key may be known to the log.
func TestDroppedRotation(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := newTurning(t)
		to, err := w.dir.recipient("")
		w.must(err)
		next, err := w.dir.nextKey(w.mesh, to, w.dir.unlock(nil))
		w.must(err)
		w.must(w.dir.writeRotation(&rotation{Mesh: w.mesh, Old: w.old, New: next.NodeID(), Invite: "x"}))
		w.disk.CutPower(n, false)
		err = w.dir.dropRotation()
		w.disk.Crash()
		r, rerr := w.dir.readRotation()
		w.must(rerr)
		_, kerr := w.dir.readNext(w.mesh, w.dir.unlock(nil))
		if r == nil && kerr == nil {
			t.Fatalf("cut at step %d: the key of a dropped rotation would be taken for another one", n)
		}
		if err == nil {
			return
		}
	}
}

// A rotation of another membership, or with a certificate for another key, changes nothing here.
func TestForeignRotation(t *testing.T) {
	t.Parallel()
	w := newTurning(t)
	other := newTurning(t)
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: w.mesh, Node: other.old, Serial: 9, Issuer: w.issuer.Key.Public(), NotBefore: 1, NotAfter: 2, Name: "gpu1",
	}, w.issuer.Key)
	w.must(err)
	for what, r := range map[string]*rotation{
		"another mesh":    {Mesh: other.mesh, Old: w.old, New: other.old, Certificate: cert.Raw()},
		"another old key": {Mesh: w.mesh, Old: keys.NewSigningKey().NodeID(), New: other.old, Certificate: cert.Raw()},
		"another new key": {Mesh: w.mesh, Old: w.old, New: w.old, Certificate: cert.Raw()},
	} {
		w.must(w.dir.writeRotation(r))
		if w.dir.finishRotation() == nil || w.identity() != w.old {
			t.Fatalf("%s is taken", what)
		}
	}
	r, next := &rotation{Mesh: w.mesh, Old: w.old, New: w.old}, keys.NewSigningKey()
	if err := w.dir.carryOut(r, keys.NewSigningKey(), func(*keys.SigningKey, *rotation) (*identity.SignedCertificate, error) {
		t.Error("another key than the rotation's is shown to an issuer")
		return cert, nil
	}); err == nil {
		t.Fatal("another key than the rotation's enrols")
	}
	if err := w.dir.carryOut(&rotation{Mesh: w.mesh, Old: w.old, New: next.NodeID()}, next, func(*keys.SigningKey, *rotation) (*identity.SignedCertificate, error) {
		return cert, nil
	}); err == nil {
		t.Fatal("another key's certificate is taken")
	}
}

// Without a record there is no rotation, neither begun nor carried out.
func TestRotationIsRecordedFirst(t *testing.T) {
	t.Parallel()
	w := newTurning(t)
	k, err := keys.ReadKeyFile(w.disk, fileNode, keys.KindNode, w.mesh, w.dir.unlock(nil))
	w.must(err)
	d := &Daemon{dir: w.dir, store: w.store, meshID: w.mesh, log: slog.New(slog.DiscardHandler), unlock: w.dir.unlock(nil)}
	d.key, err = k.SigningKey()
	w.must(err)
	logs := durable.NewMem()
	d.audit, err = audit.Open(logs, d.key, w.mesh, audit.Options{})
	w.must(err)
	t.Cleanup(func() { d.audit.Close() })
	logs.Fail(durable.Fault{Op: durable.OpAny, Err: errors.New("full"), Stay: true})
	_, err = d.beginRotation(t.Context(), control.Caller{})
	if e := control.AsError(err); e == nil || e.Code != control.Degraded {
		t.Fatal(err)
	}
	next, err := w.dir.readNext(w.mesh, d.unlock)
	w.must(err)
	v, err := w.issuer.Rotate(w.old, w.request(next), trust.RotateSignature(w.mesh, d.key, next.NodeID()), nil)
	w.must(err)
	r := &rotation{Mesh: w.mesh, Old: w.old, New: next.NodeID(), Invite: v.ID.String()}
	w.must(w.dir.writeRotation(r))
	_, err = d.tryRotation(t.Context(), r)
	if e := control.AsError(err); e == nil || e.Code != control.Degraded {
		t.Fatal(err)
	}
}

// Leaving at every one of its writes: either this host is a member as before, or no daemon starts here, and no group secret is left in the
// end.
func TestLeaveInterrupted(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := newTurning(t)
		to, err := w.dir.recipient("")
		w.must(err)
		w.must(keys.WriteKeyFile(w.disk, fileGroup(1), to, keys.GroupMaterial(w.mesh, keys.NewGroupSecret(1))))
		w.must(durable.WriteFile(w.disk, "meshkey.toml", []byte("# stays")))
		for _, name := range mesh.StateFiles() {
			w.must(durable.WriteFile(w.disk, name, []byte("x")))
		}
		w.disk.CutPower(n, false)
		_, err = w.dir.leave()
		w.disk.Crash()
		_, _, merr := w.dir.readMember()
		switch {
		case merr == nil:
			w.identity()
			if !w.dir.has(fileGroup(1)) {
				t.Fatalf("cut at step %d: a member without its secrets", n)
			}
		case !errors.Is(merr, ErrNotMember):
			t.Fatal(merr)
		}
		if err != nil {
			continue
		}
		if merr == nil || w.dir.has(fileGroup(1)) || w.dir.has(fileNode) || w.dir.has("left-1/"+fileGroup(1)) || !w.dir.has("left-1/"+fileNode) || !w.dir.has("meshkey.toml") {
			t.Fatal("not everything is aside, or too much")
		}
		for _, name := range mesh.StateFiles() {
			if w.dir.has(name) || !w.dir.has("left-1/"+name) {
				t.Fatal(name, "stays behind")
			}
		}
		left := &stateDir{path: "left", fs: sub{w.disk, "left-1/"}}
		if m, _, err := left.readMember(); err != nil || m.Mesh != w.mesh {
			t.Fatal("the folder is no state directory:", err)
		}
		return
	}
}

// sub is a folder of a disk, for reading.
type sub struct {
	durable.FS
	prefix string
}

func (s sub) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	return s.FS.OpenFile(s.prefix+name, flag, perm)
}

// A machine that somebody revoked while it got a new key is told of, for a month; one that was only rotated is not.
func TestRevocationThatCrossedARotation(t *testing.T) {
	t.Parallel()
	w := newTurning(t)
	w.must(w.rotate())
	now := w.issuer.Now()
	if got := racedWarnings(w.store.Current(), now); len(got) != 0 {
		t.Fatal(got)
	}
	// A revocation with another reason, beside the succession, stands for that of another issuer.
	other := newTurning(t)
	next := keys.NewSigningKey()
	k, err := keys.ReadKeyFile(other.disk, fileNode, keys.KindNode, other.mesh, other.dir.unlock(nil))
	other.must(err)
	old, err := k.SigningKey()
	other.must(err)
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: other.mesh, Node: next.NodeID(), Serial: 2, Issuer: other.issuer.Key.Public(), NotBefore: now, NotAfter: now + 86400, Name: "gpu1",
	}, other.issuer.Key)
	other.must(err)
	other.must(other.issuer.Append(trust.EnrollOp(cert), trust.OpRevokeNode{
		Node: other.old, Successor: &trust.Successor{Node: next.NodeID(), Sig: trust.RotateSignature(other.mesh, old, next.NodeID())},
	}))
	got := racedWarnings(other.store.Current(), now)
	if len(got) != 1 || !strings.Contains(got[0].Text, "issuer i revoked a key of gpu1") || got[0].Next != "if the machine was meant: meshkey revoke gpu1" {
		t.Fatal(got)
	}
	if got := racedWarnings(other.store.Current(), now+raceWindow+10); len(got) != 0 {
		t.Fatal("for ever", got)
	}
}
