package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The routes. GET reads and may be opened to a group, but for the invites, who waits, and profiles; POST changes and is the owner's.
const (
	pathStatus       = "/v1/status"
	pathPeers        = "/v1/peers"
	pathServices     = "/v1/services"
	pathGrants       = "/v1/grants"
	pathDecision     = "/v1/decision"
	pathVersion      = "/v1/version"
	pathMetrics      = "/v1/metrics"
	pathMetricsText  = "/metrics"
	pathReady        = "/v1/ready"
	pathInvites      = "/v1/invites"
	pathAuditLog     = "/v1/audit/log"
	pathAuditEntry   = "/v1/audit/entry"
	pathAuditVerify  = "/v1/audit/verify"
	pathExpose       = "/v1/expose"
	pathUnexpose     = "/v1/unexpose"
	pathGrant        = "/v1/grant"
	pathUngrant      = "/v1/ungrant"
	pathPolicy       = "/v1/policy"
	pathRevoke       = "/v1/revoke"
	pathRotateGroup  = "/v1/rotate/group"
	pathRotateNode   = "/v1/rotate/node"
	pathLeave        = "/v1/leave"
	pathInvite       = "/v1/invite"
	pathInviteRemove = "/v1/invite/remove"
	pathPending      = "/v1/pending"
	pathApprove      = "/v1/approve"
	pathDeny         = "/v1/deny"
	pathConnect      = "/v1/connect"
	pathStream       = "/v1/stream"
	pathRepin        = "/v1/repin"
	pathShutdown     = "/v1/shutdown"
	pathDoctor       = "/v1/doctor"
	pathResetFloor   = "/v1/doctor/reset-time-floor"
	pathRoot         = "/v1/root"
	pathRootChain    = "/v1/root/chain"
	pathRootAccept   = "/v1/root/accept"
	pathRootCut      = "/v1/root/cut"
	pathKeysIssuer   = "/v1/keys/issuer"
	pathProfile      = "/debug/pprof/{name}"
)

func (s *Server) routes() http.Handler {
	b := &s.cfg.Backend
	mux := http.NewServeMux()
	get := func(path string, want access, timeout time.Duration, h handler) {
		mux.Handle("GET "+path, s.handle(want, timeout, h))
	}
	post := func(path string, timeout time.Duration, h handler) {
		mux.Handle("POST "+path, s.handle(write, timeout, h))
	}
	get(pathStatus, read, answerTimeout, s.status)
	get(pathPeers, read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.View.Peers(r.Context()))
	})
	get(pathServices, read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.View.Services(r.Context()))
	})
	get(pathGrants, read, answerTimeout, s.grants)
	get(pathDecision, read, answerTimeout, s.decision)
	get(pathDoctor, read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.View.Doctor(r.Context()))
	})
	get(pathMetrics, read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.View.Metrics(r.Context()))
	})
	get(pathMetricsText, read, answerTimeout, s.metricsText)
	get(pathVersion, read, answerTimeout, func(http.ResponseWriter, *http.Request, Caller) (Document, error) {
		return b.Process.Version(), nil
	})
	get(pathReady, read, 0, s.ready)
	get(pathProfile, write, 0, s.profile)
	get(pathInvites, write, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.Invites.Invites(r.Context()))
	})
	get(pathPending, write, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.Invites.Pending(r.Context()))
	})
	get(pathAuditLog, read, answerTimeout, s.auditLog)
	get(pathAuditEntry, read, answerTimeout, s.auditEntry)
	get(pathAuditVerify, read, verifyTimeout, s.auditVerify)
	get(pathRoot, read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.Roots.Root(r.Context()))
	})
	get(pathRootChain, read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return answer(b.Roots.RootChain(r.Context()))
	})

	post(pathExpose, answerTimeout, change(b.Offer.Expose))
	post(pathUnexpose, answerTimeout, change(b.Offer.Unexpose))
	post(pathGrant, MaxWait+answerTimeout, change(b.Policy.Grant))
	post(pathUngrant, MaxWait+answerTimeout, change(b.Policy.Ungrant))
	post(pathPolicy, MaxWait+policyTimeout, change(b.Policy.PolicyFile))
	post(pathRevoke, MaxWait+answerTimeout, change(b.Policy.Revoke))
	post(pathRotateGroup, MaxWait+answerTimeout, change(b.Policy.RotateGroup))
	post(pathRotateNode, MaxWait+answerTimeout, change(b.Life.RotateNode))
	post(pathLeave, MaxWait+answerTimeout, change(b.Life.Leave))
	post(pathInvite, answerTimeout, change(b.Invites.CreateInvite))
	post(pathInviteRemove, answerTimeout, change(s.removeInvite))
	post(pathApprove, answerTimeout, change(b.Invites.Approve))
	post(pathDeny, answerTimeout, change(b.Invites.Deny))
	post(pathConnect, 0, s.connect)
	post(pathStream, 0, s.stream)
	post(pathRepin, answerTimeout, change(s.repin))
	post(pathShutdown, answerTimeout, change(s.shutdown))
	post(pathResetFloor, answerTimeout, change(b.Process.ResetTimeFloor))
	post(pathRootAccept, MaxWait+answerTimeout, change(b.Roots.AcceptRoot))
	post(pathRootCut, MaxWait+answerTimeout, change(b.Roots.CutIssuer))
	post(pathKeysIssuer, answerTimeout, change(b.Roots.NewIssuerKey))
	mux.Handle("/", s.handle(read, answerTimeout, func(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
		return nil, Errorf(Usage, "client and daemon may differ in version: meshkey version", "the daemon knows no %s %.100s", r.Method, r.URL.Path)
	}))
	return mux
}

