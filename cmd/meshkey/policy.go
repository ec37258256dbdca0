package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

type policyOptions struct {
	File   string
	Yes    bool
	DryRun bool
	Force  bool
	Wait   string
}

func newPolicy(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Keep the permissions of the mesh in a file",
		Example: `  meshkey policy check policy.toml       is it well formed? (no daemon needed)
  meshkey policy test policy.toml        would its tests hold?
  meshkey policy diff policy.toml        what would it give, take and close?
  meshkey policy apply policy.toml       make it so`,
		Long: `A policy file has a table [[grant]] for each permission, and [[test]] for what must come of them:

  [[grant]]
  who = "tag:dba"
  what = ["*/postgres", "nas/redis"]

  [[test]]
  who = "laptop"
  deny = "nas/postgres"

It owns the grants it has made, and no others. docs/policy.md has the whole of it.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyCheck(c), newPolicyTest(c), newPolicyDiff(c), newPolicyApply(c))
	return cmd
}

func newPolicyCheck(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Read a policy file, without the mesh",
		Example: `  meshkey policy check policy.toml`,
		Args:    exactly("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return runPolicyCheck(c, args[0]) },
	}
}

func newPolicyTest(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "test FILE",
		Short:   "Ask what the tests of a policy file would meet",
		Example: `  meshkey policy test policy.toml && echo holds`,
		Long:    `The tests are asked of the grants there would be after an apply, also of those made by hand. Nothing is changed.`,
		Args:    exactly("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return runPolicyTest(cmd.Context(), c, args[0]) },
	}
}

func newPolicyDiff(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "diff FILE",
		Short:   "Show what a policy file would give, take and close",
		Example: `  meshkey policy diff policy.toml`,
		Long: `Who gains and who loses is asked of every pair of machines that a changed grant is about. Of streams, those are told that this machine is an
end of; others close in the same way. Nothing is changed.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return runPolicyDiff(cmd.Context(), c, args[0]) },
	}
}

