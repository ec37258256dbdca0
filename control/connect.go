package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereignmesh/meshkey/internal/forward"
)

// streamProtocol is the upgrade of pathStream.
const streamProtocol = "meshkey-stream/1"

// hold takes a slot for a request that may last.
func (s *Server) hold() (release func(), err error) {
	select {
	case s.held <- struct{}{}:
		return func() { <-s.held }, nil
	default:
		return nil, Errorf(Failed, "close some meshkey connect", "%d connects are open", maxHeld)
	}
}

// prepare decodes a connect and finds its service. If our own copy of the grants says no, the peer is asked all the same: its
// refusal has the number of its audit record, and it may know newer grants than we do.
func (s *Server) prepare(w http.ResponseWriter, r *http.Request, by Caller) (*ConnectRequest, *Endpoint, error) {
	req := &ConnectRequest{}
	if err := decode(w, r, req); err != nil {
		return nil, nil, err
	}
	if err := req.check(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	e, err := s.cfg.Backend.Connect.Resolve(ctx, req.Target)
	if unasked(err) {
		var stream forward.Stream
		if stream, err = s.cfg.Backend.Connect.Open(ctx, by, req.Target, nil); err == nil {
			stream.Abort()
			stream.Close()
			// The peer lets us in, so only our copy of the grants is old.
		}
	}
	if err == nil && e == nil {
		err = Errorf(Failed, "", "the daemon has no answer")
	}
	return req, e, err
}

// unasked reports a denial that only our own grants speak: one with the number of an audit record is the peer's word already.
func unasked(err error) bool {
	e := AsError(err)
	return e != nil && e.Code == Denied && (e.Denial == nil || e.Denial.Audit == "")
}

// connect holds a listener while the client's connection lives, and tells what happens at it.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, by Caller) (Document, error) {
	release, err := s.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	req, e, err := s.prepare(w, r, by)
	if err != nil {
		return nil, err
	}
	allow, err := s.localCheck(req)
	if err != nil {
		return nil, err
	}
	ln, note, err := listenFor(r.Context(), listenTCP, runtime.GOOS == "linux", req.Listen, e)
	if err != nil {
		return nil, err
	}
	h := s.keep(ln, req.Target)
	defer s.forget(h)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &eventWriter{w: w, rc: http.NewResponseController(w), stop: cancel}
	defer out.end()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	out.send(&ConnectEvent{Event: "listening", Listen: ln.Addr().String(), Target: req.Target, HTTP: e.HTTP, Note: note, Warnings: e.Warnings})
	entrance := &forward.Entrance{
		Allow: allow,
		Open: func(ctx context.Context, first func([]byte) int) (forward.Stream, error) {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			return s.cfg.Backend.Connect.Open(ctx, by, req.Target, first)
		},
		Event: func(ev forward.Event) {
			h.count(ev)
			if ev.Kind == "open" {
				out.later(connectEvent(ev))
			} else {
				out.send(connectEvent(ev))
			}
		},
	}
	if err := entrance.Serve(ctx, ln); err != nil {
		out.send(&ConnectEvent{Event: "failed", Error: AsError(err)})
	}
	return nil, nil
}

// localCheck makes the check of who may use the entrance.
func (s *Server) localCheck(req *ConnectRequest) (func(net.Conn) error, error) {
	if req.AnyUser {
		return func(net.Conn) error { return nil }, nil
	}
	if !forward.KnowsUsers() {
		return nil, Errorf(Failed, "use --stdio, or --any-user if nobody else has an account here",
			"this system does not tell which user a local connection comes from")
	}
	return forward.OwnerOnly(s.cfg.LocalUser, append(slices.Clone(req.AllowUIDs), s.cfg.Owner)...), nil
}

