// Package members is a crowd in one process: many members of a mesh that keep a session with one daemon and say on it what a daemon says
// that has nothing to do. They join with real invites and make real handshakes, each from an address of its own as hosts have it; they
// listen nowhere, forward nothing, and keep nothing on disk. What a daemon holds for a thousand such sessions is what it is measured by.
package members

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// workers is how many join or dial at the same time, below what an issuer takes of one invite.
	workers = 4
	// joinTime bounds one enrolment, in which the whole log is read.
	joinTime = 60 * time.Second
	// bindingLife is how long a member's Noise key is good, in seconds: longer than any measurement.
	bindingLife = 24 * 3600
)

// Crowd are members who have joined. It is used from one goroutine.
type Crowd struct {
	at     netip.AddrPort // of the daemon
	daemon keys.NodeID
	all    []*member
	dialed int

	wg sync.WaitGroup // of sessions

	mu    sync.Mutex
	lost  int        // guarded by mu
	conns []net.Conn // guarded by mu
}

// member is one of them.
type member struct {
	index  int
	source netip.Addr
	key    *keys.SigningKey
	grant  *mesh.Membership
	local  handshake.Local
	gate   keys.PSK
	vector []byte
	digest [8]byte
}

// Join enrols n members with the invites, each of which is used from the first use to the last. Sources are as many addresses, one for
// each; at is the daemon, which must be the issuer.
func Join(ctx context.Context, at netip.AddrPort, invites []*identity.Invite, uses int, sources []netip.Addr) (*Crowd, error) {
	n := len(sources)
	if n < 2 || len(invites)*uses < n {
		return nil, fmt.Errorf("%d invites of %d uses for %d members", len(invites), uses, n)
	}
	c := &Crowd{at: at, all: make([]*member, n)}
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				c.all[i], errs[i] = c.join(ctx, i, invites[i/uses], sources[i])
			}
		})
	}
	// The last joins when all others have: its log is the whole.
	for i := range n - 1 {
		next <- i
	}
	close(next)
	wg.Wait()
	c.all[n-1], errs[n-1] = c.join(ctx, n-1, invites[(n-1)/uses], sources[n-1])
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("member %d of %d: %w", i+1, n, err)
		}
	}
	return c, c.settle()
}

func (c *Crowd) join(ctx context.Context, i int, inv *identity.Invite, source netip.Addr) (*member, error) {
	m := &member{index: i, source: source, key: keys.NewSigningKey()}
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	cfg := mesh.JoinConfig{Key: m.key, Invite: inv, Now: time.Now, Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		return c.dial(ctx, m)
	}}
	rand.Read(cfg.Boot[:])
	var err error
	m.grant, err = mesh.Join(ctx, cfg)
	if err == nil && i < len(c.all)-1 {
		m.grant.Frames = nil // a thousand logs; only the last one is used
	}
	return m, err
}

// dial connects to the daemon from the member's own address.
func (c *Crowd) dial(ctx context.Context, m *member) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(m.source, 0))}
	return d.DialContext(ctx, "tcp", c.at.String())
}

// settle gives every member the log of the last one, and what it presents in handshakes.
func (c *Crowd) settle() error {
	last := c.all[len(c.all)-1].grant
	c.daemon = last.Offer.IssuerID
	disk := durable.NewMem()
	if err := trust.Create(disk, last.Genesis, nil, last.Frames); err != nil {
		return err
	}
	store, err := trust.Open(disk, last.Offer.MeshID)
	if err != nil {
		return err
	}
	state := store.Current()
	vec := trust.NewHub(store).NewSync(false).Vec(0)
	if len(vec) == 0 {
		return errors.Join(errors.New("the log has no vector"), store.Close())
	}
	now := time.Now().Unix()
	for i, m := range c.all {
		static := handshake.NewStatic()
		b, err := identity.IssueBinding(identity.Binding{
			Mesh: last.Offer.MeshID, Node: m.key.NodeID(), Static: static.Public(), NotBefore: now, NotAfter: now + bindingLife,
			Boot: identity.BootID{byte(i), byte(i >> 8), 1},
		}, m.key)
		if err != nil {
			return errors.Join(err, store.Close())
		}
		m.gate, m.vector, m.digest = last.Secret.Gate(last.Offer.MeshID), slices.Clone(vec[0].Body), state.Digest()
		m.local = handshake.Local{
			Mesh: last.Offer.MeshID, Node: m.key.NodeID(), Static: static, Certificate: m.grant.Certificate.Raw(), Binding: b.Raw(),
			RootVersion: state.Root().Version, Digest: m.digest, GroupGen: last.Secret.Generation, ConnSeq: 1,
		}
		m.grant = nil
	}
	return store.Close()
}

