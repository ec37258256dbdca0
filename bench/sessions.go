package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/bench/internal/members"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
)

const (
	// crowdSize is how many sessions the daemon is to hold, crowdFew with how many it is compared: the difference is theirs alone.
	crowdSize = 1000
	crowdFew  = 100
	// crowdUses is the most that one invite has.
	crowdUses = 100
	// crowdNet are the addresses of the members, one each: a daemon bounds what one address may do.
	crowdNet = "10.80.0.0/16"
	// crowdQuiet is how long sessions are left alone before memory is looked at: the runtime of the daemon collects at least every two
	// minutes, and gives back what the handshakes left.
	crowdQuiet = 150 * time.Second
	// crowdIdle is how long CPU time is taken over.
	crowdIdle = 60 * time.Second
	// crowdTime bounds the joining of all, each of whom reads a log of all before, and crowdGrow the making of sessions.
	crowdTime = 15 * time.Minute
	crowdGrow = 2 * time.Minute
)

// sessions measures one daemon, the real program, with few and with many idle sessions.
func sessions(ctx context.Context, r *rig, out io.Writer) (err error) {
	defer caught(&err)
	m := newMeshkey(nameMeshkey, false).(*meshkey)
	defer m.stop()
	if err := m.serve(r); err != nil {
		return err
	}
	prefix := netip.MustParsePrefix(crowdNet)
	r.client.Run("ip", "route", "add", "local", crowdNet, "dev", "lo")
	r.server.Run("ip", "route", "add", crowdNet, "via", clientIP)
	invites, err := m.invites(crowdSize, crowdUses)
	if err != nil {
		return err
	}
	q, err := json.Marshal(request{Do: doMembers, Addr: serverIP + ":" + m.port, Streams: crowdSize, Target: prefix.Addr().String()})
	if err != nil {
		return err
	}
	cmd := r.client.CommandContext(ctx, r.self, "helper", string(q))
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var words strings.Builder
	cmd.Stderr = &words
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		in.Close()
		if waitErr := cmd.Wait(); waitErr != nil {
			err = errors.Join(err, fmt.Errorf("the members: %w: %s", waitErr, strings.TrimSpace(words.String())))
		}
	}()
	said := bufio.NewReader(pipe)
	r.say("%d members join", crowdSize)
	began := time.Now()
	if err := tell(in, said, strings.Join(invites, " "), crowdTime); err != nil {
		return err
	}
	r.say("joined in %v", time.Since(began).Round(time.Second))
	few, err := m.holds(ctx, r, in, said, crowdFew)
	if err != nil {
		return err
	}
	many, err := m.holds(ctx, r, in, said, crowdSize)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "one daemon in a mesh of %d, every session idle:\n"+
		"  with %5d sessions  %6.1f MB resident  %6.3f %% of a core\n  with %5d sessions  %6.1f MB resident  %6.3f %% of a core\n"+
		"  one session        %6.1f kB resident\n", crowdSize+2, few.n, few.mb, few.cpu, many.n, many.mb, many.cpu,
		(many.mb-few.mb)*1000/float64(many.n-few.n))
	return err
}

// held is what a daemon uses for n sessions.
type held struct {
	n       int
	mb, cpu float64
}

// holds lets the members make sessions until there are n, and measures the daemon when all have been idle for a while.
func (m *meshkey) holds(ctx context.Context, r *rig, in io.Writer, said *bufio.Reader, n int) (h held, err error) {
	r.say("%d sessions", n)
	if err := tell(in, said, strconv.Itoa(n), crowdGrow); err != nil {
		return h, err
	}
	pause(ctx, crowdQuiet)
	if h.n, err = m.up(ctx); err != nil {
		return h, err
	}
	if h.n != n {
		return h, fmt.Errorf("the daemon has %d sessions after %v, not %d", h.n, crowdQuiet, n)
	}
	ps := []*process{m.server.daemon}
	before, err := used(ps)
	if err != nil {
		return h, err
	}
	began := time.Now()
	pause(ctx, crowdIdle)
	after, err := used(ps)
	if err != nil {
		return h, err
	}
	h.cpu = 100 * (after - before).Seconds() / time.Since(began).Seconds()
	b, err := resident(ps)
	h.mb = float64(b) / 1e6
	return h, err
}

// up is how many peers the daemon has a full session with.
func (m *meshkey) up(ctx context.Context) (n int, err error) {
	ps, err := m.server.client.Peers(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range ps.Peers {
		if p.State == "up" && p.Session == "full" {
			n++
		}
	}
	return n, nil
}

// invites makes invites for n machines on the server.
func (m *meshkey) invites(n, uses int) (texts []string, err error) {
	for i := 0; i*uses < n; i++ {
		out, err := m.server.command("--json=1", "invite", fmt.Sprintf("crowd%d", i), "--uses", strconv.Itoa(uses)).Output()
		if err != nil {
			return nil, fmt.Errorf("invite: %w", err)
		}
		var inv control.InviteResult
		if err := json.Unmarshal(out, &inv); err != nil {
			return nil, fmt.Errorf("invite: %w", err)
		}
		texts = append(texts, inv.Text)
	}
	return texts, nil
}

// tell gives the members a line and waits until they say that it is done.
func tell(in io.Writer, said *bufio.Reader, line string, within time.Duration) error {
	if _, err := io.WriteString(in, line+"\n"); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		s, err := said.ReadString('\n')
		if err == nil && s != "done\n" {
			err = fmt.Errorf("the members say %q", strings.TrimSpace(s))
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(within):
		return fmt.Errorf("the members are not done after %v", within)
	}
}

// crowd is the helper that is the members: the first line it reads are invites, each further one how many sessions there are to be. It
// ends with its input. Invites are secrets, and so come this way and not by arguments.
func crowd(q request, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	var invites []*identity.Invite
	for _, text := range strings.Fields(line) {
		inv, err := identity.ParseInvite(text)
		if err != nil {
			return err
		}
		invites = append(invites, inv)
	}
	at, err := netip.ParseAddrPort(q.Addr)
	if err != nil {
		return err
	}
	first, err := netip.ParseAddr(q.Target)
	if err != nil {
		return err
	}
	sources := make([]netip.Addr, q.Streams)
	for i := range sources {
		first = first.Next()
		sources[i] = first
	}
	c, err := members.Join(context.Background(), at, invites, crowdUses, sources)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		fmt.Fprintln(out, "done")
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		if err := c.Grow(context.Background(), n); err != nil {
			return err
		}
		if lost := c.Lost(); lost > 0 {
			return fmt.Errorf("%d sessions have ended", lost)
		}
	}
}
