package mesh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// speaker announces as a member that does not run.
type speaker struct {
	t  *testing.T
	h  *host
	an *beacon.Announcer
}

func (h *host) speaker(t *testing.T) *speaker {
	an, err := beacon.NewAnnouncer(beacon.AnnouncerConfig{Mesh: h.w.id, Node: h.key, Epoch: 7})
	ok(t, err)
	return &speaker{t, h, an}
}

// says makes the next announcement, which tells one address, as if at some time.
func (s *speaker) says(at string, made time.Time) (datagram, record []byte) {
	s.t.Helper()
	f := beacon.Facts{Endpoints: []netip.AddrPort{netip.MustParseAddrPort(at)}, Interval: core.Interval, UnicastPort: 1}
	secrets, err := NewSecrets(s.h.w.id, func(keys.GroupSecret) error { return nil }, s.h.w.secret)
	ok(s.t, err)
	datagram, record, err = s.an.Announce(f, 0, secrets.beaconKeys(), made)
	ok(s.t, err)
	return datagram, record
}

// asks makes the next announcement, with flags.
func (s *speaker) asks(flags beacon.Flags) []byte {
	s.t.Helper()
	secrets, err := NewSecrets(s.h.w.id, func(keys.GroupSecret) error { return nil }, s.h.w.secret)
	ok(s.t, err)
	d, _, err := s.an.Announce(beacon.Facts{Interval: core.Interval, UnicastPort: 1}, flags, secrets.beaconKeys(), time.Now())
	ok(s.t, err)
	return d
}

// knows returns where a host believes that another accepts connections.
func (h *host) knows(other *host) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if eps := h.endpoints[other.key.NodeID()]; len(eps) > 0 {
		return eps[0].String()
	}
	return ""
}

// deaf is a network whose datagrams nobody hears, so that a test may bring its own: the receiver takes one at a time.
type deaf struct{ Network }

func (d deaf) Packets() (Packets, error) {
	p, err := d.Network.Packets()
	return deafPackets{p}, err
}

type deafPackets struct{ Packets }

func (d deafPackets) Run(ctx context.Context, _ func(beacon.Packet)) error {
	return d.Packets.Run(ctx, func(beacon.Packet) {})
}

// An announcement stays well signed for ever: repeated by a member as a peer record, or by anybody as a datagram, an old one moves no
// peer's addresses, whether the newer one came as a record or as a beacon.
func TestOldAnnouncementsRedirectNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("b"), w.member("c")
	a.open()
	a.net = deaf{a.net}
	a.run()
	own, other := b.bare(t, a), c.bare(t, a)
	defer own.Reset()
	defer other.Reset()
	eventually(t, "full", patience, func() bool { return a.link(b) != nil && a.link(c) != nil })
	believed := func(record []byte, at string) {
		t.Helper()
		ok(t, own.SendBody(session.Object{K: session.KindPeer, Raw: record}))
		eventually(t, "the record is believed", patience, func() bool { return a.knows(b) == at })
	}
	// Replayed by another member, whose word for an address on this machine counts nothing: to believe it would leave b without any.
	ignored := func(record []byte) {
		t.Helper()
		n := a.Counters()["peer-record.old"]
		ok(t, other.SendBody(session.Object{K: session.KindPeer, Raw: record}))
		eventually(t, "the record is looked at", patience, func() bool { return a.Counters()["peer-record.old"] > n })
	}
	unheard := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		p := a.presence[b.key.NodeID()]
		p.seen = time.Now().Add(-2 * core.HintLife)
		a.presence[b.key.NodeID()] = p
	}
	s, now, old := b.speaker(t), time.Now(), time.Now().Add(-time.Hour)
	oldDatagram, oldest := s.says("127.0.0.99:1", old)
	_, older := s.says("127.0.0.98:1", old)
	_, newer := s.says("127.0.0.2:2", now)
	believed(newer, "127.0.0.2:2")
	ignored(oldest)
	a.datagram(beacon.Packet{Data: oldDatagram, From: netip.MustParseAddrPort("127.0.0.77:7"), Interface: 1})
	if n := a.Counters()["beacon.old"]; n != 1 || a.knows(b) != "127.0.0.2:2" {
		t.Fatalf("%d old beacons, b is at %s", n, a.knows(b))
	}
	a.mu.Lock()
	seen := a.presence[b.key.NodeID()].seen
	a.mu.Unlock()
	if !seen.IsZero() {
		t.Fatal("an old beacon counts as heard")
	}
	fresh, _ := s.says("127.0.0.3:3", time.Now())
	a.datagram(beacon.Packet{Data: fresh, From: netip.MustParseAddrPort("127.0.0.3:7"), Interface: 1})
	if at := a.knows(b); !strings.HasPrefix(at, "127.0.0.3:") {
		t.Fatal(at)
	}
	unheard()
	ignored(older)
	ignored(newer)
	if at := a.knows(b); !strings.HasPrefix(at, "127.0.0.3:") {
		t.Fatal("an older record moved a peer that a beacon told of:", at)
	}
	_, newest := s.says("127.0.0.4:4", time.Now())
	believed(newest, "127.0.0.4:4")
}

