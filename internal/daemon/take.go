package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/harden"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	waitingVersion = 1
	requestVersion = 1
	// maxWaiting and maxRequest bound the two small files of a newcomer: fixed fields, and a request of at most 562 bytes.
	maxWaiting = 128
	maxRequest = 1024
)

// ErrNoRequest: an answer came to a directory that has asked for nothing.
var ErrNoRequest = errors.New("no request was made with this state directory, or its answer was taken; make one with: meshkey enroll --mesh ID --request FILE")

// result describes a candidate that is a member now.
func (c *candidate) result(a *enroll.Admission, words [3]string) *EnrollResult {
	return &EnrollResult{
		Mesh: c.mesh, MeshName: a.MeshName, Node: c.node.NodeID(), Name: a.Certificate.Name, Tags: a.Certificate.Tags,
		NotAfter: time.Unix(a.Certificate.NotAfter, 0), Words: words, Members: a.Members, Renewed: c.member != nil,
	}
}

// take makes a candidate a member, or renews its membership: the member file comes last, so that until then nothing has happened, and
// the same command does it again.
func (d *stateDir) take(c *candidate, a *enroll.Admission, pins []identity.IssuerHead, how audit.Event, words [3]string) error {
	if err := d.takeGroup(c, a.Secret); err != nil {
		return err
	}
	tfs, err := d.sub(dirTrust)
	if err != nil {
		return err
	}
	how.Code, how.Target, how.Verdict = audit.NodeEnroll, c.node.NodeID().Compact(), audit.Allowed
	how.After = fmt.Sprintf("serial %d, name %s, words %s %s %s", a.Certificate.Serial, a.Certificate.Name, words[0], words[1], words[2])
	if c.member == nil {
		if err := trust.Create(tfs, a.Genesis, pins, a.Frames); err != nil {
			return err
		}
		if err := d.firstAudit(c.node, c.mesh, audit.Event{Code: audit.NodeInit, Target: how.Target}, how); err != nil {
			return err
		}
		return d.writeMember(&member{Version: memberVersion, Mesh: c.mesh, Certificate: a.Certificate.Raw(), Peers: a.Peers})
	}
	store, err := trust.Open(tfs, c.mesh)
	if err != nil {
		return err
	}
	for _, f := range a.Frames {
		if err = trust.Replay(store, f, time.Now().Unix()); err != nil {
			break
		}
	}
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	how.Before = fmt.Sprintf("serial %d, name %s", c.cert.Serial, c.cert.Name)
	if err := d.firstAudit(c.node, c.mesh, how); err != nil {
		return err
	}
	c.member.Certificate = a.Certificate.Raw()
	if len(a.Peers) > 0 {
		c.member.Peers = a.Peers
	}
	return d.writeMember(c.member)
}

// takeGroup writes the group secret. A member may have it already; then it has the same.
func (d *stateDir) takeGroup(c *candidate, s keys.GroupSecret) error {
	name := fileGroup(s.Generation)
	err := keys.WriteKeyFile(d.fs, name, c.to, keys.GroupMaterial(c.mesh, s))
	if c.member == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	k, err := keys.ReadKeyFile(d.fs, name, keys.KindGroup, c.mesh, c.unlock)
	if err != nil {
		return d.keyError(name, err)
	}
	had, err := k.GroupSecret()
	if err != nil {
		return err
	}
	if had.Commitment(c.mesh) != s.Commitment(c.mesh) {
		return fmt.Errorf("%s holds another secret than the mesh commits to: move it away", d.file(name))
	}
	return nil
}

