package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/internal/forward"
)

// ServerConfig configures a Server.
type ServerConfig struct {
	Backend Backend
	// Owner is the uid that may change things, as may root.
	Owner uint32
	// ReadGroup is the gid whose members may read; nil for nobody but the owner and root.
	ReadGroup *uint32
	// Credentials tells who is at the other end of a connection; nil is PeerCredentials.
	Credentials func(net.Conn) (Credentials, error)
	// LocalUser tells who holds the client's socket of a loopback connection; nil is forward.PeerUID.
	LocalUser func(net.Conn) (uint32, error)
	// Log receives refused callers and broken requests; nil for none.
	Log *slog.Logger
}

// Server serves the local API.
type Server struct {
	cfg ServerConfig // immutable, defaults filled in

	verifying struct{ owner, others chan struct{} } // one verification of the audit log at a time for each
	held      chan struct{}                         // slots of connect and stream
	profiling chan struct{}                         // the one profile at a time

	mu        sync.Mutex
	listeners map[*heldListener]struct{}
}

// NewServer makes a server. It starts nothing.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Credentials == nil {
		cfg.Credentials = PeerCredentials
	}
	if cfg.LocalUser == nil {
		cfg.LocalUser = forward.PeerUID
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, held: make(chan struct{}, maxHeld), profiling: make(chan struct{}, 1), listeners: map[*heldListener]struct{}{}}
	s.verifying.owner, s.verifying.others = make(chan struct{}, 1), make(chan struct{}, 1)
	return s
}

// Run serves ln, which it closes, until ctx ends. It returns after every handler has; running answers get drainTimeout, held
// connections are aborted at once. The error is nil after ctx ended.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var inside turnstile
	defer inside.shut()
	routes := s.routes()
	hs := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !inside.enter() {
				writeError(w, http.StatusServiceUnavailable, stopping())
				return
			}
			defer inside.leave()
			defer s.recover(w)
			routes.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       connContext,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, done := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer done()
		if hs.Shutdown(drain) != nil {
			hs.Close()
		}
	})
	g := s.gate(ln)
	defer g.refusals.Wait()
	err := hs.Serve(g)
	if stop() {
		// The listener failed by itself.
		cancel()
		hs.Close()
		return err
	}
	<-stopped
	return nil
}

func stopping() *Error { return Errorf(NotRunning, "", "the daemon is stopping") }

// turnstile counts the handlers inside. Unlike a WaitGroup it may be entered while somebody waits for it to be empty.
type turnstile struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // made by shut, closed by the last one out
}

func (t *turnstile) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.empty != nil {
		return false
	}
	t.n++
	return true
}

func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.empty != nil {
		close(t.empty)
	}
}

// shut lets nobody in any more and waits for those inside.
func (t *turnstile) shut() {
	t.mu.Lock()
	t.empty = make(chan struct{})
	if t.n == 0 {
		close(t.empty)
	}
	t.mu.Unlock()
	<-t.empty
}

// recover turns a panic of one request into an error of that request.
func (s *Server) recover(w http.ResponseWriter) {
	v := recover()
	if v == nil {
		return
	}
	s.cfg.Log.Error("a request panicked", "panic", v, "stack", string(debug.Stack()))
	writeError(w, http.StatusInternalServerError, Errorf(Failed, "", "the daemon failed on this request; its log tells more"))
}

// handler is one route's work: it returns the document to send, or an error. A nil document means that the handler has written
// the answer itself.
type handler func(w http.ResponseWriter, r *http.Request, by Caller) (Document, error)

// handle wraps a handler in what is common to all: who may call, and how answers are written.
func (s *Server) handle(want access, timeout time.Duration, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by, refusal := s.admit(r, want)
		if refusal != nil {
			s.cfg.Log.Warn("refused a local caller", "uid", callerUID(r), "route", r.Pattern)
			writeError(w, http.StatusForbidden, refusal)
			return
		}
		if timeout > 0 {
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			r = r.WithContext(ctx)
		}
		doc, err := h(w, r, by)
		if err != nil {
			e := AsError(err)
			if e.Code == Interrupted {
				// Nobody interrupts the daemon's side but its own end; if the client has gone, it does not read this.
				e = stopping()
			}
			writeError(w, e.Code.status(), e)
			return
		}
		if doc != nil {
			writeDocument(w, http.StatusOK, doc)
		}
	})
}

// callerUID is the uid for the log; -1 if unknown.
func callerUID(r *http.Request) int64 {
	if p, ok := r.Context().Value(proofKey{}).(proof); ok && p.err == nil {
		return int64(p.cred.UID)
	}
	return -1
}

// decode reads a request's body into v: JSON, bounded, with known fields only. A field this version does not know could be one
// that changes the meaning ("dry_run"), so it is refused rather than ignored.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return Errorf(Usage, "", "the body must be application/json")
	}
	most := int64(maxBody)
	if long, ok := v.(interface{ most() int64 }); ok {
		most = long.most()
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Errorf(Usage, "", "more than one JSON value in the body")
	}
	// Held connections have no deadline of their own.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	return nil
}

func badBody(err error) error {
	if long, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Errorf(Usage, "", "the request is longer than %d bytes", long.Limit)
	}
	return Errorf(Usage, "client and daemon may differ in version: meshkey version", "the request is not understood: %w", err)
}

// stamp sets the schema of a document.
func stamp(d Document) { d.envelope().Schema = d.SchemaName() }

// WriteDocument writes a document as one line of JSON, with its schema set.
func WriteDocument(w io.Writer, d Document) error {
	stamp(d)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(d)
}

func writeDocument(w http.ResponseWriter, status int, d Document) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	WriteDocument(w, d) // the client is gone if this fails
	http.NewResponseController(w).SetWriteDeadline(time.Time{})
}

func writeError(w http.ResponseWriter, status int, e *Error) {
	writeDocument(w, status, &ErrorDocument{Error: e})
}