// The newest beacon a peer sent here, repeated by anybody after the peer has gone elsewhere, does not count as hearing it: that would keep
// a newer peer record from being believed.
func TestRepeatedBeaconIsNotHeard(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	defer a.closeStores()
	h := &beacon.Heard{Announcement: beacon.Announcement{Node: b.key.NodeID(), Epoch: 7, Counter: 3}, ClockSkew: true}
	last := func() time.Time { return a.presence[b.key.NodeID()].seen }
	if !a.noteBeacon(h) || last().IsZero() {
		t.Fatal("the first one is a hint")
	}
	long := time.Now().Add(-2 * core.HintLife)
	a.presence[b.key.NodeID()] = presence{seen: long}
	a.noteBeacon(h)
	if !last().Equal(long) {
		t.Fatal("a repeated beacon counts as heard")
	}
	moved := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.4:4")}
	if !a.noteRecord(b.key.NodeID(), order{7, 4}, moved) || a.knows(b) != "127.0.0.4:4" {
		t.Fatal(a.knows(b))
	}
	h.ClockSkew = false
	if !a.noteBeacon(h) || last().Equal(long) {
		t.Fatal("a beacon made now is not heard")
	}
}

func TestNewestAnnouncement(t *testing.T) {
	var g guards
	a, b := keys.NewSigningKey().NodeID(), keys.NewSigningKey().NodeID()
	for i, c := range []struct {
		id      keys.NodeID
		o       order
		now, is bool
	}{
		{a, order{5, 5}, false, true},
		{a, order{5, 5}, false, true}, // the same one, told again
		{a, order{5, 4}, false, false},
		{a, order{4, 9}, false, false},
		{a, order{5, 6}, false, true},
		{b, order{1, 1}, false, true}, // each node counts for itself
		{a, order{6, 1}, false, true},
		{a, order{5, 7}, false, false},
		{a, order{2, 1}, true, true}, // restored from a backup, and speaking now
		{a, order{2, 2}, false, true},
	} {
		if got := g.newestLocked(c.id, c.o, c.now); got != c.is {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// A member that floods a session with peer records costs as many signature checks as an honest one.
func TestPeerRecordsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, c, d := w.member("a"), w.member("c"), w.member("d")
	a.run()
	const sent = recordsBurst + 400
	m := c.bare(t, a)
	defer m.Reset()
	eventually(t, "full", patience, func() bool { return a.link(c) != nil })
	began := time.Now()
	for range sent {
		ok(t, m.SendBody(session.Object{K: session.KindPeer, Raw: []byte("not even a record")}))
	}
	eventually(t, "all looked at", patience, func() bool {
		n := a.Counters()
		return n["peer-record.invalid"]+n["peer-record.flood"] == sent
	})
	most := recordsBurst + int(recordsPerSecond*time.Since(began).Seconds()) + 1
	if n := a.Counters()["peer-record.invalid"]; n < recordsBurst || int(n) > most {
		t.Fatalf("%d were looked at, at most %d may be", n, most)
	}
	// Another session has its own.
	o := d.bare(t, a)
	defer o.Reset()
	n := a.Counters()["peer-record.invalid"]
	eventually(t, "full", patience, func() bool { return a.link(d) != nil })
	ok(t, o.SendBody(session.Object{K: session.KindPeer, Raw: []byte("not even a record")}))
	eventually(t, "looked at", patience, func() bool { return a.Counters()["peer-record.invalid"] > n })
}

// A peer that guesses names is denied fifty times a second; after that its opens are refused without a decision or a record of their
// own, also those it is granted, until it has been quiet. All are in the audit log, as counts.
func TestDenialsAreLimited(t *testing.T) {
	_, a, b := pair(t)
	l := full(a, b)
	open := func(service string) session.Code {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c, _, err := a.openStream(ctx, l, Target{Node: b.key.NodeID(), Service: service}, &session.Early{})
		if re, ok := errors.AsType[*session.RefusedError](err); ok {
			return re.Code
		}
		ok(t, err)
		c.Abort()
		return 0
	}
	if code := open("echo"); code != 0 {
		t.Fatal(code)
	}
	const opens = 4 * denialsPerSecond
	before, began := b.log.Size(), time.Now()
	if code := open("guess"); code != session.CodeNotAdmitted {
		t.Fatal(code)
	}
	b.streams.denials.mu.Lock()
	budget := b.streams.denials.of[a.key.NodeID()]
	b.streams.denials.mu.Unlock()
	budget.SetLimit(0) // nothing comes back while this test looks
	left := int(budget.Tokens())
	var wg sync.WaitGroup
	codes := make(chan session.Code, opens)
	const atOnce = 20 // more only wait for each other, under the detector for longer than an open may
	for range atOnce {
		wg.Go(func() {
			for range opens / atOnce {
				codes <- open("guess")
			}
		})
	}
	wg.Wait()
	close(codes)
	denied, limited := 0, 0
	for code := range codes {
		switch code {
		case session.CodeNotAdmitted:
			denied++
		case session.CodeLimit:
			limited++
		default:
			t.Fatal(code)
		}
	}
	if left < denialsPerSecond-1 || left > denialsPerSecond || denied != left || limited != opens-left {
		t.Fatalf("%d denied and %d limited, with %d left of %d", denied, limited, left, denialsPerSecond)
	}
	if code := open("echo"); code != session.CodeLimit {
		t.Fatal("what is granted, while the budget is empty:", code)
	}
	budget.SetLimit(denialsPerSecond)
	eventually(t, "the budget is refilled", patience, func() bool { return open("echo") == 0 })
	b.stop() // what is still being counted is written at the end
	total, records := 0, 0
	log, err := audit.NewReader(b.disk, b.key.NodeID(), b.w.id)
	ok(t, err)
	for r, err := range log.Query(t.Context(), audit.Filter{From: before, Code: string(audit.StreamDeny)}) {
		ok(t, err)
		records++
		total += max(1, int(r.Event.Count))
	}
	if total < opens+2 || records > 11*(int(time.Since(began).Seconds())+2) {
		t.Fatalf("%d records count %d denials, of at least %d", records, total, opens+2)
	}
}

// hangingDisk waits in every Sync while it is held.
type hangingDisk struct {
	*durable.Mem
	held sync.RWMutex
}

func (d *hangingDisk) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := d.Mem.OpenFile(name, flag, perm)
	return hangingFile{f, d}, err
}

type hangingFile struct {
	durable.File
	d *hangingDisk
}

func (f hangingFile) Sync() error {
	f.d.held.RLock()
	defer f.d.held.RUnlock()
	return f.File.Sync()
}

// A denial whose record waits for the disk keeps its place among the peer's streams, so that they are bounded while a disk hangs.
func TestDenialsKeepTheirPlaceWhileTheDiskHangs(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	disk := &hangingDisk{Mem: durable.NewMem()}
	b.hangs = disk
	a.run()
	b.run()
	l := full(a, b)
	disk.held.Lock()
	free := sync.OnceFunc(disk.held.Unlock)
	defer free()
	var wg sync.WaitGroup
	const opens = 5
	errs := make(chan error, opens)
	for i := range opens {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			// Each another name: of those alike the log waits for the first few only.
			_, _, err := a.openStream(ctx, l, Target{Node: b.key.NodeID(), Service: fmt.Sprint("guess-", i)}, &session.Early{})
			errs <- err
		})
	}
	eventually(t, "all have a place", patience, func() bool { return b.streams.count(a.key.NodeID()) == opens })
	free()
	wg.Wait()
	for range opens {
		if re, ok := errors.AsType[*session.RefusedError](<-errs); !ok || re.Code != session.CodeNotAdmitted {
			t.Fatal(re)
		}
	}
	eventually(t, "places are given back", patience, func() bool { return b.streams.count(a.key.NodeID()) == 0 })
}

