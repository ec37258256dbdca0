package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Client talks to the daemon behind one socket. It keeps no connection between calls.
type Client struct {
	socket string       // immutable
	http   *http.Client // immutable
}

// NewClient makes a client. It does not connect yet.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{
		Transport:     &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// host is the authority of our requests: HTTP wants one, a unix socket has none.
const host = "http://meshkey"

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "unix", c.socket)
	// EAGAIN is a full queue of connections, which others may have filled; the daemon empties it.
	for late := time.Now().Add(dialTimeout); errors.Is(err, syscall.EAGAIN) && time.Now().Before(late) && ctx.Err() == nil; {
		select {
		case <-time.After(readyPoll):
			conn, err = d.DialContext(ctx, "unix", c.socket)
		case <-ctx.Done():
		}
	}
	if err == nil {
		return conn, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, Errorf(NotRunning, "meshkey daemon", "no daemon answers on %s", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, Errorf(Failed, "run it as the user the daemon runs as", "you may not use the socket %s", c.socket)
	case errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.EINVAL):
		return nil, Errorf(Usage, "", "%s is no socket of a daemon: %w", c.socket, err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, Errorf(Failed, "", "the daemon's socket: %w", err)
}

// call makes one request and reads one document.
func call[D any, P interface {
	*D
	Document
}](ctx context.Context, c *Client, method, path string, query url.Values, body any) (P, error) {
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, lost(ctx, err)
	}
	if len(data) > maxAnswer {
		return nil, Errorf(Failed, "", "the daemon's answer is longer than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, readError(resp, data)
	}
	doc := P(new(D))
	if err := readDocument(data, doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// send makes one request. A non-nil body is sent as JSON.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	u := host + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, lost(ctx, err)
	}
	return resp, nil
}

// lost explains a request without an answer.
func lost(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return AsError(ctx.Err())
	}
	return Errorf(Failed, "meshkey status", "the daemon went away before it answered: %w", err)
}

func readError(resp *http.Response, data []byte) error {
	var doc ErrorDocument
	if err := readDocument(data, &doc); err != nil {
		return err
	}
	if doc.Error == nil || doc.Error.Message == "" || doc.Error.Code == Done || !doc.Error.Code.known() {
		return Errorf(Failed, "meshkey version", "the daemon answers with status %d and no reason", resp.StatusCode)
	}
	return doc.Error
}

// readDocument decodes a document and checks that it is the one expected. Fields this version does not know are ignored: they are
// only ever added.
func readDocument(data []byte, doc Document) error {
	var env Envelope
	if err := json.Unmarshal(data, &env); err != nil {
		return Errorf(Failed, "is it a daemon of meshkey?", "the answer is no JSON document")
	}
	if env.Schema != doc.SchemaName() {
		return Errorf(Failed, "use the same version of meshkey and its daemon: meshkey version", "the daemon answers with %q, this program knows %q", clip(env.Schema), doc.SchemaName())
	}
	if err := json.Unmarshal(data, doc); err != nil {
		return Errorf(Failed, "use the same version of meshkey and its daemon: meshkey version", "the daemon's answer is not understood: %w", err)
	}
	return nil
}

func get[D any, P interface {
	*D
	Document
}](ctx context.Context, c *Client, path string, query url.Values) (P, error) {
	return call[D, P](ctx, c, http.MethodGet, path, query, nil)
}

func post[D any, P interface {
	*D
	Document
}](ctx context.Context, c *Client, path string, body any) (P, error) {
	return call[D, P](ctx, c, http.MethodPost, path, nil, body)
}

func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, pathStatus, nil)
}

func (c *Client) Peers(ctx context.Context) (*Peers, error) {
	return get[Peers](ctx, c, pathPeers, nil)
}

func (c *Client) Services(ctx context.Context) (*Services, error) {
	return get[Services](ctx, c, pathServices, nil)
}

func (c *Client) Grants(ctx context.Context, q GrantsQuery) (*Grants, error) {
	return get[Grants](ctx, c, pathGrants, values("who", q.Who, "what", q.What))
}

func (c *Client) Decide(ctx context.Context, r DecideRequest) (*Decision, error) {
	return get[Decision](ctx, c, pathDecision, values("from", r.From, "target", r.Target, "at", timeText(r.At)))
}

func (c *Client) Version(ctx context.Context) (*Version, error) {
	return get[Version](ctx, c, pathVersion, nil)
}

func (c *Client) Invites(ctx context.Context) (*Invites, error) {
	return get[Invites](ctx, c, pathInvites, nil)
}