// answer lets a method's results be a handler's; a nil document without an error is the backend's mistake.
func answer[D any, P interface {
	*D
	Document
}](doc P, err error) (Document, error) {
	if err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, Errorf(Failed, "", "the daemon has no answer")
	}
	return doc, nil
}

// checked is a request that knows what is wrong with it.
type checked[R any] interface {
	*R
	check() error
}

// change makes a handler of a backend method: decode, check, call.
func change[R any, PR checked[R], D any, PD interface {
	*D
	Document
}](call func(context.Context, Caller, *R) (PD, error)) handler {
	return func(w http.ResponseWriter, r *http.Request, by Caller) (Document, error) {
		req := PR(new(R))
		if err := decode(w, r, req); err != nil {
			return nil, err
		}
		if err := req.check(); err != nil {
			return nil, err
		}
		return answer(call(r.Context(), by, (*R)(req)))
	}
}

func (s *Server) status(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	st, err := s.cfg.Backend.View.Status(r.Context())
	if err == nil && st != nil {
		st.Connections = s.connections()
	}
	return answer(st, err)
}

func (s *Server) grants(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	q, err := parseQuery(r, "who", "what")
	if err != nil {
		return nil, err
	}
	return answer(s.cfg.Backend.View.Grants(r.Context(), GrantsQuery{Who: q.Get("who"), What: q.Get("what")}))
}

func (s *Server) decision(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	q, err := parseQuery(r, "from", "target", "at")
	if err != nil {
		return nil, err
	}
	at, err := queryTime(q, "at")
	if err != nil {
		return nil, err
	}
	if _, _, err := ParseServiceRef(q.Get("target")); err != nil {
		return nil, err
	}
	if from := q.Get("from"); from != "" {
		switch s, err := ParseSubject(from); {
		case err != nil:
			return nil, err
		case s.Node == "":
			return nil, Errorf(Usage, "meshkey grants --who "+s.String(), "%s is not one machine; a decision is about one", s)
		}
	}
	if !at.IsZero() && (at.Unix() <= 0 || at.Unix() > maxAt) {
		return nil, Errorf(Usage, "", "%s is no time of a decision", at.Format(time.RFC3339))
	}
	return answer(s.cfg.Backend.View.Decide(r.Context(), DecideRequest{From: q.Get("from"), Target: q.Get("target"), At: at}))
}

