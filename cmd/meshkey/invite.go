package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type inviteOptions struct {
	Name       string
	Tags       []string
	For        string
	Uses       int
	Allow      []string
	Guest      string
	RenewUntil string
	Approval   bool
	QR         bool
	Wait       string
}

func newInvite(c *cli) *cobra.Command {
	o := inviteOptions{}
	cmd := &cobra.Command{
		Use:   "invite NAME",
		Short: "Print the command by which another machine joins",
		Example: `  meshkey invite gpu1 --tag gpu --allow nas/postgres
  meshkey invite gpu1 --for 10m | ssh gpu1 meshkey enroll --yes -
  meshkey invite rack --uses 12 --require-approval
  meshkey invite visitor --guest 8h --qr --wait
  meshkey invite ls
  meshkey invite rm 0102030405060708`,
		Long: `Prints one line to paste on the other machine, which shows three words there and asks. Whoever carries the line themselves can say yes; if it went
through other hands, compare the words: this machine shows them while the other asks, with --wait or in "meshkey invite ls".
The invite is a secret: whoever has it first becomes NAME. It is good for one use and one hour, or for a day if each request needs an
approval. Name and tags are fixed here; the newcomer cannot choose them. Several machines become NAME-1, NAME-2 and so on. For a machine
that is a member already it renews the membership, with the tags it has. Machines named "ls" or "rm" cannot be invited by this form.`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			return runInvite(cmd.Context(), c, o, time.Now())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Tags, "tag", nil, "a `tag` of the machine, may be repeated")
	f.StringSliceVar(&o.Allow, "allow", nil, "a `service` it may use from its first moment: NODE/SERVICE, tag:NAME/SERVICE or SERVICE; may be repeated")
	f.StringVar(&o.For, "for", "", "how `long` the invite is good (default 1h, at most 7d)")
	f.StringVar(&o.For, "ttl", "", "the old name of --for")
	f.Lookup("ttl").Hidden = true
	f.IntVar(&o.Uses, "uses", 0, "how many machines may use it (default 1); more than one get numbered names")
	f.StringVar(&o.Guest, "guest", "", "a guest: a member for so `long`, never renewed by itself")
	f.StringVar(&o.RenewUntil, "renew-until", "", "the membership ends at this `time`, and is renewed by itself until then")
	f.BoolVar(&o.Approval, "require-approval", false, "an admin decides about each request: meshkey pending")
	f.BoolVar(&o.QR, "qr", false, "show it as a QR code on stderr as well")
	f.StringVar(&o.Wait, "wait", "", "wait and show the words of who uses it; --wait=10m: at most so `long`")
	f.Lookup("wait").NoOptDefVal = waitAll
	cmd.AddCommand(newInviteList(c), newInviteRemove(c))
	return cmd
}

// waitAll is --wait without a duration: as long as it makes sense.
const waitAll = "7d"

