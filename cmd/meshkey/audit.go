package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

func newAudit(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and verify this machine's audit log",
		Example: `  meshkey audit log -n 20
  meshkey audit log -S yesterday verdict=denied
  meshkey audit show 18211
  meshkey audit verify           code 6 and the first bad entry, if the log was changed`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			verbHelp(cmd.OutOrStdout(), cmd)
			return nil
		},
	}
	cmd.AddCommand(newAuditLog(c), newAuditShow(c), newAuditVerify(c))
	return cmd
}

type auditLogOptions struct {
	Since, Until string
	From         uint64
	Number       int    // the newest; 0 for all
	Earlier      string // which key's log; empty: of the one in use
	Offline      bool
	Filters      []string
}

func newAuditLog(c *cli) *cobra.Command {
	o := auditLogOptions{}
	cmd := &cobra.Command{
		Use:   "log [FILTER…]",
		Short: "List entries of the audit log",
		Example: `  meshkey audit log -n 20
  meshkey audit log -S yesterday verdict=denied
  meshkey audit log actor=laptop target=gpu1/ollama code=stream
  meshkey audit log --earlier 1                  what was recorded before the last rotation
  meshkey audit log --offline --state DIR/left-1
  meshkey audit log --json=1 --from 18000`,
		Long: `A filter is FIELD=VALUE with code, actor, target or verdict; all must match. A code is noun.verb or a noun alone; an actor or a target
may end in *. A machine's name finds what all keys did that ever had it, revoked and rotated ones included; those are shown with the beginning
of their id. target=NODE/SERVICE finds a service on every machine alike: on NODE itself, where its records say SERVICE alone, on those that
have used it, and where it was granted. With --json=1 each entry is one line.

Each key of this machine has a log of its own, which commits to the one before: --earlier reads those. --offline reads the state directory itself,
which may be a copy, or the folder of a membership that has ended. Reading is not verifying: meshkey audit verify does that, for all of them.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Filters = args
			return runAuditLog(cmd.Context(), c, o, time.Now())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Since, "since", "S", "", "from this `time` on: a date, yesterday, 2h")
	f.StringVarP(&o.Until, "until", "U", "", "up to this `time`")
	f.StringVar(&o.Earlier, "earlier", "", "the log of an earlier `key`: 1 for the one before the last rotation, 2 for the one before that, or its id")
	f.BoolVar(&o.Offline, "offline", false, "read the state directory, do not ask the daemon")
	f.Uint64Var(&o.From, "from", 0, "from this entry `number` on")
	f.IntVarP(&o.Number, "number", "n", 0, "only the newest `n` entries")
	return cmd
}

// auditLine1 is one entry as a line of JSON.
type auditLine1 struct {
	control.Envelope
	Log string `json:"log"`
	control.AuditRecord
}

func (*auditLine1) SchemaName() string { return "meshkey.audit-record/1" }

func runAuditLog(ctx context.Context, c *cli, o auditLogOptions, now time.Time) error {
	q, err := auditQuery(o, now)
	if err != nil {
		return err
	}
	q.Log = o.Earlier
	ask, end, err := c.auditLogs(o.Offline)
	if err != nil {
		return err
	}
	defer end()
	for first := true; ; first = false {
		page, err := ask(ctx, q)
		if err != nil {
			return err
		}
		if c.json() {
			for _, r := range page.Records {
				if err := control.WriteDocument(c.out, &auditLine1{Log: page.Log, AuditRecord: r}); err != nil {
					return err
				}
			}
		} else {
			table(c.out, auditRows(page.Records, first))
		}
		// A log that grows while it is read ends where a page ends; one that does not move on is not asked again.
		if page.Next <= q.From || q.Last {
			return nil
		}
		q.From = page.Next
	}
}

// auditLogs is how logs are read: by the daemon, or from the state directory.
func (c *cli) auditLogs(offline bool) (ask func(context.Context, control.AuditQuery) (*control.AuditPage, error), end func(), err error) {
	p, err := c.paths()
	if err != nil {
		return nil, nil, err
	}
	if !offline {
		return control.NewClient(p.Socket).AuditLog, func() {}, nil
	}
	l, err := c.system.Logs(p.State)
	if err != nil {
		return nil, nil, err
	}
	if l.Nameless != nil {
		c.say("%s Ids are shown, for the trust log beside it cannot be read: %s", c.yellow("!"), clean(l.Nameless.Error()))
	}
	return l.Log, l.Close, nil
}

func auditQuery(o auditLogOptions, now time.Time) (control.AuditQuery, error) {
	q := control.AuditQuery{From: o.From, Limit: control.MaxAuditPage}
	if o.Number < 0 || o.Number > control.MaxAuditPage {
		return q, control.Errorf(control.Usage, "", "-n is 1 to %d", control.MaxAuditPage)
	}
	if o.Number > 0 {
		if o.From > 0 {
			return q, control.Errorf(control.Usage, "", "-n and --from exclude each other")
		}
		q.Last, q.Limit = true, o.Number
	}
	var err error
	if q.Since, err = parseWhen(o.Since, now); err != nil {
		return q, err
	}
	if q.Until, err = parseWhen(o.Until, now); err != nil {
		return q, err
	}
	fields := map[string]*string{"code": &q.Code, "actor": &q.Actor, "target": &q.Target, "verdict": &q.Verdict}
	for _, f := range o.Filters {
		name, value, ok := strings.Cut(f, "=")
		to := fields[name]
		if !ok || to == nil || value == "" || *to != "" {
			return q, control.Errorf(control.Usage, "code=, actor=, target= or verdict=, each once", "%q is no filter", clipArg(f))
		}
		*to = value
	}
	return q, nil
}

func auditRows(records []control.AuditRecord, head bool) [][]string {
	var rows [][]string
	if head {
		rows = append(rows, []string{"ENTRY", "TIME", "CODE", "ACTOR", "TARGET", "VERDICT", "DETAIL"})
	}
	for _, r := range records {
		rows = append(rows, []string{strconv.FormatUint(r.Index, 10), moment(r.Time), dash(r.Code), dash(r.Actor), dash(r.Target), dash(r.Verdict), detail(r)})
	}
	return rows
}

// detail is what else an entry says, in one cell.
func detail(r control.AuditRecord) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+value)
		}
	}
	add("UNREADABLE: ", r.Error)
	add("", r.Reason)
	add("grant ", r.Grant)
	if r.Bytes > 0 {
		parts = append(parts, size(r.Bytes))
	}
	if r.DurationMS > 0 {
		parts = append(parts, millis(r.DurationMS))
	}
	if r.Count > 1 {
		parts = append(parts, count(r.Count)+" times")
	}
	return strings.Join(parts, ", ")
}

func newAuditShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show ENTRY",
		Short: "Show one entry with the bytes that are hashed",
		Example: `  meshkey audit show 18211
  meshkey audit show gpu1#18211          the form denials have; only on gpu1 itself`,
		Args: exactly("ENTRY"),
		RunE: func(cmd *cobra.Command, args []string) error { return runAuditShow(cmd.Context(), c, args[0]) },
	}
}