func (s *Server) ready(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	q, err := parseQuery(r, "wait_ms")
	if err != nil {
		return nil, err
	}
	ms, err := queryNumber(q, "wait_ms", uint64(MaxWait.Milliseconds()))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	if err := s.cfg.Backend.Process.Ready(ctx); err != nil {
		if ctx.Err() != nil && r.Context().Err() == nil {
			return nil, Errorf(Unreachable, "meshkey status", "the daemon is not ready yet")
		}
		return nil, err
	}
	return &Empty{}, nil
}

func (s *Server) auditLog(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	p, err := parseQuery(r, "from", "limit", "last", "since", "until", "code", "actor", "target", "verdict", "log")
	if err != nil {
		return nil, err
	}
	q := AuditQuery{Log: p.Get("log"), Code: p.Get("code"), Actor: p.Get("actor"), Target: p.Get("target"), Verdict: p.Get("verdict"), Last: p.Get("last") == "1"}
	if q.From, err = queryNumber(p, "from", 1<<62); err != nil {
		return nil, err
	}
	n, err := queryNumber(p, "limit", MaxAuditPage)
	if err != nil {
		return nil, err
	}
	if q.Limit = int(n); q.Limit == 0 {
		q.Limit = MaxAuditPage
	}
	if q.Since, err = queryTime(p, "since"); err != nil {
		return nil, err
	}
	if q.Until, err = queryTime(p, "until"); err != nil {
		return nil, err
	}
	return answer(s.cfg.Backend.Audit.Log(r.Context(), q))
}

func (s *Server) auditEntry(_ http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	q, err := parseQuery(r, "index")
	if err != nil {
		return nil, err
	}
	n, err := queryNumber(q, "index", 1<<62)
	if err != nil {
		return nil, err
	}
	return answer(s.cfg.Backend.Audit.Entry(r.Context(), n))
}

// auditVerify reads the whole log: one at a time for the owner, and one for all others, who would else keep the owner waiting.
func (s *Server) auditVerify(_ http.ResponseWriter, r *http.Request, by Caller) (Document, error) {
	turn := s.verifying.others
	if s.owns(by.UID) {
		turn = s.verifying.owner
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return answer(s.cfg.Backend.Audit.Verify(r.Context()))
}

// InviteRemoveRequest withdraws an invite.
type InviteRemoveRequest struct {
	ID string `json:"id"`
}

func (s *Server) removeInvite(ctx context.Context, by Caller, r *InviteRemoveRequest) (*Empty, error) {
	if err := s.cfg.Backend.Invites.RemoveInvite(ctx, by, r.ID); err != nil {
		return nil, err
	}
	return &Empty{}, nil
}

func (s *Server) repin(ctx context.Context, by Caller, r *RepinRequest) (*RepinResult, error) {
	return s.cfg.Backend.Connect.Repin(ctx, by, r)
}

// ShutdownRequest asks the daemon to stop in order.
type ShutdownRequest struct{}

func (s *Server) shutdown(_ context.Context, by Caller, _ *ShutdownRequest) (*Empty, error) {
	s.cfg.Backend.Process.Shutdown(by)
	return &Empty{}, nil
}

// parseQuery reads the query and refuses keys that are not known, twice there, or too long.
func parseQuery(r *http.Request, keys ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Errorf(Usage, "", "the query is not understood")
	}
	left := len(q)
	for _, k := range keys {
		v, ok := q[k]
		if !ok {
			continue
		}
		if len(v) != 1 || len(v[0]) > maxQuery {
			return nil, Errorf(Usage, "", "the query has a bad %s", k)
		}
		left--
	}
	if left != 0 {
		return nil, Errorf(Usage, "client and daemon may differ in version: meshkey version", "the query has unknown keys")
	}
	return q, nil
}

func queryNumber(q url.Values, key string, largest uint64) (uint64, error) {
	s := q.Get(key)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > largest {
		return 0, Errorf(Usage, "", "%s is a number up to %d", key, largest)
	}
	return n, nil
}

func queryTime(q url.Values, key string) (time.Time, error) {
	s := q.Get(key)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, Errorf(Usage, "", "%s is no RFC 3339 time", key)
	}
	return t, nil
}
