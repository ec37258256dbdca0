package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// found makes the mesh.
func (s *story) found(ctx context.Context) error {
	return s.step("init", "nas founds a mesh and starts its daemon", "meshkey init --mesh demo --name nas; meshkey daemon", func() (string, error) {
		if err := s.prepare(); err != nil {
			return "", err
		}
		var err error
		if s.nas, err = s.newHost("nas"); err != nil {
			return "", err
		}
		if _, err := s.nas.must(ctx, "init", "--mesh", "demo", "--name", "nas", "--passphrase-file", s.pass); err != nil {
			return "", err
		}
		return "", s.nas.start(ctx)
	})
}

// enrol invites and enrols the two other machines.
func (s *story) enrol(ctx context.Context) error {
	for _, name := range []string{"gpu1", "laptop"} {
		err := s.step("enrol", name+" joins with an invite; it checks the mesh before it says who it is", "meshkey invite "+name+"; meshkey enroll mk1i…", func() (string, error) {
			h, err := s.newHost(name)
			if err != nil {
				return "", err
			}
			if name == "gpu1" {
				s.gpu = h
			} else {
				s.laptop = h
			}
			out, err := s.nas.must(ctx, "--json=1", "invite", name)
			if err != nil {
				return "", err
			}
			var inv control.InviteResult
			if err := json.Unmarshal([]byte(out), &inv); err != nil {
				return "", err
			}
			out, err = h.must(ctx, "--json=1", "enroll", "--yes", inv.Text)
			if err != nil {
				return "", err
			}
			var doc struct{ Words [3]string }
			if err := json.Unmarshal([]byte(out), &doc); err != nil {
				return "", err
			}
			return "words " + strings.Join(doc.Words[:], " · "), h.start(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// discover waits until everybody has a session with everybody.
func (s *story) discover(ctx context.Context) error {
	return s.step("discover", "the three find each other by sealed, signed beacons and open post-quantum sessions", "meshkey peers", func() (string, error) {
		hosts := []*host{s.nas, s.gpu, s.laptop}
		_, err := wait(ctx, "a full mesh", 20*time.Second, func() (bool, error) {
			for _, a := range hosts {
				for _, b := range hosts {
					if a == b {
						continue
					}
					p, err := a.peer(ctx, b.name)
					if err != nil || p.State != "up" || p.Session != "full" {
						return false, err
					}
				}
			}
			return true, nil
		})
		return "6 of 6 views up", err
	})
}

// offer exposes a web server on gpu1 and allows it to nas only.
func (s *story) offer(ctx context.Context) error {
	return s.step("expose", "gpu1 offers a web server; only nas may use it", "meshkey expose hello PORT; meshkey grant nas gpu1/hello", func() (string, error) {
		var err error
		if s.web, err = newWeb(); err != nil {
			return "", err
		}
		if _, err := s.gpu.must(ctx, "expose", "hello", strconv.Itoa(s.web.port()), "--http"); err != nil {
			return "", err
		}
		_, err = s.nas.must(ctx, "grant", "nas", "gpu1/hello")
		if err != nil {
			return "", err
		}
		_, err = wait(ctx, "the grant at laptop", 5*time.Second, func() (bool, error) {
			g, err := s.laptop.client.Grants(ctx, control.GrantsQuery{})
			return err == nil && len(g.Grants) == 1, err
		})
		return "", err
	})
}

// deny tries to use it without a grant.
func (s *story) deny(ctx context.Context) error {
	return s.step("denied", "laptop tries to use it and is refused, with the nearest grant and the number in gpu1's audit log", "meshkey connect gpu1/hello --stdio", func() (string, error) {
		_, words, code, err := s.laptop.run(ctx, "connect", "gpu1/hello", "--stdio")
		if err != nil {
			return "", err
		}
		if code != int(control.Denied) {
			return "", fmt.Errorf("exit code %d, want %d: %s: %w", code, control.Denied, words, errState)
		}
		m := denialLine.FindStringSubmatch(words)
		if m == nil {
			return "", fmt.Errorf("the refusal names no nearest grant or no audit record: %q: %w", words, errState)
		}
		if s.denied, err = strconv.ParseUint(m[2], 10, 64); err != nil {
			return "", err
		}
		return fmt.Sprintf("exit 5; nearest %s; audit gpu1#%d", m[1], s.denied), nil
	})
}

// denialLine is what a refused user reads.
var denialLine = regexp.MustCompile(`nearest ([^)]+)\)\s+audit gpu1#(\d+)`)

// allow grants, and fetches a page.
func (s *story) allow(ctx context.Context) error {
	return s.step("granted", "an admin allows it; laptop gets the page through the mesh", "meshkey grant laptop gpu1/hello; meshkey connect gpu1/hello; curl http://127.77.x.y:PORT/", func() (string, error) {
		if _, err := s.nas.must(ctx, "grant", "laptop", "gpu1/hello"); err != nil {
			return "", err
		}
		// The grant spreads by itself; what is waited for here is laptop's own copy.
		if _, err := wait(ctx, "the grant at laptop", 5*time.Second, func() (bool, error) {
			d, err := s.laptop.client.Decide(ctx, control.DecideRequest{Target: "gpu1/hello"})
			return err == nil && d.Allowed, err
		}); err != nil {
			return "", err
		}
		var err error
		if s.entry, err = s.laptop.connect(ctx, "gpu1/hello"); err != nil {
			return "", err
		}
		began := time.Now()
		body, err := s.entry.get(ctx, "/")
		if err != nil {
			return "", err
		}
		if body != greeting {
			return "", fmt.Errorf("got %q: %w", body, errState)
		}
		return fmt.Sprintf("HTTP 200 at %s in %.1f ms", s.entry.listen, ms(time.Since(began))), nil
	})
}

// revoke removes laptop while it reads a page that never ends.
func (s *story) revoke(ctx context.Context) error {
	return s.step("revoke", "laptop is revoked while it reads a live page: the stream is cut", "meshkey revoke laptop", func() (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.entry.listen+"/ticks", nil)
		if err != nil {
			return "", err
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		type end struct {
			at   time.Time
			last time.Time
			err  error
		}
		ended := make(chan end, 1)
		ticking := make(chan struct{}, 1)
		go func() {
			var e end
			sc := bufio.NewScanner(resp.Body)
			for sc.Scan() {
				e.last = time.Now()
				select {
				case ticking <- struct{}{}:
				default:
				}
			}
			e.at, e.err = time.Now(), sc.Err()
			ended <- e
		}()
		for range 3 {
			select {
			case <-ticking:
			case <-time.After(5 * time.Second):
				return "", fmt.Errorf("the live page does not tick: %w", errState)
			}
		}
		began := time.Now()
		if _, err := s.nas.must(ctx, "revoke", "laptop", "--yes"); err != nil {
			return "", err
		}
		var e end
		select {
		case e = <-ended:
		case <-time.After(10 * time.Second):
			return "", fmt.Errorf("the stream goes on after the revocation: %w", errState)
		}
		if e.err == nil {
			return "", fmt.Errorf("the stream ended as if the page were complete: %w", errState)
		}
		if _, err := s.entry.get(ctx, "/"); err == nil {
			return "", fmt.Errorf("a revoked node still gets pages: %w", errState)
		}
		return fmt.Sprintf("cut %.0f ms after the command began", ms(e.at.Sub(began))), nil
	})
}

// freeze stops gpu1's process without ending it.
func (s *story) freeze(ctx context.Context) error {
	return s.step("freeze", "gpu1's process is frozen: nas probes it, then prunes it after 20 s of silence", "kill -STOP gpu1; meshkey peers", func() (string, error) {
		if err := s.gpu.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return "", err
		}
		if _, err := wait(ctx, "the prune", 30*time.Second, func() (bool, error) {
			p, err := s.nas.peer(ctx, "gpu1")
			return err == nil && p.State == "pruned", err
		}); err != nil {
			return "", err
		}
		var pruned control.AuditRecord
		if _, err := wait(ctx, "the audit record of the prune", 3*time.Second, func() (bool, error) {
			page, err := s.nas.client.AuditLog(ctx, control.AuditQuery{Code: "peer.prune", Limit: 10, Last: true})
			if err != nil || len(page.Records) == 0 {
				return false, err
			}
			pruned = page.Records[len(page.Records)-1]
			return true, nil
		}); err != nil {
			return "", err
		}
		if d := time.Duration(pruned.DurationMS) * time.Millisecond; d < 20*time.Second || d > 21*time.Second+500*time.Millisecond {
			return "", fmt.Errorf("pruned after %v of silence, want 20 to 21 s: %w", d, errState)
		}
		if err := s.gpu.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return "", err
		}
		back, err := wait(ctx, "gpu1's return", 20*time.Second, func() (bool, error) {
			p, err := s.nas.peer(ctx, "gpu1")
			return err == nil && p.State == "up", err
		})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("silent %.1f s, %s; thawed and back after %.1f s", float64(pruned.DurationMS)/1000, pruned.Before, back.Seconds()), nil
	})
}

// tamper edits gpu1's audit log: a refusal becomes an opening.
func (s *story) tamper(ctx context.Context) error {
	return s.step("tamper", "somebody turns the refusal in gpu1's audit log into an opening; verify finds the entry", "meshkey audit verify", func() (string, error) {
		if err := s.gpu.stop(ctx); err != nil {
			return "", err
		}
		if out, words, code, err := s.gpu.run(ctx, "audit", "verify"); err != nil || code != 0 {
			return "", fmt.Errorf("the untouched log does not verify: exit %d: %s%s: %w", code, out, words, errState)
		}
		n, err := edit(filepath.Join(s.gpu.state, "audit"), []byte("stream.deny"), []byte("stream.open"))
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", fmt.Errorf("the refusal is not in the log: %w", errState)
		}
		out, words, code, err := s.gpu.run(ctx, "--json=1", "audit", "verify")
		if err != nil {
			return "", err
		}
		if code != int(control.Unverified) {
			return "", fmt.Errorf("verify ended with %d, want %d: %s: %w", code, control.Unverified, words, errState)
		}
		var r control.AuditReport
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return "", err
		}
		if r.OK || len(r.Findings) == 0 || r.Findings[0].First != s.denied {
			return "", fmt.Errorf("verify names %+v, the edited entry is %d: %w", r.Findings, s.denied, errState)
		}
		return fmt.Sprintf("exit 6, first bad entry %d, the one that was edited", s.denied), nil
	})
}

// edit replaces the first occurrence of old by equally long bytes in the files below dir.
func edit(dir string, old, with []byte) (n int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		i := bytes.Index(b, old)
		if i < 0 {
			return nil
		}
		n++
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(with, int64(i))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	})
	return n, err
}
