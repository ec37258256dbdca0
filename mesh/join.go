package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// Join errors a caller branches on. Each says what to do.
var (
	// ErrInviteExpired: the invite's own time is over.
	ErrInviteExpired = errors.New("the invite has expired; ask for a new one with: meshkey invite NAME")
	// ErrInviteRefused: the issuer does not know the invite any more.
	ErrInviteRefused = errors.New("the invite was already used, taken back, or denied to this machine; ask for a new one with: meshkey invite NAME")
	// ErrWaiting: the issuer has noted the request, and a person there decides.
	ErrWaiting = errors.New("waiting for approval")
	// ErrRequestDenied: the person decided against it.
	ErrRequestDenied = errors.New("the request was denied, or its invite was taken back")
	// ErrInviteName: the name is taken, or this machine is a member under another one.
	ErrInviteName = errors.New("the invite's name belongs to another member, or this machine to another name")
	// ErrInviteRevoked: this machine's key was revoked.
	ErrInviteRevoked = errors.New("this machine's key was revoked; enrol with a new state directory")
	// ErrInviteIssuer: the issuer is not allowed to give what the invite says.
	ErrInviteIssuer = errors.New("the issuer may not give this certificate")
	// ErrWrongMesh: whoever answered cannot prove to be the mesh of the invite. Nothing was sent to it.
	ErrWrongMesh = errors.New("what answered is not the mesh of this invite")
	// ErrTooLate: the issuer has ended the session while the person was asked, after confirmTime, or has stopped.
	ErrTooLate = errors.New("the issuer waits no longer; run the same command again, which shows other words")
	// ErrNotConfirmed: the person said no. Nothing was sent.
	ErrNotConfirmed = errors.New("not confirmed; nothing was sent and the invite is unused")
)

// Offer is what a newcomer sees before it sends anything about itself.
type Offer struct {
	Mesh     string
	MeshID   keys.MeshID
	Issuer   string // name of the node that answers
	IssuerID keys.NodeID
	Name     string // the name this machine gets
	Words    [3]string
	Members  int
}

// errSilent: somebody took the connection and said nothing.
var errSilent = errors.New("does not answer this invite (used up, taken back, expired, or not the issuer)")

// WaitingError is ErrWaiting with what the newcomer keeps until it comes back.
type WaitingError struct {
	Channel keys.Hash // of the session the request was made in: the issuer shows its words
	Offer   Offer
}

// Error says what to do.
func (*WaitingError) Error() string {
	return "the request waits for approval by an admin (meshkey pending, on the issuer); run the same command again for the answer"
}

// Is makes it an ErrWaiting.
func (*WaitingError) Is(target error) bool { return target == ErrWaiting }

// JoinConfig is what joining takes.
type JoinConfig struct {
	Key     *keys.SigningKey
	Invite  *identity.Invite
	Boot    identity.BootID
	Dial    func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Also    []netip.AddrPort // where the issuer may be now: tried after the invite's own addresses
	Confirm func(Offer) bool // nil: whoever has the invite has confirmed
	Now     func() time.Time

	// Name and Tags are shown to who approves, where approval is required. Empty Name: the invite's.
	Name string
	Tags []string
	// Again says that an earlier attempt may be waiting for approval, which outlives the invite's own time.
	Again bool
	// Resumes says that the invite is a rotation's, which is answered for ever: silence says nothing about it, only a no does.
	Resumes bool
	// Waiting is the channel binding of a request that was noted: ask for its answer, and nothing anew.
	Waiting *keys.Hash

	rate float64 // entries asked for per second; 0: trust.HurryRate
}

// Membership is what a newcomer has when it is a member.
type Membership struct {
	MeshName    string
	Certificate *identity.SignedCertificate
	Secret      keys.GroupSecret
	Genesis     []byte
	Frames      []trust.Frame // of the trust log, after genesis
	Peers       [][]byte
	Offer       Offer
	Members     int // this one included
}

