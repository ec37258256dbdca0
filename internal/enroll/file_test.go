package enroll

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// newcomer is a machine without a network.
type newcomer struct {
	node *keys.SigningKey
	key  keys.RequestKey
	file *RequestFile
}

func (r *rig) newcomer(name string, tags ...string) *newcomer {
	r.t.Helper()
	n := &newcomer{node: keys.NewSigningKey(), key: keys.NewRequestKey()}
	pub, err := n.key.Public()
	must(r.t, err)
	n.file, err = NewRequest(r.mesh, name, tags, n.node, pub)
	must(r.t, err)
	return n
}

// group commits to a first group secret, as init does.
func (r *rig) group() keys.GroupSecret {
	r.t.Helper()
	s := keys.NewGroupSecret(1)
	must(r.t, r.Append(trust.OpGroup{Generation: 1, Commit: s.Commitment(r.mesh)}))
	return s
}

func (n *newcomer) words() *[3]string {
	w := n.file.CSR.Words()
	return &w
}

func (r *rig) approve(n *newcomer) *Grant {
	r.t.Helper()
	g, err := r.ApproveFile(n.file, Approval{Words: n.words(), Life: 86400, RenewUntil: RenewForever}, nil)
	must(r.t, err)
	return g
}

func (r *rig) admission(g *Grant, s keys.GroupSecret) *Admission {
	r.t.Helper()
	genesis, frames, err := r.store.History(MaxResponseFile)
	must(r.t, err)
	return &Admission{Certificate: g.Certificate, Secret: s, Genesis: genesis, Frames: frames, Peers: [][]byte{{1, 2}}}
}

func (r *rig) respond(n *newcomer, g *Grant, s keys.GroupSecret) []byte {
	r.t.Helper()
	res, err := Respond(n.file, r.admission(g, s))
	must(r.t, err)
	return res.Encode()
}

func (n *newcomer) open(b []byte, now int64) (*Admission, error) {
	res, err := ParseResponse(b)
	if err != nil {
		return nil, err
	}
	return res.Open(n.key, n.file.CSR, now)
}

func TestRequestAndAnswerInFiles(t *testing.T) {
	r := newRig(t)
	s := r.group()
	n := r.newcomer("gpu1", "gpu")
	read, err := ParseRequest(n.file.Encode(), r.mesh)
	must(t, err)
	if read.CSR.ID != n.file.CSR.ID || read.Key != n.file.Key {
		t.Fatal("another request")
	}
	g := r.approve(n)
	if g.Certificate.Name != "gpu1" || !slices.Equal(g.Certificate.Tags, []string{"gpu"}) {
		t.Fatalf("%+v", g.Certificate)
	}
	a, err := n.open(r.respond(n, g, s), r.now)
	must(t, err)
	if a.Certificate.ID != g.Certificate.ID || a.Secret.Commitment(r.mesh) != s.Commitment(r.mesh) || a.Members != 1 || a.MeshName != "m" || len(a.Peers) != 1 {
		t.Fatalf("%+v", a)
	}
	// The same file again is the same certificate; a crash changes nothing.
	r.crash()
	if again := r.approve(n); !again.Again || again.Certificate.ID != g.Certificate.ID {
		t.Fatal("another certificate")
	}
	// A new request of the same machine renews it; one of a revoked machine is refused.
	pub, err := n.key.Public()
	must(t, err)
	next, err := NewRequest(r.mesh, "gpu1", nil, n.node, pub)
	must(t, err)
	if _, err := n.open(r.respond(n, g, s), r.now); err != nil {
		t.Fatal(err)
	}
	n.file = next
	if g := r.approve(n); g.Again || !slices.Equal(g.Certificate.Tags, []string{"gpu"}) {
		t.Fatalf("%+v", g.Certificate)
	}
	must(t, r.Append(trust.OpRevokeNode{Node: n.node.NodeID()}))
	if _, err := r.ApproveFile(n.file, Approval{Words: n.words(), Life: 60}, nil); !errors.Is(err, ErrRevoked) {
		t.Fatal(err)
	}
}

func TestApproveFileRefuses(t *testing.T) {
	r := newRig(t)
	n := r.newcomer("gpu1")
	words := n.words()
	words[1] = "wrong"
	for name, a := range map[string]Approval{"wrong words": {Words: words, Life: 60}, "no words": {Life: 60}} {
		if _, err := r.ApproveFile(n.file, a, nil); !errors.Is(err, ErrWords) || r.members() != 0 {
			t.Error(name, err)
		}
	}
	_, err := r.Spend(r.invite("gpu1"), r.request(keys.NewSigningKey()), nil)
	must(t, err)
	if _, err := r.ApproveFile(n.file, Approval{Words: n.words(), Life: 60}, nil); !errors.Is(err, ErrNameTaken) {
		t.Fatal(err)
	}
	if _, err := r.ApproveFile(n.file, Approval{Words: n.words(), Life: 60, Name: "gpu2", Allow: []trust.What{web}}, nil); err != nil || len(r.grants()) != 1 {
		t.Fatal(err)
	}
}

