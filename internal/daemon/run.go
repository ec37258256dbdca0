package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/harden"
	"github.com/sovereignmesh/meshkey/internal/netmon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// Options says how to run. The zero value of a field without a remark is the default.
type Options struct {
	StateDir string // required
	Socket   string // required: path of the control socket
	Version  control.Version

	Listen       []netip.AddrPort // TCP, all on one port; empty: every address, DefaultPort
	BeaconPort   uint16           // shared UDP port; 0: beacon.DefaultPort
	LoopbackOnly bool             // open nothing beyond this machine
	Ignore       []string         // interfaces not to use; nil: netmon.DefaultIgnore
	Include      []string         // exceptions from Ignore
	Endpoints    []netip.AddrPort // announced beside the host's own
	Seeds        []string         // host:port to ask for a beacon
	ReadGroup    *uint32          // gid whose members may read the control socket
	Unrecorded   mesh.Unrecorded  // what to do while the audit log cannot be written
	HeadEvery    time.Duration    // between two heads of an issuer; 0: 300 s

	// Passphrase is asked if the key files are sealed to one.
	Passphrase func() (string, error)
	Keys       KeyOptions
	Log        *slog.Logger // nil: none
	// Ready is called once, when the daemon serves.
	Ready func()
}

// DefaultPort is the TCP port of the mesh.
const DefaultPort = 7477

// reserveBytes is kept on disk so that a revocation can be written when the disk is full.
const reserveBytes = 1 << 20

// Daemon is a running daemon; it answers the local API.
type Daemon struct {
	// immutable after open
	opts    Options
	log     *slog.Logger
	dir     *stateDir
	cert    *identity.SignedCertificate
	meshID  keys.MeshID
	key     *keys.SigningKey
	store   *trust.Store
	audit   *audit.Log
	node    *mesh.Node
	secrets *mesh.Secrets
	unlock  keys.Unlock
	reserve *durable.Reserve
	started time.Time
	server  *control.Server
	stop    context.CancelFunc

	// own is the part of an issuer; nil on a node that has no issuer's key. It is replaced when a key is made.
	own atomic.Pointer[ownIssuer]

	// set once the node is ready, before the control socket serves
	serviceCtx context.Context

	rotating sync.Mutex    // held while the own key changes
	resume   chan struct{} // capacity 1: a rotation was left unfinished
	next     atomic.Int32  // what comes after this run

	issuing  sync.Mutex // held while a number of the own chain is taken and used
	exposing sync.Mutex // held while the set of services changes
	watchers sync.WaitGroup

	svcMu    sync.Mutex
	services map[string]*exposed // guarded by svcMu
}

// Run runs the daemon of a state directory until ctx ends or a client asks it to stop.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := harden.Process(); err != nil {
		o.Log.Warn("the process could not be hardened", "err", err)
	}
	dir, err := openState(o.StateDir)
	if err != nil {
		return err
	}
	defer dir.close()
	if dir.ring, err = openRing(o.Keys); err != nil {
		return err
	}
	if o.Ready != nil {
		o.Ready = sync.OnceFunc(o.Ready)
	}
	for {
		next, err := runOnce(ctx, o, dir.again())
		switch {
		case err != nil:
			return err
		case next == nextLeave:
			kept, err := dir.leave()
			if err == nil {
				o.Log.Info("this node has left its mesh", "kept", kept)
			}
			return err
		case next == nextStop || ctx.Err() != nil:
			return nil
		}
		o.Log.Info("starting again with another key")
	}
}

// What comes after a run of the daemon.
const (
	nextStop  = iota
	nextAgain // another one: the node's key has changed
	nextLeave // nothing: this host is no member any more
)

// runOnce runs the daemon until ctx ends, a client asks it to stop, or its own membership has changed.
func runOnce(ctx context.Context, o Options, dir *stateDir) (next int32, err error) {
	defer dir.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &Daemon{opts: o, log: o.Log, dir: dir, started: time.Now(), stop: stop, resume: make(chan struct{}, 1), services: map[string]*exposed{}}
	if err := d.open(); err != nil {
		return nextStop, err
	}
	err = d.run(ctx)
	return d.next.Load(), err
}