func TestDenialBudgets(t *testing.T) {
	var d denials
	now := time.Now()
	id := keys.NewSigningKey().NodeID()
	for i := range denialsPerSecond {
		if !d.left(id, now) || !d.take(id, now) {
			t.Fatal(i)
		}
	}
	if d.left(id, now) || d.take(id, now) {
		t.Fatal("no budget")
	}
	if other := keys.NewSigningKey().NodeID(); !d.left(other, now) || !d.take(other, now) {
		t.Fatal("one peer's denials are another's")
	}
	if !d.left(id, now.Add(time.Second)) {
		t.Fatal("not refilled")
	}
	for range 2 * denialPeers {
		now = now.Add(time.Second)
		d.take(keys.NewSigningKey().NodeID(), now)
	}
	if n := len(d.of); n > denialPeers {
		t.Fatalf("%d budgets", n)
	}
}

func TestEnrolmentPlaces(t *testing.T) {
	addr := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	invite := func(i int) identity.InviteID { return identity.InviteID{byte(i), byte(i >> 8)} }
	for name, tc := range map[string]struct {
		src    func(i int) netip.Addr
		invite func(i int) identity.InviteID
		most   int
	}{
		"in all":         {func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i), 1}) }, invite, maxEnrolments},
		"one address":    {func(int) netip.Addr { return addr("192.0.2.1") }, invite, maxEnrolmentsSource},
		"mapped":         {func(i int) netip.Addr { return addr([]string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2]) }, invite, maxEnrolmentsSource},
		"one /64":        {func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}) }, invite, maxEnrolmentsSource},
		"one link":       {func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(i)}) }, invite, maxEnrolments},
		"one link-local": {func(i int) netip.Addr { return addr("fe80::1%eth0").WithZone(string('a' + rune(i))) }, invite, maxEnrolmentsSource},
		"no address":     {func(int) netip.Addr { return netip.Addr{} }, invite, maxEnrolmentsSource},
		"one invite": {
			func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i), 1}) }, func(int) identity.InviteID { return invite(0) },
			maxEnrolmentsInvite,
		},
	} {
		var e enrolments
		var leave []func()
		for i := range 100 {
			if out, ok := e.enter(tc.src(i), tc.invite(i)); ok {
				leave = append(leave, out)
			}
		}
		if len(leave) != tc.most {
			t.Errorf("%s: %d places, want %d", name, len(leave), tc.most)
		}
		for _, out := range slices.Concat(leave, leave) { // twice is once
			out()
		}
		if e.total != 0 || len(e.bySource) != 0 || len(e.byInvite) != 0 {
			t.Errorf("%s: left behind: %+v", name, &e)
		}
	}
}

