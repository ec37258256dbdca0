package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Credentials is what the kernel tells about the process at the other end of a unix socket, as of its connect.
type Credentials struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
	PID    int32    // 0 if unknown
}

// inGroup reports whether the process is in the group.
func (c Credentials) inGroup(gid uint32) bool { return c.GID == gid || slices.Contains(c.Groups, gid) }

// PeerCredentials asks the kernel. It fails for anything but a unix socket, and then nobody is served.
func PeerCredentials(c net.Conn) (Credentials, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Credentials{}, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Credentials{}, err
	}
	var cred Credentials
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = peerCredentials(int(fd)) }); err != nil {
		return Credentials{}, err
	}
	if credErr != nil {
		return Credentials{}, credErr
	}
	return cred, nil
}

// access is the class of a route.
type access int

const (
	read  access = iota // the owner, root, and the reading group
	write               // the owner and root
)

// proof is the result of the credential look-up of one connection. An error in it refuses every request.
type proof struct {
	cred Credentials
	err  error
}

// gate accepts connections, finds out whose they are, once, and bounds how many there are: those of the owner and root apart
// from all others, so that readers cannot keep the owner from a revocation. Refusing waits for the client, so it is done aside: the
// next connection in the queue may be the owner's.
type gate struct {
	net.Listener
	server   *Server
	owners   class
	others   class
	refusals sync.WaitGroup
}

// class is the places of some callers.
type class struct {
	served  chan struct{}
	refused chan struct{} // being told that there is no place
}

func newClass(conns int) class {
	return class{make(chan struct{}, conns), make(chan struct{}, maxRefusals)}
}

func (s *Server) gate(ln net.Listener) *gate {
	return &gate{Listener: ln, server: s, owners: newClass(maxConns), others: newClass(maxOtherConns)}
}

// knownConn is a connection whose other end is known.
type knownConn struct {
	net.Conn
	proof   proof
	release func()
}

func (c *knownConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// tooMany is said in HTTP, so that the client shows a sentence and not a torn connection. It has a length because what is not read
// of the request makes the socket end in a reset.
func tooMany() string {
	const body = `{"schema":"meshkey.error/1","error":{"code":1,"message":"too many connections to the daemon's socket","next":"close some meshkey connect"}}` + "\n"
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

// Accept returns the next connection that has a place.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		cred, err := g.server.cfg.Credentials(c)
		places := g.others
		if err == nil && g.server.owns(cred.UID) {
			places = g.owners
		}
		select {
		case places.served <- struct{}{}:
			return &knownConn{c, proof{cred, err}, sync.OnceFunc(func() { <-places.served })}, nil
		default:
			g.refuse(c, places)
		}
	}
}

// refuse tells a client that there is no place for it, unless too many are being told already.
func (g *gate) refuse(c net.Conn, places class) {
	select {
	case places.refused <- struct{}{}:
	default:
		c.Close()
		return
	}
	g.refusals.Go(func() {
		defer func() { <-places.refused }()
		defer c.Close()
		// The request is taken in first: to a client that is still writing, a closed socket is all it would see.
		c.SetDeadline(time.Now().Add(refuseTimeout))
		c.Read(make([]byte, maxHeader))
		io.WriteString(c, tooMany())
	})
}

// owns reports whether the process may change things.
func (s *Server) owns(uid uint32) bool { return uid == s.cfg.Owner || uid == 0 }

// proofKey keys the proof in the context of a connection's requests.
type proofKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	if k, ok := c.(*knownConn); ok {
		return context.WithValue(ctx, proofKey{}, k.proof)
	}
	return ctx
}

// admit is the one place that decides who may call a route.
func (s *Server) admit(r *http.Request, want access) (Caller, *Error) {
	p, ok := r.Context().Value(proofKey{}).(proof)
	if !ok {
		return Caller{}, Errorf(Failed, "", "the daemon cannot tell who you are")
	}
	if p.err != nil {
		return Caller{}, Errorf(Failed, "", "the daemon cannot tell who you are: %w", p.err)
	}
	caller := Caller{UID: p.cred.UID, GID: p.cred.GID, PID: p.cred.PID}
	if s.owns(p.cred.UID) {
		return caller, nil
	}
	if s.cfg.ReadGroup != nil && p.cred.inGroup(*s.cfg.ReadGroup) {
		if want == read {
			return caller, nil
		}
		return Caller{}, Errorf(Failed, s.asOwner(), "uid %d may only read here; changes are for uid %d, who runs the daemon", caller.UID, s.cfg.Owner)
	}
	return Caller{}, Errorf(Failed, s.asOwner(), "this daemon belongs to uid %d, you are uid %d", s.cfg.Owner, caller.UID)
}

func (s *Server) asOwner() string { return fmt.Sprintf("sudo -u '#%d' meshkey …", s.cfg.Owner) }