// open reads everything the daemon is made of.
func (d *Daemon) open() error {
	if err := d.dir.finishRotation(); err != nil {
		return err
	}
	m, cert, err := d.dir.readMember()
	if err != nil {
		return err
	}
	d.cert, d.meshID = cert, m.Mesh
	if err := d.dir.dropAnswered(cert); err != nil {
		return err
	}
	unlock := d.dir.unlock(d.opts.Passphrase)
	d.unlock = unlock
	k, err := keys.ReadKeyFile(d.dir.fs, fileNode, keys.KindNode, m.Mesh, unlock)
	if err != nil {
		return d.dir.keyError(fileNode, err)
	}
	if d.key, err = k.SigningKey(); err != nil {
		return err
	}
	if d.key.NodeID() != cert.Node {
		return fmt.Errorf("%s is not the key of this node's certificate: restore it from a backup", d.dir.file(fileNode))
	}
	tfs, err := d.dir.sub(dirTrust)
	if err != nil {
		return err
	}
	v := d.opts.Version
	kept := trust.Cache{Key: d.key, Program: v.Version + " " + v.Commit + " " + v.Go, Log: d.log}
	if d.store, err = trust.OpenCached(tfs, m.Mesh, kept); err != nil {
		return err
	}
	d.dir.keep(d.store)
	afs, err := d.dir.sub(dirAudit)
	if err != nil {
		return err
	}
	if d.audit, err = audit.Open(afs, d.key, m.Mesh, audit.Options{Previous: m.previous(), AllowDegraded: true, Logger: d.log}); err != nil {
		return err
	}
	d.dir.keep(d.audit)
	if d.reserve, err = durable.OpenReserve(d.dir.fs, "reserve", reserveBytes); err != nil {
		d.log.Warn("no reserve of disk space; a revocation may fail when the disk is full", "err", err)
		d.reserve = nil
	}
	if err := d.openIssuer(unlock); err != nil {
		return err
	}
	return d.openNode(m, unlock)
}

func (d *Daemon) openNode(m *member, unlock keys.Unlock) error {
	held, err := d.dir.groupSecrets(m.Mesh, unlock)
	if err != nil {
		return err
	}
	if held, err = d.committed(held); err != nil {
		return err
	}
	if d.secrets, err = mesh.NewSecrets(m.Mesh, d.saveGroup, held...); err != nil {
		return err
	}
	epoch, err := d.dir.nextEpoch(time.Now())
	if err != nil {
		return err
	}
	network, err := mesh.NewHostNetwork(d.network())
	if err != nil {
		return err
	}
	var issuer *enroll.Issuer
	if o := d.own.Load(); o != nil {
		issuer = o.enroll
	}
	cfg := mesh.Config{
		Key: d.key, Certificate: d.cert, Secrets: d.secrets, Trust: d.store, Audit: d.audit, Network: network, State: d.dir.fs,
		Epoch: epoch, AES: hasAES(), Issuer: issuer, Endpoints: d.opts.Endpoints, Peers: m.Peers, Seeds: d.opts.Seeds,
		Version: d.opts.Version.Version, Save: d.saveCertificate, Health: d.hostHealth, Leaving: d.leaving, Log: d.log, Unrecorded: d.opts.Unrecorded,
	}
	rand.Read(cfg.Boot[:])
	rand.Read(cfg.Seed[:])
	d.node, err = mesh.New(cfg)
	return err
}