// Every byte of a request is covered: by its form, or by the signature of the node, which covers the key its answer is sealed to.
func TestRequestTamper(t *testing.T) {
	r := newRig(t)
	good := r.newcomer("gpu1", "gpu").file.Encode()
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if q, err := ParseRequest(b, r.mesh); err == nil || q != nil {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for name, b := range map[string][]byte{"cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "endless": append(bytes.Clone(good), make([]byte, MaxRequestFile)...)} {
		if _, err := ParseRequest(b, r.mesh); !errors.Is(err, ErrFile) {
			t.Error(name, err)
		}
	}
	if _, err := ParseRequest(append([]byte(requestMagic), wire.MustMarshal(requestWire{CSR: make([]byte, MaxRequestFile)})...), r.mesh); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "longer") {
		t.Error("a request too long to be looked at:", err)
	}
	if _, err := ParseRequest(good, keys.MeshID{1}); !errors.Is(err, ErrFile) {
		t.Error("another mesh:", err)
	}
	if _, err := ParseRequest([]byte("hello"), r.mesh); !errors.Is(err, ErrNoFile) {
		t.Error(err)
	}
	other := r.newcomer("gpu1", "gpu")
	if _, err := ParseRequest((&RequestFile{CSR: other.file.CSR, Key: r.newcomer("x").file.Key}).Encode(), r.mesh); !errors.Is(err, ErrFile) {
		t.Error("a key put in on the way:", err)
	}
	longest := r.newcomer(strings.Repeat("n", identity.MaxName))
	if n := len(longest.file.Encode()); n > MaxRequestFile {
		t.Error(n, "bytes")
	}
}

// Every byte of an answer is covered, and so is its length.
func TestAnswerTamper(t *testing.T) {
	r := newRig(t)
	s := r.group()
	n := r.newcomer("gpu1")
	good := r.respond(n, r.approve(n), s)
	step := testrun.Stride(7)
	for i := 0; i < len(good); i += step {
		b := bytes.Clone(good)
		b[i] ^= 1
		if a, err := n.open(b, r.now); err == nil || a != nil || !errors.Is(err, ErrFile) && !errors.Is(err, ErrNoFile) {
			t.Fatalf("byte %d of %d changed: %v", i, len(good), err)
		}
	}
	for _, cut := range []int{0, 3, 4, 20, 36, 40, 1155, 1160, len(good) - 1} {
		if _, err := n.open(good[:cut], r.now); err == nil {
			t.Fatal("cut at", cut)
		}
	}
	if _, err := n.open(append(bytes.Clone(good), 0), r.now); !errors.Is(err, ErrFile) {
		t.Fatal("a byte more:", err)
	}
	if _, err := ParseResponse(append([]byte(responseMagic), make([]byte, MaxResponseFile)...)); !errors.Is(err, ErrFile) {
		t.Fatal("an endless answer:", err)
	}
	stranger := r.newcomer("gpu1")
	if _, err := stranger.open(good, r.now); !errors.Is(err, ErrFile) {
		t.Fatal("the answer to another request:", err)
	}
	stranger.file = n.file
	if _, err := stranger.open(good, r.now); !errors.Is(err, ErrFile) {
		t.Fatal("another key:", err)
	}
}

