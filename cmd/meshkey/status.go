package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type statusOptions struct {
	Wait string // how long to wait until the daemon serves
	All  bool   // revoked keys, too
}

func newStatus(c *cli) *cobra.Command {
	o := statusOptions{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this node: peers, services, audit log, and what needs attention",
		Example: `  meshkey status
  meshkey status --json=1
  meshkey status --wait 30s      wait until the daemon serves`,
		Long: `Ends with code 8 if the node works but something needs attention: the lines with "!" say what, and what to do.

Certificates that come near their end are shown 30, 14, 7 and 1 days before it, of every member, from the log. With at most 7 days left they
count as something wrong if it is this machine's, if the machine should have renewed it by itself, or if its membership ends at a date;
lines with "·" are coming ends that are nothing wrong, such as a guest's.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), c, o) },
	}
	cmd.Flags().BoolVar(&o.All, "all", false, "also keys that were revoked, or replaced by a rotation")
	cmd.Flags().StringVar(&o.Wait, "wait", "", "wait up to this `time` until the daemon serves")
	return cmd
}

func runStatus(ctx context.Context, c *cli, o statusOptions) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if o.Wait != "" {
		d, err := parseSpan(o.Wait)
		if err != nil {
			return err
		}
		if err := client.WaitReady(ctx, d); err != nil {
			return err
		}
	}
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if err := c.print(s, func() { c.showStatus(s, time.Now(), o.All) }); err != nil {
		return err
	}
	if len(s.Warnings) > 0 || s.State == "degraded" || s.Audit.State == "degraded" {
		return exitWith(control.Degraded)
	}
	return nil
}

func (c *cli) showStatus(s *control.Status, now time.Time, all bool) {
	head := []string{node(s.Node), "mesh " + s.Mesh.Name}
	switch s.State {
	case "revoked":
		head = append(head, "REVOKED", "up "+millis(s.UptimeMS))
	case "shut-out":
		head = append(head, "SHUT OUT, peers say it is revoked", "up "+millis(s.UptimeMS))
	default:
		head = append(head, s.State+" "+millis(s.UptimeMS))
	}
	head = append(head, trustAge(&s.Trust, now))
	fmt.Fprintln(c.out, clean(strings.Join(head, " · ")))
	peers, hidden := withoutRevoked(s.Peers)
	if all {
		peers, hidden = s.Peers, 0
	}
	if len(peers) > 0 {
		table(c.out, peerRows(peers, now))
	} else {
		c.say("no other members yet: meshkey invite NAME")
	}
	c.hiddenKeys(hidden)
	var rows [][]string
	for _, x := range s.Offering {
		rows = append(rows, []string{"OFFERING", x.Name, x.Target, offered(x)})
	}
	for _, x := range s.Reachable {
		rows = append(rows, []string{"REACHABLE", node(x.Node) + "/" + x.Name, x.State, x.Reason})
	}
	for _, x := range s.Connections {
		rows = append(rows, []string{"CONNECT", x.Listen + " -> " + x.Target, fmt.Sprintf("%d open", x.Active), plural(x.Total, "connection") + " in all"})
	}
	table(c.out, rows)
	fmt.Fprintln(c.out, clean(auditLine(s.Audit, now)))
	c.warn(s.Warnings)
	c.ends(s)
}

// maxEnds is how many of the coming ends that are nothing wrong a person is shown.
const maxEnds = 8

// ends shows the certificates that end soon and are no warning.
func (c *cli) ends(s *control.Status) {
	shown, more := 0, max(s.ExpiringAll-len(s.Expiring), 0)
	for _, e := range s.Expiring {
		if e.Degraded {
			continue
		}
		if shown == maxEnds {
			more++
			continue
		}
		shown++
		c.say("· %s   -> %s", clean(e.Text), clean(e.Next))
	}
	if more > 0 {
		c.say("· and %d more certificates end soon   -> meshkey status --json", more)
	}
}

// trustAge says how old this node's view of the mesh is known to be, or why that is not known.
func trustAge(t *control.TrustInfo, now time.Time) string {
	if t.AgeMS != nil {
		s := "trust view " + millis(*t.AgeMS) + " old"
		if len(t.HeadSigners) == 0 {
			s += " (no head signer any more)"
		}
		return s
	}
	why := "no head seen yet"
	if len(t.HeadSigners) == 0 {
		why = "no head signer"
	}
	last := "no entry yet"
	if !t.LastEntry.IsZero() {
		last = "last entry " + span(max(now.Sub(t.LastEntry), 0)) + " ago"
	}
	return "trust view: " + why + ", age unknown; " + last
}

// offered is what is worth knowing of a service of this node.
func offered(x control.Service) string {
	parts := []string{plural(uint64(x.Grants), "grant")}
	if x.Refused > 0 {
		parts = append(parts, count(x.Refused)+" refused today")
	}
	if x.State != "up" {
		parts = append(parts, because(x.State, x.Reason))
	}
	return strings.Join(parts, ", ")
}

// because joins a state and the reason for it, if there is one.
func because(state, reason string) string {
	if reason == "" {
		return state
	}
	return state + ": " + reason
}

func auditLine(a control.AuditInfo, now time.Time) string {
	parts := []string{"AUDIT  " + count(a.Entries) + " entries"}
	switch {
	case len(a.Witnesses) > 0:
		parts = append(parts, "witnessed by "+strings.Join(a.Witnesses, ", "))
	case a.Unwitnessed:
		parts = append(parts, "unwitnessed")
	}
	if !a.Checkpoint.IsZero() {
		parts = append(parts, "checkpoint "+span(now.Sub(a.Checkpoint))+" ago")
	}
	if a.State != "ok" {
		parts = append(parts, strings.TrimSpace(strings.ToUpper(a.State)+" "+a.Reason))
	}
	return strings.Join(parts, " · ")
}

// peerRows is the table of peers, shared by status and peers.
func peerRows(peers []control.Peer, now time.Time) [][]string {
	rows := [][]string{{"PEER", "PATH", "RTT", "IN/OUT", "STATE"}}
	for _, p := range peers {
		rtt, moved := "-", "-"
		if p.RTTMicros > 0 {
			rtt = fmt.Sprintf("%.1fms", float64(p.RTTMicros)/1000)
		}
		if p.BytesIn > 0 || p.BytesOut > 0 {
			moved = size(p.BytesIn) + "/" + size(p.BytesOut)
		}
		name := node(p.NodeRef)
		if p.Was != "" {
			group, _, _ := strings.Cut(p.ID, ".")
			name = p.Was + " (" + group + ")"
		}
		rows = append(rows, []string{name, dash(p.Path), rtt, moved, peerState(p, now)})
	}
	return rows
}

// peerState is the state in words: "offline 2 h (last 192.168.1.77:7477)".
func peerState(p control.Peer, now time.Time) string {
	s := p.State
	if s == "revoked" && p.Reason != "" {
		return p.Reason
	}
	if p.State != "up" {
		seen := p.LastSeen
		if seen.IsZero() {
			seen = p.Since
		}
		if !seen.IsZero() {
			s += " " + span(max(now.Sub(seen), 0))
		}
		if p.Address != "" {
			s += " (last " + p.Address + ")"
		}
	}
	if p.Session != "" && p.Session != "full" {
		s += ", " + p.Session
	}
	if p.Reason != "" {
		s += ": " + p.Reason
	}
	if len(p.Flags) > 0 {
		s += " [" + strings.Join(p.Flags, " ") + "]"
	}
	return s
}