// network is the host's network as the options want it.
func (d *Daemon) network() mesh.HostNetwork {
	h := mesh.HostNetwork{
		At:         slices.Clone(d.opts.Listen),
		Beacons:    beacon.Config{Port: d.opts.BeaconPort, LoopbackOnly: d.opts.LoopbackOnly},
		Interfaces: netmon.Config{Ignore: d.opts.Ignore, Include: d.opts.Include},
	}
	if d.opts.LoopbackOnly {
		h.Interfaces.Loopback = netmon.OnlyLoopback
	}
	if len(h.At) == 0 {
		at := netip.AddrPortFrom(netip.Addr{}, DefaultPort)
		if d.opts.LoopbackOnly {
			at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), DefaultPort)
		}
		h.At = []netip.AddrPort{at}
	}
	return h
}

func hasAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
}

// run serves until ctx ends. What was started last ends first; the audit log ends last, with a checkpoint.
func (d *Daemon) run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(d.opts.Socket), 0o700); err != nil {
		return err
	}
	sock, err := control.Listen(d.opts.Socket, d.opts.ReadGroup)
	if err != nil {
		return err
	}
	defer sock.Close()
	d.server = control.NewServer(control.ServerConfig{
		Backend: control.Backend{View: d, Offer: d, Policy: d, Invites: d, Audit: d, Connect: d, Process: d, Roots: d, Life: d},
		Owner:   uint32(os.Getuid()), ReadGroup: d.opts.ReadGroup, Log: d.log,
	})
	if _, err := d.audit.Append(audit.Event{Code: audit.DaemonStart, Actor: uidName(uint32(os.Getuid())), Target: d.opts.Version.Version}); err != nil {
		d.log.Error("the audit log cannot be written; no new streams until it can", "err", err)
	}

	// The stores outlive the node, so that its last words are kept.
	stores, endStores := context.WithCancel(context.WithoutCancel(ctx))
	var wg, inner sync.WaitGroup
	errs := make(chan error, 8)
	wg.Go(func() { errs <- named("the audit log", d.audit.Run(stores)) })
	wg.Go(func() { errs <- named("the trust log", d.store.Run(stores)) })

	nctx, endNode := context.WithCancel(ctx)
	failed := make(chan error, 3)
	inner.Go(func() { failed <- named("the mesh node", d.node.Run(nctx)) })
	inner.Go(func() {
		select {
		case <-d.node.Ready():
		case <-nctx.Done():
			return
		}
		d.startServices(nctx)
		if d.opts.Ready != nil {
			d.opts.Ready()
		}
		failed <- named("the control socket", d.server.Run(nctx, sock))
	})
	inner.Go(func() { d.selfCheck(nctx) })
	inner.Go(func() { d.keepHeads(nctx) })
	inner.Go(func() { d.resumeRotation(nctx) })
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	endNode()
	inner.Wait()
	d.watchers.Wait()
	if _, aerr := d.audit.Append(audit.Event{Code: audit.DaemonStop, Duration: time.Since(d.started)}); aerr != nil {
		d.log.Error("the stop was not recorded", "err", aerr)
	}
	endStores()
	wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

func named(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// append writes own trust ops: durable first, from the reserve if the disk is full, then spread.
func (d *Daemon) append(ops ...trust.Op) (trust.Change, error) {
	return d.appendThen(func(trust.Change) {}, ops...)
}

// appendThen runs then between the writing and the spreading.
func (d *Daemon) appendThen(then func(trust.Change), ops ...trust.Op) (trust.Change, error) {
	signer := d.signer()
	if signer == nil {
		return trust.Change{}, errNotIssuer()
	}
	var c trust.Change
	write := func() (err error) {
		c, err = d.store.AppendOwn(signer, d.trustNow(), ops...)
		return err
	}
	var err error
	if d.reserve != nil {
		err = d.reserve.Do(write)
	} else {
		err = write()
	}
	if errors.Is(err, trust.ErrNotIssuer) {
		err = control.Errorf(control.Denied, "meshkey root show", "%w", err)
	}
	if err != nil {
		return trust.Change{}, err
	}
	then(c)
	d.node.Publish(c)
	return c, nil
}

func (d *Daemon) trustNow() int64 { return d.store.Now(time.Now().Unix()) }

func uidName(uid uint32) string { return fmt.Sprintf("uid:%d", uid) }