// Grow makes sessions until there are n.
func (c *Crowd) Grow(ctx context.Context, n int) error {
	if n > len(c.all) {
		return fmt.Errorf("%d sessions of %d members", n, len(c.all))
	}
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				errs[i] = c.open(ctx, c.all[i])
			}
		})
	}
	for ; c.dialed < n; c.dialed++ {
		next <- c.dialed
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

func (c *Crowd) open(ctx context.Context, m *member) error {
	conn, err := c.dial(ctx, m)
	if err != nil {
		return err
	}
	res, err := handshake.Dial(ctx, conn, handshake.DialConfig{
		Local: m.local, Gate: m.gate, Suite: keys.SuiteAES, Responder: c.daemon, Now: func() int64 { return time.Now().Unix() },
		Verify: func(*handshake.Peer, int64) (session.State, session.Code) { return session.Full, 0 },
	})
	if err != nil {
		conn.Close()
		return fmt.Errorf("member %d: %w", m.index+1, err)
	}
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	c.mu.Unlock()
	c.wg.Go(func() {
		m.keep(session.NewControl(conn, res.Keys, res.Role))
		c.mu.Lock()
		c.lost++
		c.mu.Unlock()
	})
	return nil
}

// Lost is how many sessions have ended.
func (c *Crowd) Lost() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// Close ends the sessions and returns when they have.
func (c *Crowd) Close() {
	c.mu.Lock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// keep says everything a daemon says on an idle session: state, the log's vector, and heartbeats with its health. It returns when the
// session has ended.
func (m *member) keep(c *session.Control) {
	var sending sync.Mutex
	send := func(t session.RecordType, body []byte) {
		sending.Lock()
		defer sending.Unlock()
		if c.Send(t, body) != nil {
			c.Reset()
		}
	}
	beat := func(pong uint64) {
		now := time.Now()
		body, err := session.EncodeHeartbeat(session.Heartbeat{
			Digest: m.digest, Degree: 1, Pong: pong, Ping: 1 - min(pong, 1),
			Health: &session.Health{
				Seq: uint64(now.UnixNano()), Version: "bench", Uptime: 100, Load: 100, DiskFree: 1 << 40, Expiry: uint64(now.Unix() + bindingLife),
				Audit: session.AuditHealthy, AuditSize: 1000, Time: uint64(now.UnixMilli()),
			},
		})
		if err == nil {
			send(session.RecordHeartbeat, body)
		}
	}
	if c.SendBody(session.Ready{State: session.Full}) != nil {
		return
	}
	send(session.RecordControl, m.vector)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(ended)
	wg.Go(func() {
		// Spread as hosts that were started at different times are.
		t := time.NewTicker(core.Interval - time.Duration(m.index%500)*2*time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				beat(0)
			case <-ended:
				return
			}
		}
	})
	for {
		t, body, err := c.Receive()
		if err != nil {
			return
		}
		if t == session.RecordHeartbeat {
			if h, _, err := session.ParseHeartbeat(body); err == nil && h.Ping != 0 {
				beat(h.Ping)
			}
		}
	}
}
