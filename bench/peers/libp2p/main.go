// Command libp2p forwards TCP over go-libp2p, with Noise and yamux over TCP, for the benchmark to compare with:
//
//	libp2p serve LISTEN TARGET          prints its address, /ip4/…/p2p/…, and joins each stream to a new connection to TARGET
//	libp2p connect ADDRESS LISTEN       joins each connection to LISTEN to a new stream to the peer
//
// Everything is at the library's defaults except that only this one transport, security and muxer are there, and that the resource
// manager's limits are off, which a thousand streams of one peer would meet.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

const proto protocol.ID = "/bench/1"

// bufferSize is what the other forwarders read at once.
const bufferSize = 256 << 10

func main() {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == "connect":
		err = connect(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: libp2p serve MULTIADDR TARGET | libp2p connect MULTIADDR LISTEN")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func node(listen ...string) (host.Host, error) {
	return libp2p.New(
		libp2p.ListenAddrStrings(listen...), libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport), libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableRelay(),
	)
}

func serve(listen, target string) error {
	h, err := node(listen)
	if err != nil {
		return err
	}
	h.SetStreamHandler(proto, func(s network.Stream) {
		c, err := net.Dial("tcp", target)
		if err != nil {
			s.Reset()
			return
		}
		join(c.(*net.TCPConn), s)
	})
	fmt.Printf("%s/p2p/%s\n", h.Addrs()[0], h.ID())
	select {}
}

func connect(address, listen string) error {
	a, err := multiaddr.NewMultiaddr(address)
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return err
	}
	h, err := node()
	if err != nil {
		return err
	}
	if err := h.Connect(context.Background(), *info); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			s, err := h.NewStream(context.Background(), info.ID, proto)
			if err != nil {
				c.Close()
				return
			}
			join(c.(*net.TCPConn), s)
		}()
	}
}

func join(c *net.TCPConn, s network.Stream) {
	defer c.Close()
	defer s.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if copyAll(s, c) != nil {
			s.Reset()
		}
		s.CloseWrite()
	}()
	if copyAll(c, s) != nil {
		c.SetLinger(0)
		c.Close()
	}
	c.CloseWrite()
	<-done
}

// copyAll hides ReadFrom and WriteTo: with them io.Copy would take 32 KiB at a time.
func copyAll(dst io.Writer, src io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, bufferSize))
	return err
}