// forget removes files of an attempt that is over, in order.
func (d *stateDir) forget(names ...string) error {
	for _, name := range names {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.fs.SyncDir(".")
}

// requestMade is what a newcomer keeps of the request it has written to a file.
type requestMade struct {
	Version uint64      `cbor:"1,keyasint"`
	Mesh    keys.MeshID `cbor:"2,keyasint"`
	CSR     []byte      `cbor:"3,keyasint"`
	Had     keys.Hash   `cbor:"4,keyasint"` // id of the certificate it had; zero: none
}

// RequestOptions says for which mesh to make a request in a file. Name and Tags are wishes; an empty Name is that of the membership, or
// Host where there is none.
type RequestOptions struct {
	StateDir         string
	Mesh             keys.MeshID
	Name, Host       string
	Tags             []string
	DaemonPassphrase string
	Keys             KeyOptions
}

// RequestResult is a request to be carried to an issuer.
type RequestResult struct {
	File  []byte
	Node  keys.NodeID
	Name  string
	Words [3]string
}

// MakeRequest makes this machine's key, and a key for the answer, and returns a request for approval that can be carried by anybody. Made
// again with the same wishes it is the same request.
func MakeRequest(_ context.Context, o RequestOptions) (*RequestResult, error) {
	_ = harden.Process()
	d, err := openState(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if d.ring, err = openRing(o.Keys); err != nil {
		return nil, err
	}
	c, err := d.candidate(o.Mesh, o.DaemonPassphrase)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Name != "":
	case c.cert != nil:
		o.Name = c.cert.Name
	default:
		o.Name = o.Host
	}
	key, err := d.requestKey(c, o.DaemonPassphrase)
	if err != nil {
		return nil, err
	}
	pub, err := key.Public()
	if err != nil {
		return nil, err
	}
	q, err := enroll.NewRequest(o.Mesh, o.Name, identity.NormalTags(o.Tags), c.node, pub)
	if err != nil {
		return nil, err
	}
	made := requestMade{Version: requestVersion, Mesh: o.Mesh, CSR: q.CSR.Raw()}
	if c.cert != nil {
		made.Had = c.cert.ID
	}
	if err := durable.WriteFile(d.fs, fileRequest, wire.MustMarshal(made)); err != nil {
		return nil, err
	}
	return &RequestResult{File: q.Encode(), Node: c.node.NodeID(), Name: o.Name, Words: q.CSR.Words()}, nil
}

// requestKey reads the key for the answer, or makes it. One that cannot be used is no loss: its request is made anew.
func (d *stateDir) requestKey(c *candidate, passphrase string) (keys.RequestKey, error) {
	k, err := d.readRequestKey(c.mesh, passphrase)
	if err == nil {
		return k, nil
	}
	if errors.Is(err, keys.ErrPassphrase) || errors.Is(err, keys.ErrLocked) {
		return keys.RequestKey{}, d.keyError(fileReqKey, err)
	}
	if err := d.forget(fileRequest, fileReqKey); err != nil {
		return keys.RequestKey{}, err
	}
	k = keys.NewRequestKey()
	return k, keys.WriteKeyFile(d.fs, fileReqKey, c.to, keys.RequestMaterial(c.mesh, k))
}

func (d *stateDir) readRequestKey(id keys.MeshID, passphrase string) (keys.RequestKey, error) {
	m, err := keys.ReadKeyFile(d.fs, fileReqKey, keys.KindRequest, id, d.unlock(func() (string, error) { return passphrase, nil }))
	if err != nil {
		return keys.RequestKey{}, err
	}
	return m.RequestKey()
}

func (d *stateDir) readRequest() (*requestMade, error) {
	b, err := durable.ReadFile(d.fs, fileRequest, maxRequest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoRequest
	}
	if err != nil {
		return nil, err
	}
	var made requestMade
	if err := wire.Unmarshal(b, &made); err != nil || made.Version != requestVersion {
		return nil, fmt.Errorf("the file %s is damaged: make the request again", d.file(fileRequest))
	}
	return &made, nil
}

// ResponseOptions carries the answer to a request.
type ResponseOptions struct {
	StateDir         string
	Response         []byte
	DaemonPassphrase string
	Keys             KeyOptions
}

// TakeResponse finishes what MakeRequest began. The answer is believed as far as it verifies down to the mesh id of the request.
func TakeResponse(_ context.Context, o ResponseOptions) (*EnrollResult, error) {
	_ = harden.Process()
	res, err := enroll.ParseResponse(o.Response)
	if err != nil {
		return nil, err
	}
	d, err := openState(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if d.ring, err = openRing(o.Keys); err != nil {
		return nil, err
	}
	made, err := d.readRequest()
	if err != nil {
		return nil, err
	}
	key, err := d.readRequestKey(made.Mesh, o.DaemonPassphrase)
	if err != nil {
		return nil, d.keyError(fileReqKey, err)
	}
	pub, err := key.Public()
	if err != nil {
		return nil, err
	}
	csr, err := identity.ParseCSR(made.CSR, made.Mesh, pub.Commitment())
	if err != nil {
		return nil, fmt.Errorf("the files %s and %s do not belong together (%w): make the request again", d.file(fileRequest), d.file(fileReqKey), err)
	}
	adm, err := res.Open(key, csr, time.Now().Unix())
	if err != nil {
		return nil, err
	}
	c, err := d.candidate(made.Mesh, o.DaemonPassphrase)
	if err != nil {
		return nil, err
	}
	if c.node.NodeID() != csr.Node {
		return nil, fmt.Errorf("%s is not the key of the request: make the request again", d.file(fileNode))
	}
	words := csr.Words()
	if err := d.take(c, adm, nil, audit.Event{Session: "file"}, words); err != nil {
		return nil, err
	}
	// If we crash before this, the daemon removes them at its next start.
	if err := d.forget(fileRequest, fileReqKey); err != nil {
		return nil, err
	}
	return c.result(adm, words), nil
}

// dropAnswered removes the key of a request whose answer was taken by a process that did not live to do it.
func (d *stateDir) dropAnswered(cert *identity.SignedCertificate) error {
	made, err := d.readRequest()
	switch {
	case errors.Is(err, ErrNoRequest):
		return d.forget(fileReqKey)
	case err != nil || cert.ID == made.Had:
		return nil // still to be answered
	}
	return d.forget(fileRequest, fileReqKey)
}