// Join enrols this machine with an invite. The mesh is authenticated first: the issuer must know the invite's secret and prove the
// key the invite names, and the log must lead from the mesh id of the invite to that issuer's certificate. Only then is the request
// sent.
func Join(ctx context.Context, cfg JoinConfig) (*Membership, error) {
	expired := cfg.Now().Unix() >= cfg.Invite.Expiry
	if expired && !cfg.Again && cfg.Waiting == nil {
		return nil, ErrInviteExpired
	}
	var last error
	for _, at := range cfg.addresses() {
		m, final, err := joinAt(ctx, cfg, at)
		if err == nil {
			return m, nil
		}
		if final {
			return nil, err
		}
		if !errors.Is(last, errSilent) { // somebody is there: that says more than an address where nobody is
			last = err
		}
	}
	if last == nil {
		last = errors.New("the invite names no address that can be used here")
	}
	if expired && !cfg.Resumes {
		return nil, fmt.Errorf("%w (and nothing of it waits for approval where it was made: %w)", ErrInviteExpired, last)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, last)
}

// addresses are where the issuer is looked for. Whoever answers has to prove the key that the invite names.
func (cfg *JoinConfig) addresses() (list []netip.AddrPort) {
	for _, e := range cfg.Invite.Endpoints {
		if at, err := e.AddrPort(); err == nil {
			list = append(list, at)
		}
	}
	for _, at := range cfg.Also {
		if !slices.Contains(list, at) {
			list = append(list, at)
		}
	}
	return list
}

// logObject is a ROOT or ENTRY body: [kind, envelope].
type logObject struct {
	_    struct{} `cbor:",toarray"`
	Kind uint64
	Raw  []byte
}

// joiner is one enrolment under way.
type joiner struct {
	cfg   JoinConfig
	ctl   *session.Control
	res   *handshake.Result
	conn  net.Conn
	start time.Time

	mu     sync.Mutex // while the log is learned; then the one goroutine of the enrolment has it all
	memory *trust.Memory
	sync   *trust.Sync
}