func runAuditShow(ctx context.Context, c *cli, entry string) error {
	host, number, ok := strings.Cut(entry, "#")
	if !ok {
		host, number = "", entry
	}
	n, err := strconv.ParseUint(number, 10, 62)
	if err != nil {
		return control.Errorf(control.Usage, "meshkey audit log", "%q is no entry number", clipArg(entry))
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if host != "" {
		s, err := client.Status(ctx)
		if err != nil {
			return err
		}
		if s.Node.Name != host {
			return control.Errorf(control.NotFound, "run it on "+clipArg(host), "this is %s: each machine keeps its own log", node(s.Node))
		}
	}
	e, err := client.AuditEntry(ctx, n)
	if err != nil {
		return err
	}
	return c.print(e, func() {
		r := e.Record
		rows := [][]string{{"entry", strconv.FormatUint(r.Index, 10)}, {"log", e.Log}, {"time", r.Time.Local().Format(time.RFC3339Nano)}}
		for _, f := range [][2]string{
			{"code", r.Code},
			{"actor", r.Actor},
			{"target", r.Target},
			{"verdict", r.Verdict},
			{"reason", r.Reason},
			{"grant", r.Grant},
			{"session", r.Session},
			{"before", r.Before},
			{"after", r.After},
			{"error", r.Error},
		} {
			if f[1] != "" {
				rows = append(rows, f[:])
			}
		}
		if r.Bytes > 0 {
			rows = append(rows, []string{"bytes", count(r.Bytes)})
		}
		if r.DurationMS > 0 {
			rows = append(rows, []string{"duration", millis(r.DurationMS)})
		}
		if r.Count > 1 {
			rows = append(rows, []string{"count", count(r.Count)})
		}
		rows = append(rows, []string{"leaf", hex.EncodeToString(e.Leaf)}, []string{"hash", e.Hash})
		table(c.out, rows)
	})
}

type auditVerifyOptions struct {
	Offline bool
}

func newAuditVerify(c *cli) *cobra.Command {
	o := auditVerifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no entry of the audit log was changed or removed",
		Example: `  meshkey audit verify
  meshkey audit verify --offline --state /mnt/backup/meshkey`,
		Long: `Asks the daemon; if none runs, or with --offline, reads the state directory itself, which may be a copy. Ends with code 6 if
something does not verify, and names the first bad entry.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runAuditVerify(cmd.Context(), c, o) },
	}
	cmd.Flags().BoolVar(&o.Offline, "offline", false, "read the state directory, do not ask the daemon")
	return cmd
}

func runAuditVerify(ctx context.Context, c *cli, o auditVerifyOptions) error {
	r, err := c.verifyAudit(ctx, o.Offline)
	if err != nil {
		return err
	}
	if err := c.print(r, func() { c.showReport(r, time.Now()) }); err != nil {
		return err
	}
	if !r.OK || len(r.Findings) > 0 {
		return exitWith(control.Unverified)
	}
	return nil
}

func (c *cli) verifyAudit(ctx context.Context, offline bool) (*control.AuditReport, error) {
	p, err := c.paths()
	if err != nil {
		return nil, err
	}
	if !offline {
		r, err := control.NewClient(p.Socket).AuditVerify(ctx)
		if e := control.AsError(err); e == nil || e.Code != control.NotRunning {
			return r, err
		}
		c.say("No daemon runs: reading %s itself.", clean(p.State))
	}
	r, err := c.system.Verify(ctx, p.State)
	if r != nil {
		r.StateDir = p.State
	}
	return r, err
}

// of names the log of an earlier key.
func of(log string) string {
	if log == "" {
		return ""
	}
	return " of " + clean(log)
}

func (c *cli) showReport(r *control.AuditReport, now time.Time) {
	fmt.Fprintf(c.out, "%s  %s entries", clean(r.Log), count(r.Size))
	if !r.Checkpoint.IsZero() {
		fmt.Fprintf(c.out, ", signed up to %s, checkpoint %s ago", count(r.Signed), span(max(now.Sub(r.Checkpoint), 0)))
	}
	fmt.Fprintln(c.out)
	for _, b := range r.Before {
		state := "consistent"
		switch {
		case b.State != "":
			state = b.State + " when this log began"
		case !b.OK:
			state = "does not verify"
		}
		fmt.Fprintln(c.out, clean("goes on from "+b.Log+"  "+count(b.Size)+" entries, "+state))
	}
	for _, f := range r.Findings {
		which := "entry " + count(f.First)
		if f.Last > f.First {
			which = "entries " + count(f.First) + "–" + count(f.Last)
		}
		line := strings.ToUpper(f.Kind) + " " + which + ": " + f.Text
		if f.Log != "" {
			line = f.Log + " " + line
		}
		if f.File != "" {
			line += " (" + f.File + ")"
		}
		fmt.Fprintln(c.out, clean(line))
	}
	if r.More > 0 {
		fmt.Fprintf(c.out, "and %s more\n", count(uint64(r.More)))
	}
	if !r.OK || len(r.Findings) > 0 {
		if len(r.Findings) > 0 {
			c.say("%s All before entry %s%s is proven.", c.red("The log does not verify."), count(r.Findings[0].First), of(r.Findings[0].Log))
		} else {
			c.say("%s", c.red("The log does not verify."))
		}
		return
	}
	state := "consistent"
	if len(r.Witnesses) > 0 {
		state += ", witnessed by " + join(r.Witnesses)
	} else if r.Unwitnessed {
		state += ", unwitnessed: nobody else has seen it"
	}
	fmt.Fprintln(c.out, clean(state))
	if r.Gaps > 0 {
		c.say("The log itself says that events were lost %s.", plural(r.Gaps, "time"))
	}
}