func (c *Client) AuditLog(ctx context.Context, q AuditQuery) (*AuditPage, error) {
	v := values("since", timeText(q.Since), "until", timeText(q.Until), "code", q.Code, "actor", q.Actor, "target", q.Target, "verdict", q.Verdict, "log", q.Log)
	if q.From != 0 {
		v.Set("from", strconv.FormatUint(q.From, 10))
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Last {
		v.Set("last", "1")
	}
	return get[AuditPage](ctx, c, pathAuditLog, v)
}

func (c *Client) AuditEntry(ctx context.Context, index uint64) (*AuditEntry, error) {
	return get[AuditEntry](ctx, c, pathAuditEntry, values("index", strconv.FormatUint(index, 10)))
}

func (c *Client) AuditVerify(ctx context.Context) (*AuditReport, error) {
	return get[AuditReport](ctx, c, pathAuditVerify, nil)
}

func (c *Client) Expose(ctx context.Context, r *ExposeRequest) (*ExposeResult, error) {
	return post[ExposeResult](ctx, c, pathExpose, r)
}

func (c *Client) Unexpose(ctx context.Context, r *UnexposeRequest) (*UnexposeResult, error) {
	return post[UnexposeResult](ctx, c, pathUnexpose, r)
}

func (c *Client) Pending(ctx context.Context) (*Pendings, error) {
	return get[Pendings](ctx, c, pathPending, nil)
}

func (c *Client) Approve(ctx context.Context, r *ApproveRequest) (*ApproveResult, error) {
	return post[ApproveResult](ctx, c, pathApprove, r)
}

func (c *Client) Deny(ctx context.Context, r *DenyRequest) (*DenyResult, error) {
	return post[DenyResult](ctx, c, pathDeny, r)
}

func (c *Client) Shutdown(ctx context.Context) error {
	_, err := post[Empty](ctx, c, pathShutdown, &ShutdownRequest{})
	return err
}

func (c *Client) Root(ctx context.Context) (*Root, error) {
	return get[Root](ctx, c, pathRoot, nil)
}

func (c *Client) RootChain(ctx context.Context) (*RootChain, error) {
	return get[RootChain](ctx, c, pathRootChain, nil)
}

func (c *Client) AcceptRoot(ctx context.Context, r *AcceptRootRequest) (*AcceptRootResult, error) {
	return post[AcceptRootResult](ctx, c, pathRootAccept, r)
}

func (c *Client) CutIssuer(ctx context.Context, r *CutIssuerRequest) (*CutIssuerResult, error) {
	return post[CutIssuerResult](ctx, c, pathRootCut, r)
}

func (c *Client) NewIssuerKey(ctx context.Context, r *NewIssuerKeyRequest) (*PublicKey, error) {
	return post[PublicKey](ctx, c, pathKeysIssuer, r)
}

// WaitReady waits until the daemon serves, for at most d: also for its socket to appear.
func (c *Client) WaitReady(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var absent error
	for {
		left := time.Until(deadlineOf(ctx))
		if left > MaxWait {
			left = MaxWait
		}
		_, err := get[Empty](ctx, c, pathReady, values("wait_ms", strconv.FormatInt(max(left.Milliseconds(), 0), 10)))
		switch e := AsError(err); {
		case e == nil:
			return nil
		case e.Code == NotRunning:
			absent = err
		case absent != nil && errors.Is(err, context.DeadlineExceeded):
			return absent // "no daemon answers" tells more than "no answer in time"
		default:
			return err
		}
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return absent
		}
	}
}

func deadlineOf(ctx context.Context) time.Time {
	t, _ := ctx.Deadline()
	return t
}

// ErrGone is the end of a connect that neither side wanted: the daemon stopped, or started again.
var ErrGone = errors.New("the daemon went away")

// Connect asks the daemon to listen, and calls fn with each event until ctx ends, fn fails, or the daemon goes away (ErrGone). The
// listener lives as long as the call.
func (c *Client) Connect(ctx context.Context, r *ConnectRequest, fn func(*ConnectEvent) error) error {
	resp, err := c.send(ctx, http.MethodPost, pathConnect, nil, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(ctx, resp)
	}
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(make([]byte, 0, 4<<10), maxEvent)
	for sc.Scan() {
		ev := &ConnectEvent{}
		if err := readDocument(sc.Bytes(), ev); err != nil {
			return err
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return AsError(ctx.Err())
	}
	return Errorf(Failed, "meshkey status", "%w", ErrGone)
}

// Stream opens a stream to a service over a connection of its own. See [Spliced] for how it ends.
func (c *Client) Stream(ctx context.Context, r *ConnectRequest) (*Spliced, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := upgrade(conn, r)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, lost(ctx, err)
	}
	return s, nil
}

// upgrade speaks HTTP by hand, because the connection is ours afterwards.
func upgrade(conn net.Conn, r *ConnectRequest) (*Spliced, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		pathStream, strings.TrimPrefix(host, "http://"), streamProtocol, len(body), body)
	if err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(conn, maxFrame)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodPost})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
		if err != nil {
			return nil, err
		}
		return nil, readError(resp, data)
	}
	return newSpliced(conn, br), nil
}

// values makes a query of pairs, leaving out what is empty.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
