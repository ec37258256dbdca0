package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type grantOptions struct {
	Who   string
	What  string
	For   string
	From  string
	Until string
	Note  string
	Wait  string
}

// defaultWait is how long a change waits for the acknowledgements of connected peers before it reports.
const defaultWait = "2s"

func newGrant(c *cli) *cobra.Command {
	o := grantOptions{}
	cmd := &cobra.Command{
		Use:   "grant WHO WHAT",
		Short: "Let somebody use a service",
		Example: `  meshkey grant laptop gpu1/ollama --for 8h
  meshkey grant tag:dba "*/postgres" --reason "on call"
  meshkey grant any nas/wiki`,
		Long: `WHO is a node, tag:NAME or any. WHAT is NODE/SERVICE, tag:NAME/SERVICE or SERVICE on any node; * is every service or node.
A name is resolved now: the grant holds the node's id. Everything not granted is denied.`,
		Args: exactly("WHO", "WHAT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Who, o.What = args[0], args[1]
			return runGrant(cmd.Context(), c, o, time.Now())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.For, "for", "", "how `long`: 30m, 8h, 90d (default: until ungranted)")
	f.StringVar(&o.From, "from", "", "begin at this `time`, not now")
	f.StringVar(&o.Until, "until", "", "end at this `time`")
	f.StringVar(&o.Note, "reason", "", "`why`, for those who read it later")
	f.StringVar(&o.Note, "note", "", "")
	f.Lookup("note").Hidden = true // the earlier name
	f.StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	return cmd
}

func runGrant(ctx context.Context, c *cli, o grantOptions, now time.Time) error {
	r := &control.GrantRequest{Who: o.Who, What: o.What, Note: o.Note}
	var err error
	if r.NotBefore, err = parseWhen(o.From, now); err != nil {
		return err
	}
	if o.For != "" && o.Until != "" {
		return control.Errorf(control.Usage, "", "--for and --until exclude each other")
	}
	if r.NotAfter, err = parseWhen(o.Until, now); err != nil {
		return err
	}
	if o.For != "" {
		d, err := parseSpan(o.For)
		if err != nil {
			return err
		}
		begin := now
		if !r.NotBefore.IsZero() {
			begin = r.NotBefore
		}
		r.NotAfter = begin.Add(d).Truncate(time.Second)
	}
	if !r.NotAfter.IsZero() && !r.NotAfter.After(now) {
		return control.Errorf(control.Usage, "", "the grant would have ended before it begins: it would end %s; --for 2h is two hours from now", moment(r.NotAfter))
	}
	if r.WaitMS, err = waitMS(o.Wait); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.Grant(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		if res.Existing {
			fmt.Fprintln(c.out, clean(res.Grant.ID+"  "+grantText(res.Grant)))
			c.say("%s says so already; nothing was written.", clean(res.Grant.ID))
			return
		}
		fmt.Fprintln(c.out, clean(res.Grant.ID+"  "+grantText(res.Grant)))
		c.say("%s.  Undo: meshkey ungrant %s", clean(spread(res.Spread)), clean(res.Grant.ID))
		c.warn(res.Warnings)
		if res.Offered == "unknown" {
			c.say("Whether it is offered now is not known here: a machine tells its services to those who may use them.")
		}
	})
}

// grantText is a grant in one line, without its id.
func grantText(g control.Grant) string {
	s := g.Who + " -> " + g.What
	if !g.NotAfter.IsZero() {
		s += "  until " + moment(g.NotAfter)
	}
	if g.Note != "" {
		s += "  (" + g.Note + ")"
	}
	return s
}

// waitMS reads how long to wait for peers.
func waitMS(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	d, err := parseSpan(s)
	if err != nil {
		return 0, err
	}
	if d > control.MaxWait {
		return 0, control.Errorf(control.Usage, "", "wait at most %s", span(control.MaxWait))
	}
	return d.Milliseconds(), nil
}
