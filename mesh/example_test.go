package mesh_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/netmon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// Two nodes in one process, on loopback: one offers a service, the other is granted it and uses it. Any program that works with
// net.Listener and net.Conn works over them unchanged.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	gpu, laptop, wait := twoNodes(ctx)
	defer wait()
	defer stop()

	// On gpu: offer a service, and greet each caller by the name its key has in the trust log.
	ln, err := gpu.Listen(ctx, "hello")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			who, _ := mesh.Peer(c)
			fmt.Fprintf(c, "hello %s, you came by %s\n", who.Name, who.Grant)
			c.Close()
		}
	}()

	// On laptop: use it.
	c, err := laptop.Dial(ctx, "gpu/hello")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	answer, err := io.ReadAll(c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(answer))

	// What is not granted cannot be opened.
	if _, err := laptop.Dial(ctx, "gpu/secrets"); err != nil {
		fmt.Println("gpu/secrets: refused")
	}
	// Output:
	// hello laptop, you came by g-1
	// gpu/secrets: refused
}

// twoNodes founds a mesh of two nodes and runs them until ctx ends. A daemon keeps all this in a state directory; here it is in memory.
func twoNodes(ctx context.Context) (gpu, laptop *mesh.Node, wait func()) {
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	now := time.Now().Unix()
	root, issuer := keys.NewSigningKey(), keys.NewSigningKey()
	genesis, id, err := trust.NewGenesis(trust.GenesisConfig{
		Name: "example", Issued: now, Keys: []trust.RootKey{{Pub: root.Public(), Name: "root"}},
		Issuers: []trust.Issuer{{
			ID: issuer.Public(), Caps: trust.CapEnroll | trust.CapGrant, MaxTTL: 86400, NotAfter: now + 86400, Name: "issuer",
		}},
		GroupIssuer: issuer.Public(),
	}, root)
	must(err)
	secret := keys.NewGroupSecret(1)

	// One entry of the trust log enrols both and lets laptop use gpu/hello.
	ops := []trust.Op{trust.OpGroup{Generation: 1, Commit: secret.Commitment(id)}}
	var node []*keys.SigningKey
	var certs []*identity.SignedCertificate
	for i, name := range []string{"gpu", "laptop"} {
		key := keys.NewSigningKey()
		cert, err := identity.IssueCertificate(identity.Certificate{
			Mesh: id, Node: key.NodeID(), Serial: uint64(i) + 1, Issuer: issuer.Public(), NotBefore: now, NotAfter: now + 3600, Name: name,
		}, issuer)
		must(err)
		node, certs = append(node, key), append(certs, cert)
		ops = append(ops, trust.EnrollOp(cert))
	}
	ops = append(ops, trust.OpGrant{
		GID: 1, Who: trust.NodeTarget(node[1].NodeID()), What: trust.What{Target: trust.NodeTarget(node[0].NodeID()), Service: "hello"},
	})

	var wg sync.WaitGroup
	var nodes []*mesh.Node
	var entry []byte
	var port [1]byte
	rand.Read(port[:])
	for i := range node {
		disk := durable.NewMem()
		must(trust.Create(disk, genesis, nil, nil))
		store, err := trust.Open(disk, id)
		must(err)
		if i == 0 {
			_, err = store.AppendOwn(issuer, now, ops...)
			must(err)
			entry = store.Entry(issuer.Public(), 1)
		} else {
			e, err := trust.ParseEntry(entry, id)
			must(err)
			_, err = store.ApplyEntry(e, now)
			must(err)
		}
		records, err := audit.Open(durable.NewMem(), node[i], id, audit.Options{})
		must(err)
		secrets, err := mesh.NewSecrets(id, func(keys.GroupSecret) error { return nil }, secret)
		must(err)
		network, err := mesh.NewHostNetwork(mesh.HostNetwork{
			At:         []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
			Beacons:    beacon.Config{Port: 27000 + uint16(port[0]), LoopbackOnly: true},
			Interfaces: netmon.Config{Loopback: netmon.OnlyLoopback},
		})
		must(err)
		cfg := mesh.Config{
			Key: node[i], Certificate: certs[i], Secrets: secrets, Trust: store, Audit: records, Network: network, State: disk,
			Epoch: uint64(now), Log: slog.New(slog.DiscardHandler),
		}
		rand.Read(cfg.Boot[:])
		rand.Read(cfg.Seed[:])
		n, err := mesh.New(cfg)
		must(err)
		nodes = append(nodes, n)
		wg.Go(func() { must(n.Run(ctx)); must(records.Close()); must(store.Close()) })
		<-n.Ready()
	}
	return nodes[0], nodes[1], wg.Wait
}
