package control

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

// profiles are the named profiles a client may ask for. They hold stacks and counts of this program, no data of it; they are the
// owner's all the same.
var profiles = map[string]bool{"heap": true, "allocs": true, "goroutine": true, "threadcreate": true}

// profile answers with one profile in pprof's format, or with an execution trace. The names and the seconds parameter are those of
// net/http/pprof, so that `go tool pprof` and curl work as people know it:
//
//	curl --unix-socket SOCK 'http://meshkey/debug/pprof/profile?seconds=5' > cpu.pprof
func (s *Server) profile(w http.ResponseWriter, r *http.Request, _ Caller) (Document, error) {
	name := r.PathValue("name")
	q, err := parseQuery(r, "seconds")
	if err != nil {
		return nil, err
	}
	n, err := queryNumber(q, "seconds", uint64(maxProfile/time.Second))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		n = defaultProfile
	}
	length := time.Duration(n) * time.Second
	if !profiles[name] && name != "profile" && name != "trace" {
		return nil, Errorf(NotFound, "", "there is no profile %.40q", name)
	}
	select {
	case s.profiling <- struct{}{}:
		defer func() { <-s.profiling }()
	default:
		return nil, Errorf(Failed, "wait for it to end", "another profile is being taken")
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(length + writeTimeout))
	switch name {
	case "profile":
		if err := pprof.StartCPUProfile(w); err != nil {
			return nil, Errorf(Failed, "", "the profile: %w", err)
		}
		waitFor(r.Context(), length)
		pprof.StopCPUProfile()
	case "trace":
		if err := trace.Start(w); err != nil {
			return nil, Errorf(Failed, "", "the trace: %w", err)
		}
		waitFor(r.Context(), length)
		trace.Stop()
	default:
		// A client that goes away is the only error there can be, and it does not read this one.
		pprof.Lookup(name).WriteTo(w, 0)
	}
	return nil, nil
}

func waitFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Profile writes a profile of the daemon to w: "profile" for the processor's time and "trace" last for d, "heap", "allocs" and
// "goroutine" are of now.
func (c *Client) Profile(ctx context.Context, name string, d time.Duration, w io.Writer) error {
	q := url.Values{"seconds": {strconv.Itoa(int(d / time.Second))}}
	resp, err := c.send(ctx, http.MethodGet, "/debug/pprof/"+url.PathEscape(name), q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(ctx, resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return Errorf(Failed, "", "the profile: %w", err)
	}
	return nil
}
