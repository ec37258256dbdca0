package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// web is the service that gpu1 offers: an ordinary HTTP server that knows nothing of meshkey.
type web struct {
	ln     net.Listener
	server *http.Server
	done   chan struct{}
}

const greeting = "hello through the mesh\n"

func newWeb() (*web, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, greeting) })
	mux.HandleFunc("GET /ticks", func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, "tick\n"); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	w := &web{ln: ln, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_ = w.server.Serve(ln)
	}()
	return w, nil
}

func (w *web) port() int { return w.ln.Addr().(*net.TCPAddr).Port }

func (w *web) close() {
	_ = w.server.Close()
	<-w.done
}

// entrance is a running `meshkey connect`.
type entrance struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	done   chan error
	listen string
	client *http.Client
}

// connect runs `meshkey connect TARGET` on the host and waits for the address it serves.
func (h *host) connect(ctx context.Context, target string) (*entrance, error) {
	cctx, cancel := context.WithCancel(ctx)
	cmd := h.command(cctx, "--json=1", "connect", target)
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	e := &entrance{cmd: cmd, cancel: cancel, done: make(chan error, 1)}
	sc := bufio.NewScanner(out)
	if !sc.Scan() {
		e.reap(out)
		e.close()
		return nil, fmt.Errorf("meshkey connect %s said nothing: %w", target, errState)
	}
	var ev control.ConnectEvent
	if err := json.Unmarshal(sc.Bytes(), &ev); err != nil || ev.Event != "listening" {
		e.reap(out)
		e.close()
		return nil, fmt.Errorf("meshkey connect %s said %q: %w", target, sc.Text(), errState)
	}
	e.reap(out)
	e.listen = ev.Listen
	e.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	return e, nil
}

// reap reads the rest of the output and waits for the end.
func (e *entrance) reap(out io.Reader) {
	go func() {
		_, _ = io.Copy(io.Discard, out)
		e.done <- e.cmd.Wait()
	}()
}

func (e *entrance) close() {
	e.cancel()
	<-e.done
}

// get fetches a page through the entrance.
func (e *entrance) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.listen+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP %s: %w", resp.Status, errState)
	}
	return string(body), nil
}