func (o *inviteOptions) request(now time.Time) (*control.InviteRequest, error) {
	r := &control.InviteRequest{Name: o.Name, Tags: o.Tags, Uses: o.Uses, Allow: o.Allow, Approval: o.Approval}
	for _, x := range []struct {
		text string
		ms   *int64
	}{{o.For, &r.TTLMS}, {o.Guest, &r.GuestMS}} {
		if x.text == "" {
			continue
		}
		d, err := parseSpan(x.text)
		if err != nil {
			return nil, err
		}
		if d < time.Millisecond {
			return nil, control.Errorf(control.Usage, "", "%s is no time at all", x.text)
		}
		*x.ms = d.Milliseconds()
	}
	if o.RenewUntil != "" {
		if d, err := parseSpan(o.RenewUntil); err == nil {
			r.RenewUntil = now.Add(d)
		} else if r.RenewUntil, err = parseWhen(o.RenewUntil, now); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func runInvite(ctx context.Context, c *cli, o inviteOptions, now time.Time) error {
	r, err := o.request(now)
	if err != nil {
		return err
	}
	var wait time.Duration
	if o.Wait != "" {
		if wait, err = parseSpan(o.Wait); err != nil {
			return err
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.CreateInvite(ctx, r)
	if err != nil {
		return err
	}
	err = c.print(res, func() {
		fmt.Fprintln(c.out, "meshkey enroll "+clean(res.Text))
		if o.QR {
			qrterminal.GenerateHalfBlock(res.Text, qrterminal.L, c.err)
		}
		c.say("Paste this line on %s.  It is a secret, good for %s until %s.", clean(res.Invite.Name), plural(uint64(max(res.Invite.Uses, 1)), "use"), moment(res.Invite.Expires))
		if len(res.Invite.Allow) > 0 {
			c.say("It may use %s at once.", clean(join(res.Invite.Allow)))
		}
		c.warn(res.Warnings)
		if wait == 0 {
			c.say("To see the words it shows before it joins: meshkey invite ls, while it asks")
		}
		c.say("Undo: meshkey invite rm %s", clean(res.Invite.ID))
	})
	if err != nil || wait == 0 {
		return err
	}
	return watchInvite(ctx, c, client, res.Invite.ID, wait)
}

// invitePoll is how often a waiting invite is looked at: a person reads what comes of it.
const invitePoll = 500 * time.Millisecond

// watchInvite shows who uses an invite, and who waits for approval by it, until it can be used no more.
func watchInvite(ctx context.Context, c *cli, client *control.Client, id string, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	shown := map[string]bool{}
	for {
		l, err := client.Invites(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(l.Invites, func(v control.Invite) bool { return v.ID == id })
		if i < 0 {
			return control.Errorf(control.NotFound, "meshkey invite ls", "the invite %s is gone", clean(id))
		}
		v := l.Invites[i]
		for _, a := range v.Asking {
			if key := a.NodeText + wordsText(a.Words); !shown[key] {
				shown[key] = true
				c.say("A machine at %s (%s) is asked whether to join.  words %s   its screen shows the same, or somebody is in between", clean(a.Address), clean(a.NodeText), clean(wordsText(a.Words)))
			}
		}
		for _, u := range v.Used {
			if !shown[u.Node.ID] {
				shown[u.Node.ID] = true
				c.say("%s is a member now.  words %s", clean(node(u.Node)), clean(wordsText(u.Words)))
			}
		}
		if err := showWaiting(ctx, c, client, v.Waiting, shown); err != nil {
			return err
		}
		if v.State != "open" && len(v.Waiting) == 0 {
			if len(v.Used) == 0 {
				return control.Errorf(control.Failed, "meshkey invite "+clean(v.Name), "nobody used the invite, and it is %s", clean(v.State))
			}
			if c.json() {
				return control.WriteDocument(c.out, &control.Invites{Invites: []control.Invite{v}})
			}
			return nil
		}
		if time.Now().After(deadline) {
			return control.Errorf(control.Unreachable, "meshkey invite ls", "the invite has uses left; it stays good until %s", moment(v.Expires))
		}
		select {
		case <-time.After(invitePoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// showWaiting shows requests that were not shown yet.
func showWaiting(ctx context.Context, c *cli, client *control.Client, ids []string, shown map[string]bool) error {
	if !slices.ContainsFunc(ids, func(id string) bool { return !shown[id] }) {
		return nil
	}
	p, err := client.Pending(ctx)
	if err != nil {
		return err
	}
	for _, w := range p.Waiting {
		if slices.Contains(ids, w.ID) && !shown[w.ID] {
			shown[w.ID] = true
			c.say("%s (%s) waits for approval.  words %s   -> meshkey approve %s", clean(w.Name), clean(w.NodeText), clean(wordsText(w.Words)), clean(w.ID))
		}
	}
	return nil
}

// wordsText writes confirmation words for people.
func wordsText(words []string) string { return strings.Join(words, " · ") }

func newInviteList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the invites of this issuer", Example: `  meshkey invite ls`, Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runInviteList(cmd.Context(), c) },
	}
}

func runInviteList(ctx context.Context, c *cli) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	l, err := client.Invites(ctx)
	if err != nil {
		return err
	}
	return c.print(l, func() {
		if len(l.Invites) == 0 {
			c.say("no invites: meshkey invite NAME")
			return
		}
		rows := [][]string{{"INVITE", "NAME", "STATE", "USED", "UNTIL", "TAGS", "TERMS", "USED BY"}}
		for _, i := range l.Invites {
			var by []string
			for _, n := range i.UsedBy {
				by = append(by, node(n))
			}
			if n := len(i.Waiting); n > 0 {
				by = append(by, fmt.Sprintf("(%d waiting: meshkey pending)", n))
			}
			used := fmt.Sprintf("%d of %d", len(i.UsedBy), len(i.UsedBy)+max(i.Uses, 0))
			rows = append(rows, []string{i.ID, i.Name, i.State, used, moment(i.Expires), dash(join(i.Tags)), dash(inviteTerms(i)), dash(join(by))})
		}
		table(c.out, rows)
		for _, i := range l.Invites {
			for _, a := range i.Asking {
				fmt.Fprintln(c.out, clean(fmt.Sprintf("%s  %s at %s is asked whether to join, with the words %s", i.ID, a.NodeText, a.Address, wordsText(a.Words))))
			}
		}
	})
}

// inviteTerms says what else an invite gives or asks for.
func inviteTerms(i control.Invite) string {
	var t []string
	if i.Approval {
		t = append(t, "approval")
	}
	if i.Guest {
		t = append(t, "guest")
	}
	if !i.RenewUntil.IsZero() {
		t = append(t, "ends "+moment(i.RenewUntil))
	}
	if len(i.Allow) > 0 {
		t = append(t, "may use "+join(i.Allow))
	}
	return join(t)
}

func newInviteRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "rm INVITE", Short: "Withdraw an invite", Example: `  meshkey invite rm 0102030405060708`, Args: exactly("INVITE"),
		RunE: func(cmd *cobra.Command, args []string) error { return runInviteRemove(cmd.Context(), c, args[0]) },
	}
}

func runInviteRemove(ctx context.Context, c *cli, id string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.RemoveInvite(ctx, id); err != nil {
		return err
	}
	return c.print(&control.Empty{}, func() {
		c.say("Invite %s cannot be used any more. Who has used it stays a member: meshkey revoke NODE", clean(id))
	})
}