// Whoever knows the request can seal an answer to it. What it says is believed only if the mesh's own log says it.
func TestAnswerIsBelievedOnlyByTheLog(t *testing.T) {
	r, foreign := newRig(t), newRig(t)
	s, fs := r.group(), foreign.group()
	n := r.newcomer("gpu1")
	g := r.approve(n)
	other := r.approve(r.newcomer("other"))
	good := func() *Admission { return r.admission(g, s) }
	unlogged, err := identity.IssueCertificate(identity.Certificate{
		Mesh: r.mesh, Node: n.node.NodeID(), Serial: 99, Issuer: r.key.Public(), NotBefore: r.now, NotAfter: r.now + 60, Name: "root",
	}, r.key)
	must(t, err)
	for name, change := range map[string]func(*Admission){
		"good":          func(*Admission) {},
		"foreign log":   func(a *Admission) { f := foreign.admission(g, fs); a.Genesis, a.Frames = f.Genesis, f.Frames },
		"no log":        func(a *Admission) { a.Frames = nil },
		"log cut":       func(a *Admission) { a.Frames = a.Frames[:1] },
		"another node":  func(a *Admission) { a.Certificate = other.Certificate },
		"not in log":    func(a *Admission) { a.Certificate = unlogged },
		"other secret":  func(a *Admission) { a.Secret = keys.NewGroupSecret(1) },
		"many peers":    func(a *Admission) { a.Peers = make([][]byte, MaxPeers+1) },
		"forged entry":  func(a *Admission) { b := bytes.Clone(a.Frames[1].Body); b[len(b)-1] ^= 1; a.Frames[1].Body = b },
		"foreign entry": func(a *Admission) { a.Frames = append(a.Frames, foreign.admission(g, fs).Frames...) },
	} {
		a := good()
		change(a)
		res, err := Respond(n.file, a)
		must(t, err)
		got, err := n.open(res.Encode(), r.now)
		if name == "good" {
			must(t, err)
			continue
		}
		if !errors.Is(err, ErrFile) || got != nil || name == "foreign log" && !strings.Contains(err.Error(), "founds another mesh") {
			t.Error(name, err)
		}
	}
	res, err := Respond(n.file, good())
	must(t, err)
	if _, err := n.open(res.Encode(), r.now+90000); !errors.Is(err, ErrFile) {
		t.Error("a certificate that has ended:", err)
	}
	must(t, r.Append(trust.OpRevokeNode{Node: n.node.NodeID()}))
	res, err = Respond(n.file, good())
	must(t, err)
	if _, err := n.open(res.Encode(), r.now); !errors.Is(err, ErrFile) {
		t.Error("revoked in its own log:", err)
	}
	big := good()
	big.Frames = slices.Repeat(big.Frames, 1+MaxResponseFile/len(res.Encode())*4)
	if _, err := Respond(n.file, big); !errors.Is(err, trust.ErrTooLong) {
		t.Error("an endless answer:", err)
	}
}

// The power goes at every write of an approval by file.
func TestCrashAtEveryStepOfAFile(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for step := 1; ; step++ {
			r := newRig(t)
			n := r.newcomer("gpu1")
			a := Approval{Words: n.words(), Life: 86400, RenewUntil: RenewForever, Allow: []trust.What{web}}
			r.disk.CutPower(step, keep)
			_, err := r.ApproveFile(n.file, a, nil)
			if err == nil {
				if step < 4 {
					t.Fatal("more writes than", step)
				}
				break
			}
			r.crash()
			_, err = r.Spend(r.invite("pi4"), r.request(keys.NewSigningKey()), nil)
			must(t, err)
			g, err := r.ApproveFile(n.file, a, nil)
			must(t, err)
			if r.members() != 2 || len(r.grants()) != 1 || !r.State().Logged(g.Certificate) {
				t.Fatalf("step %d, keep %v: %d members, %d grants", step, keep, r.members(), len(r.grants()))
			}
		}
	}
}

// FuzzRequest: what parses as a request is written the same.
func FuzzRequest(f *testing.F) {
	r := newRig(f)
	mesh := keys.MeshID{7}
	r.mesh = mesh
	f.Add(r.newcomer("gpu1", "gpu").file.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseRequest(b, mesh)
		if err != nil {
			if q != nil {
				t.Fatal("a request beside an error")
			}
			return
		}
		if !bytes.Equal(q.Encode(), b) {
			t.Fatal("written in another way")
		}
	})
}

// FuzzResponse: what has an answer's outside is written the same, and opening it with some key neither panics nor succeeds.
func FuzzResponse(f *testing.F) {
	r := newRig(f)
	n := r.newcomer("gpu1")
	f.Add(append([]byte(responseMagic), make([]byte, 1200)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		res, err := ParseResponse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(res.Encode(), b) {
			t.Fatal("written in another way")
		}
		res.Request = n.file.CSR.ID
		if a, err := res.Open(n.key, n.file.CSR, r.now); err == nil || a != nil {
			t.Fatal("opened")
		}
	})
}

// FuzzGrant: the inside of an answer, which anybody may have written.
func FuzzGrant(f *testing.F) {
	f.Add(wire.MustMarshal(grantWire{Certificate: []byte{1}, GroupGen: 1, Peers: [][]byte{{2}}, Frames: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g grantWire
		if wire.Unmarshal(b, &g) == nil && !bytes.Equal(wire.MustMarshal(&g), b) {
			t.Fatal("written in another way")
		}
	})
}

// Files written by this version are read by every later one.
func TestCommittedRequest(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "request.mkq"))
	must(t, err)
	mesh := keys.MeshID{7}
	q, err := ParseRequest(b, mesh)
	must(t, err)
	if q.CSR.Name != "gpu1" || !slices.Equal(q.CSR.Tags, []string{"gpu"}) || !bytes.Equal(q.Encode(), b) {
		t.Fatalf("%+v", q.CSR)
	}
}