// joinAt tries one address. final means that another address will not help.
func joinAt(ctx context.Context, cfg JoinConfig, at netip.AddrPort) (m *Membership, final bool, err error) {
	cctx, cancel := context.WithTimeout(ctx, connectTimeout)
	conn, err := cfg.Dial(cctx, at)
	cancel()
	if err != nil {
		return nil, false, err
	}
	static := handshake.NewStatic()
	now := cfg.Now().Unix()
	binding, err := identity.IssueBinding(identity.Binding{
		Mesh: cfg.Invite.Mesh, Node: cfg.Key.NodeID(), Static: static.Public(), NotBefore: now, NotAfter: now + 3600, Boot: cfg.Boot,
	}, cfg.Key)
	if err != nil {
		conn.Close()
		return nil, true, err
	}
	res, err := handshake.DialEnroll(ctx, conn, handshake.EnrollDial{
		Local:  handshake.Local{Mesh: cfg.Invite.Mesh, Node: cfg.Key.NodeID(), Static: static, Binding: binding.Raw()},
		Issuer: cfg.Invite.IssuerNode, Invite: cfg.Invite.ID, Secret: cfg.Invite.Secret,
		Now: func() int64 { return cfg.Now().Unix() },
	})
	if err != nil {
		return nil, false, fmt.Errorf("%s %w: %w", at, errSilent, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	j := &joiner{cfg: cfg, ctl: session.NewControl(conn, res.Keys, res.Role), res: res, conn: conn, start: time.Now()}
	code := session.CodeProtocol
	defer func() { j.ctl.Close(code) }()
	defer j.ctl.Release()
	if err := conn.SetReadDeadline(time.Now().Add(enrolTime)); err != nil {
		return nil, false, err
	}
	m, err = j.run(conn)
	if err == nil || errors.Is(err, ErrNotConfirmed) || errors.Is(err, ErrWaiting) {
		code = session.CodeNormal
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return m, true, err
}

func (j *joiner) run(conn net.Conn) (*Membership, error) {
	if err := j.learn(); err != nil {
		return nil, err
	}
	offer, err := j.authenticate()
	if err != nil {
		return nil, err
	}
	if w := j.cfg.Waiting; w != nil {
		offer.Words = identity.Words(*w)
		if err := j.ctl.SendBody(session.Plain{K: session.KindPending}); err != nil {
			return nil, err
		}
	} else if err := j.request(conn, offer); err != nil {
		return nil, err
	}
	g, err := j.answer(offer)
	if err != nil {
		return nil, err
	}
	return j.accept(g, offer)
}

// request asks the person, then the issuer.
func (j *joiner) request(conn net.Conn, offer Offer) error {
	if j.cfg.Confirm != nil {
		if !j.cfg.Confirm(offer) {
			return ErrNotConfirmed
		}
		// A person took their time; the issuer waits as long.
		if err := conn.SetReadDeadline(time.Now().Add(enrolTime)); err != nil {
			return err
		}
	}
	name := j.cfg.Name
	if name == "" {
		name = j.cfg.Invite.Name
	}
	csr, err := identity.SignCSR(identity.CSR{
		Mesh: j.cfg.Invite.Mesh, Node: j.cfg.Key.NodeID(), Name: name, Tags: j.cfg.Tags, Nonce: j.res.Keys.Hash,
	}, j.cfg.Key)
	if err != nil {
		return err
	}
	if err := j.ctl.SendBody(session.Object{K: session.KindEnroll, Raw: csr.Raw()}); err != nil {
		return fmt.Errorf("%w: %w", ErrTooLate, err)
	}
	return nil
}

// receive reads one control body.
func (j *joiner) receive() (session.Body, []byte, error) {
	for {
		t, body, err := j.ctl.Receive()
		switch {
		case err != nil:
			return nil, nil, err
		case t == session.RecordHeartbeat:
			continue
		case t == session.RecordClose:
			code, err := session.ParseClose(body)
			if err != nil {
				return nil, nil, err
			}
			return nil, nil, &session.ClosedError{Code: code}
		case t != session.RecordControl:
			return nil, nil, session.ErrProtocol
		}
		b, err := session.ParseBody(body)
		return b, append([]byte(nil), body...), err
	}
}

func (j *joiner) mono() time.Duration { return time.Since(j.start) }

func (j *joiner) send(frames []trust.Frame) error {
	for _, f := range frames {
		if err := j.ctl.Send(session.RecordControl, f.Body); err != nil {
			return err
		}
	}
	return nil
}

// trustFrame applies one frame of the log.
func (j *joiner) trustFrame(k session.Kind, raw []byte) error {
	r, err := j.sync.Receive(trust.Frame{Kind: uint8(k), Body: raw}, j.mono(), j.cfg.Now().Unix())
	if err != nil {
		return fmt.Errorf("%w: its trust log does not verify: %w", ErrWrongMesh, err)
	}
	return j.send(r.Send)
}

// authenticate checks that the log is the invite's, and that it makes the node that answered a member.
func (j *joiner) authenticate() (Offer, error) {
	st, v := j.memory.Current(), j.cfg.Invite
	if r, ok := st.RootAt(v.RootVersion); !ok || r.Hash() != v.RootHash {
		return Offer{}, fmt.Errorf("%w: it lacks the root the invite names", ErrWrongMesh)
	}
	for _, h := range v.Heads {
		if got, ok := st.HashAt(h.Issuer, h.Seq); !ok || got != h.Hash {
			return Offer{}, fmt.Errorf("%w: an issuer's log is not the one the invite names", ErrWrongMesh)
		}
	}
	if j.res.Peer.Node != v.IssuerNode {
		return Offer{}, fmt.Errorf("%w: another node answered", ErrWrongMesh)
	}
	// A stale view is no reason: the invite vouches for this node, and the newcomer is let in by the others when it knows more.
	if standing, why := st.Admit(j.res.Peer.Certificate, st.Root().Version, j.cfg.Now().Unix()); standing != trust.Full && why != trust.ReasonStale {
		return Offer{}, fmt.Errorf("%w: the node that answered is no member in force (%s); check this machine's clock", ErrWrongMesh, why)
	}
	members := 0
	for range st.Members() {
		members++
	}
	return Offer{
		Mesh: st.Root().Name, MeshID: v.Mesh, Issuer: j.res.Peer.Certificate.Name, IssuerID: v.IssuerNode, Name: v.Name,
		Words: identity.Words(j.res.Keys.Hash), Members: members,
	}, nil
}