func connectEvent(ev forward.Event) *ConnectEvent {
	out := &ConnectEvent{Event: ev.Kind, BytesIn: ev.Result.In, BytesOut: ev.Result.Out}
	if ev.From != nil {
		out.From = ev.From.String()
	}
	switch {
	case ev.Err == nil:
	case errors.Is(ev.Err, forward.ErrWrongUser):
		out.Error = Errorf(Failed, "--allow-uid lets that user in", "%w", ev.Err)
	case errors.Is(ev.Err, forward.ErrUnknownUser):
		out.Error = Errorf(Failed, "--any-user lets everybody on this machine in", "%w", ev.Err)
	default:
		out.Error = AsError(ev.Err)
	}
	return out
}

// eventWriter sends events, one line each, from many goroutines, in their order. A client that does not read ends its connect.
type eventWriter struct {
	// immutable
	w    io.Writer
	rc   *http.ResponseController
	stop func()

	mu     sync.Mutex
	failed bool // or over
	held   []*ConnectEvent
}

// send sends what is held and then this.
func (o *eventWriter) send(ev *ConnectEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = append(o.held, ev)
	o.flushLocked()
}

// later sends ev within eventDelay, or with the next one: the first bytes of a stream do not wait for a client to be told of it.
func (o *eventWriter) later(ev *ConnectEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held = append(o.held, ev); len(o.held) == 1 {
		time.AfterFunc(eventDelay, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.flushLocked()
		})
	}
}

// end sends what is held; nothing is sent any more.
func (o *eventWriter) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushLocked()
	o.failed = true
}

func (o *eventWriter) flushLocked() {
	held := o.held
	o.held = nil
	if o.failed || len(held) == 0 {
		return
	}
	o.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	var err error
	for _, ev := range held {
		if err == nil {
			err = WriteDocument(o.w, ev)
		}
	}
	if err == nil {
		err = o.rc.Flush()
	}
	if err != nil {
		o.failed = true
		o.stop()
	}
}

// heldListener is one listener held for a client, for status.
type heldListener struct {
	listen, target  string // immutable
	since           time.Time
	active          atomic.Int64
	total, refusals atomic.Uint64
}

func (h *heldListener) count(ev forward.Event) {
	switch ev.Kind {
	case "open":
		h.active.Add(1)
		h.total.Add(1)
	case "close":
		h.active.Add(-1)
	case "refused":
		h.refusals.Add(1)
	}
}

func (s *Server) keep(ln net.Listener, target string) *heldListener {
	h := &heldListener{listen: ln.Addr().String(), target: target, since: time.Now().UTC()}
	s.mu.Lock()
	s.listeners[h] = struct{}{}
	s.mu.Unlock()
	return h
}

func (s *Server) forget(h *heldListener) {
	s.mu.Lock()
	delete(s.listeners, h)
	s.mu.Unlock()
}

// connections lists what is held, by address.
func (s *Server) connections() []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Connection
	for h := range s.listeners {
		out = append(out, Connection{
			Listen: h.listen, Target: h.target, Since: h.since,
			Active: int(h.active.Load()), Total: h.total.Load(), Refused: h.refusals.Load(),
		})
	}
	slices.SortFunc(out, func(a, b Connection) int { return strings.Compare(a.Listen, b.Listen) })
	return out
}

// stream joins the client's own connection to a stream. Errors come before the upgrade, as for any request.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, by Caller) (Document, error) {
	if r.Header.Get("Upgrade") != streamProtocol {
		return nil, Errorf(Usage, "", "this path needs Upgrade: %s", streamProtocol)
	}
	release, err := s.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	req := &ConnectRequest{}
	if err := decode(w, r, req); err != nil {
		return nil, err
	}
	if err := req.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	stream, err := s.cfg.Backend.Connect.Open(ctx, by, req.Target, nil)
	if err != nil {
		return nil, err
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		stream.Abort()
		stream.Close()
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(writeTimeout))
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+streamProtocol+"\r\n\r\n")
	if err != nil {
		stream.Abort()
		stream.Close()
		conn.Close()
		return nil, nil
	}
	conn.SetDeadline(time.Time{})
	// A hijacked request's context ends with Run, no longer with the connection; that shows in reading and writing it.
	forward.Splice(r.Context(), newSpliced(conn, buf.Reader), stream)
	return nil, nil
}