func newPolicyApply(c *cli) *cobra.Command {
	o := policyOptions{}
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the grants of a policy file, and take back those it has no more",
		Example: `  meshkey policy apply policy.toml
  meshkey policy apply policy.toml --dry-run     the same as diff
  meshkey policy apply policy.toml --yes         from a script`,
		Long: `It asks before it takes anything. Nothing is changed if a test of the file would not hold, or if the grants have changed since they were
shown. A change after which nobody could use any service at all, or none of a machine that can grant, needs --force.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.File = args[0]
			return runPolicyApply(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Yes, "yes", false, "do not ask")
	f.BoolVar(&o.DryRun, "dry-run", false, "only show what would change")
	f.BoolVar(&o.Force, "force", false, "also if it locks out")
	f.StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	return cmd
}

// readPolicy reads a file, bounded, and looks whether it is well formed: what is not UTF-8 would not come to the daemon as it is.
func (c *cli) readPolicy(name string) (string, *config.Policy, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, control.Errorf(control.NotFound, "", "there is no file %s", name)
	}
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, config.MaxPolicyFile+1))
	if err != nil {
		return "", nil, err
	}
	p, err := daemon.ParsePolicy(name, b)
	return string(b), p, err
}

// policyCheck is the document of policy check.
type policyCheck struct {
	control.Envelope
	Policy string `json:"policy"`
	Grants int    `json:"grants"` // tables
	Tests  int    `json:"tests"`
}

func (*policyCheck) SchemaName() string { return "meshkey.policy-check/1" }

func runPolicyCheck(c *cli, file string) error {
	_, p, err := c.readPolicy(file)
	if err != nil {
		return err
	}
	return c.print(&policyCheck{Policy: p.Name, Grants: len(p.Grants), Tests: len(p.Tests)}, func() {
		fmt.Fprintf(c.out, "policy %s: %s, %s, well formed\n", p.Name, plural(uint64(len(p.Grants)), "grant"), plural(uint64(len(p.Tests)), "test"))
		c.say("What its names mean is looked up by: meshkey policy diff %s", clean(quoteArg(file)))
	})
}

// askPolicy reads a file and hands it to the daemon.
func (c *cli) askPolicy(ctx context.Context, file, mode string) (*control.PolicyResult, error) {
	text, _, err := c.readPolicy(file)
	if err != nil {
		return nil, err
	}
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	return client.PolicyFile(ctx, &control.PolicyRequest{File: file, Text: text, Mode: mode})
}

func runPolicyTest(ctx context.Context, c *cli, file string) error {
	res, err := c.askPolicy(ctx, file, control.PolicyTest)
	if err != nil {
		return err
	}
	if err := c.print(res, func() {
		c.warn(res.Warnings)
		c.showTests(file, res)
		if res.FailedAll == 0 {
			fmt.Fprintf(c.out, "%s asked, all as the tests say\n", plural(uint64(res.Asked), "decision"))
		}
	}); err != nil {
		return err
	}
	if res.FailedAll > 0 {
		return exitWith(control.Failed)
	}
	return nil
}

func runPolicyDiff(ctx context.Context, c *cli, file string) error {
	res, err := c.askPolicy(ctx, file, control.PolicyDiff)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.showChange(file, res)
		if res.Changed {
			c.say("Nothing was changed. Make it so: meshkey policy apply %s", clean(quoteArg(file)))
		}
	})
}

func runPolicyApply(ctx context.Context, c *cli, o policyOptions) error {
	if o.DryRun {
		return runPolicyDiff(ctx, c, o.File)
	}
	ms, err := waitMS(o.Wait)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	// It is read once: what was shown is what is applied, also from a pipe.
	r := control.PolicyRequest{File: o.File, Mode: control.PolicyDiff}
	if r.Text, _, err = c.readPolicy(o.File); err != nil {
		return err
	}
	shown, err := client.PolicyFile(ctx, &r)
	if err != nil {
		return err
	}
	if !c.json() {
		c.showChange(o.File, shown)
	}
	refused := shown.FailedAll > 0 || shown.LockOut != "" && !o.Force // which is for the daemon to say
	if shown.Changed && len(shown.Removed) > 0 && !o.Yes && !refused {
		answer, err := c.ask(ctx, "Make this change? [y/N] ", "--yes makes it without asking, --dry-run only shows it")
		if err != nil {
			return err
		}
		if answer != "y" && answer != "yes" {
			return control.Errorf(control.Failed, "", "nothing was changed")
		}
	}
	r.Mode, r.Plan, r.Force, r.WaitMS = control.PolicyApply, shown.Plan, o.Force, ms
	res, err := client.PolicyFile(ctx, &r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		if !res.Done {
			return
		}
		for _, g := range res.Added {
			c.say("granted %s  %s", clean(g.ID), clean(grantText(g.Grant)))
		}
		if res.Spread != nil {
			c.say("%s.", clean(spread(*res.Spread)))
		}
		c.say("Undo: meshkey policy apply, with the file as it was before")
	})
}

// showTests names what does not hold, as a compiler does.
func (c *cli) showTests(file string, res *control.PolicyResult) {
	for _, f := range res.Failed {
		fmt.Fprintf(c.out, "%s:%d:%d: %s\n", clean(file), f.Line, f.Column, clean(f.Text))
	}
	if more := res.FailedAll - len(res.Failed); more > 0 {
		fmt.Fprintf(c.out, "and %d more\n", more)
	}
	if res.FailedAll > 0 {
		c.say("%s of %s asked would not be as the tests say.", count(uint64(res.FailedAll)), count(uint64(res.Asked)))
	}
}

// showChange shows grants with + and −, then what they come to.
func (c *cli) showChange(file string, res *control.PolicyResult) {
	c.warn(res.Warnings)
	for _, g := range res.Added {
		fmt.Fprintf(c.out, "+ %s   line %d\n", clean(grantText(g.Grant)), g.Line)
	}
	for _, g := range res.Removed {
		fmt.Fprintf(c.out, "- %s  %s\n", clean(g.ID), clean(grantText(g.Grant)))
	}
	if !res.Changed {
		fmt.Fprintf(c.out, "policy %s: nothing to change, %s in force or to come\n", clean(res.Policy), plural(uint64(res.Kept), "grant"))
	}
	list := func(word string, all []control.Access, total int) {
		for _, a := range all {
			streams := ""
			if a.Streams > 0 {
				streams = "  (" + plural(uint64(a.Streams), "stream") + " of this machine)"
			}
			fmt.Fprintf(c.out, "%s  %s -> %s%s\n", word, clean(a.From), clean(a.Target), streams)
		}
		if total > len(all) {
			fmt.Fprintf(c.out, "%s  and %s more\n", word, count(uint64(total-len(all))))
		}
	}
	list("gains ", res.Gained, res.GainedAll)
	list("loses ", res.Lost, res.LostAll)
	list("closes", res.Closes, len(res.Closes))
	if res.Partly {
		c.say("There are more pairs of machines than are asked about: who gains and loses is not told in full.")
	}
	if res.Changed && res.GainedAll+res.LostAll == 0 && !res.Partly {
		c.say("Nobody gains or loses anything by it now.")
	}
	if res.LockOut != "" {
		c.say("%s", c.yellow("! ")+clean(res.LockOut))
	}
	c.showTests(file, res)
}