// Invites held open from one host take its own places only, and one newcomer too many is told so.
func TestEnrolmentSessionsAreBounded(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	host := otherSource()
	from := func(cfg JoinConfig, src net.Addr) JoinConfig {
		cfg.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			d := net.Dialer{LocalAddr: src}
			return d.DialContext(ctx, "tcp", to.String())
		}
		return cfg
	}
	inside, out := make(chan struct{}, maxEnrolmentsSource), make(chan struct{})
	var wg sync.WaitGroup
	for i := range maxEnrolmentsSource {
		cfg := from(joining(keys.NewSigningKey(), nas.invite("n"+string(rune('a'+i)))), host)
		cfg.Confirm = func(Offer) bool {
			inside <- struct{}{}
			<-out
			return false
		}
		wg.Go(func() { Join(t.Context(), cfg) })
	}
	for range maxEnrolmentsSource {
		<-inside
	}
	key, inv := keys.NewSigningKey(), nas.invite("late")
	_, err := Join(t.Context(), from(joining(key, inv), host))
	if err == nil || !strings.Contains(err.Error(), "too many machines") || nas.Counters()["enrolment.limit"] != 1 {
		t.Fatal(err, nas.Counters()["enrolment.limit"])
	}
	_, err = Join(t.Context(), joining(key, inv))
	ok(t, err)
	close(out)
	wg.Wait()
	eventually(t, "places are given back", patience, func() bool {
		nas.guards.enrolments.mu.Lock()
		defer nas.guards.enrolments.mu.Unlock()
		return nas.guards.enrolments.total == 0
	})
}

// A newcomer that takes each record at the last moment does not stay longer than any other.
func TestSlowNewcomerIsCutOff(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	for range 20 {
		w.allow(nas, nas, "x")
	}
	node := keys.NewSigningKey().NodeID()
	inv := nas.invite("gpu1")
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := keys.NewSession(keys.SuiteChaCha, 0, keys.TrafficKeyFromBytes(make([]byte, 32)), keys.TrafficKeyFromBytes(make([]byte, 32)), keys.Hash{})
		res := &handshake.Result{Keys: s, Role: keys.RoleAcceptor, Enroll: true, Invite: inv.ID, Peer: &handshake.Peer{Node: node}}
		asked := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			nas.serveEnrolment(context.Background(), ours, res, netip.MustParseAddrPort("192.0.2.1:1"))
		}()
		ctl := session.NewControl(theirs, s, keys.RoleDialer)
		want := wire.MustMarshal(struct {
			_        struct{} `cbor:",toarray"`
			Kind     uint64
			Issuer   keys.PublicKey
			From, To uint64
		}{Kind: trust.KindWant, Issuer: w.issuer.Public(), From: 1, To: 20})
		records := 0
		for {
			if _, _, err := ctl.Receive(); err != nil {
				break
			}
			if records++; records == 2 { // its roots and its vector
				ok(t, ctl.Send(session.RecordControl, want))
				asked = time.Now()
			}
			time.Sleep(5 * time.Second)
		}
		<-done
		if d := time.Since(asked); records < 4 || d > enrolTime+5*time.Second {
			t.Fatalf("stayed %v for %d records", d, records)
		}
		theirs.Close()
	})
}

// A newcomer is told some peers, at most so many, and none that is revoked.
func TestGrantedPeersAreBounded(t *testing.T) {
	w := newWorld(t)
	gone := w.member("gone")
	var members []*host
	for range maxGrantedPeers + 10 {
		members = append(members, w.member("m"+string(rune('a'+len(members)%26))+string(rune('a'+len(members)/26))))
	}
	w.sign(trust.OpRevokeNode{Node: gone.key.NodeID()})
	a := w.member("a").run()
	a.mu.Lock()
	a.records[gone.key.NodeID()] = []byte("gone")
	a.mu.Unlock()
	has := func() bool {
		return slices.ContainsFunc(a.peerRecords(), func(r []byte) bool { return string(r) == "gone" })
	}
	if n := len(a.peerRecords()); n != 1 || has() {
		t.Fatalf("%d records, the revoked peer's among them: %v", n, has())
	}
	a.mu.Lock()
	for _, m := range members {
		a.records[m.key.NodeID()] = []byte{1}
	}
	a.mu.Unlock()
	if n := len(a.peerRecords()); n != maxGrantedPeers || has() {
		t.Fatalf("%d records, want %d", n, maxGrantedPeers)
	}
}
