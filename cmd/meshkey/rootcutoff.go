package main

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

type cutoffOptions struct {
	Issuer   string
	At       int64 // -1: not given
	Remove   bool
	NoRepeat bool
	Drop     []string
	Group    string
	changeOptions
}

func newRootIssuerCut(c *cli, remove bool) *cobra.Command {
	o := cutoffOptions{Remove: remove}
	cmd := &cobra.Command{
		Use:   "cutoff NAME",
		Short: "Propose that an issuer's chain ends, and at which entry: its key was stolen",
		Example: `  meshkey root issuer cutoff nas --dry-run     what it would take back
  meshkey root issuer cutoff nas --at 41       everything up to entry 41 stays valid, nothing after it counts`,
		Long: `Without --at the chain ends where it is now, or before the entry in which the issuer contradicts itself. Revocations and ungrants
behind the cutoff would be undone: they are listed, and this machine's own issuer makes them again first. Those that the thief made are
left out with --drop. Run it on the machine of another issuer. A cutoff is for ever; it can only be set earlier.`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Issuer = args[0]
			return runRootIssuerCut(cmd.Context(), c, o)
		},
	}
	if remove {
		cmd.Use, cmd.Short = "remove NAME", "Propose an issuer's end: no rights, and a cutoff behind its last entry"
		cmd.Example = `  meshkey root issuer remove nas`
		cmd.Long = `What the issuer has done stays valid. The root keeps it with no rights and a cutoff, so that its key can never be used again. See
cutoff for a key that was stolen.`
	}
	f := cmd.Flags()
	f.Int64Var(&o.At, "at", -1, "number of the last `entry` that counts")
	f.BoolVar(&o.NoRepeat, "no-repeat", false, "let all revocations and ungrants behind the cutoff be undone")
	f.StringSliceVar(&o.Drop, "drop", nil, "let this one be undone, by its `id` in the list; may be repeated")
	f.StringVar(&o.Group, "group-issuer", "", "`issuer` of the group secret from then on, if this one was (default: this machine's, or the first that works)")
	o.add(cmd)
	return cmd
}

func runRootIssuerCut(ctx context.Context, c *cli, o cutoffOptions) error {
	if o.Chain != "" {
		return control.Errorf(control.Usage, "run it on a member, with --out FILE", "where a chain ends is known to the daemon, not to a file of roots")
	}
	r := &control.CutIssuerRequest{Issuer: o.Issuer, DryRun: true, NoRepeat: o.NoRepeat, Drop: o.Drop}
	if o.At >= 0 {
		at := uint64(o.At)
		r.At = &at
	}
	var err error
	if r.WaitMS, err = waitMS(o.Wait); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	would, err := client.CutIssuer(ctx, r)
	if err != nil {
		return err
	}
	c.showCut(would, o)
	st, err := c.chain(ctx, "")
	if err != nil {
		return err
	}
	change, err := cutChange(would, o, time.Now().Unix())
	if err != nil {
		return err
	}
	if o.DryRun {
		if c.json() {
			return control.WriteDocument(c.out, would)
		}
		return c.proposeOn(ctx, st, o.changeOptions, change)
	}
	// Everything that can be refused is refused before anything happens: a proposal that is thrown away.
	trial := o.changeOptions
	trial.DryRun, trial.Out = true, "-"
	quiet := *c
	quiet.out, quiet.err = discard{}, discard{}
	if err := quiet.proposeOn(ctx, st, trial, change); err != nil {
		return err
	}
	if o.Out == "" && (st.Root().Threshold > 1) {
		return control.Errorf(control.Usage, "give --out FILE, then on each machine with a root key: meshkey root sign FILE", "this root needs %d signatures", st.Root().Threshold)
	}
	if !o.Yes {
		answer, err := c.ask(ctx, "Type the issuer's name to go on: ", "--yes does it without asking, --dry-run only shows")
		if err != nil {
			return err
		}
		if answer != would.Name {
			return control.Errorf(control.Failed, "", "nothing was changed")
		}
		o.Yes = true
	}
	r.DryRun = false
	r.At = &would.Cutoff.Seq
	done, err := client.CutIssuer(ctx, r)
	if err != nil {
		return err
	}
	if done.Repeated > 0 {
		c.say("Made again by this machine's issuer: %s. %s", plural(uint64(done.Repeated), "removal"), clean(spread(done.Spread)))
	}
	if change, err = cutChange(done, o, time.Now().Unix()); err != nil {
		return err
	}
	return c.proposeOn(ctx, st, o.changeOptions, change)
}

// discard is nobody's output.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// cutChange is the edit of the root.
func cutChange(d *control.CutIssuerResult, o cutoffOptions, now int64) (func(*trust.Root) error, error) {
	id, err := keys.ParseNodeID(d.Key)
	if err != nil {
		return nil, err
	}
	hash, err := hex.DecodeString(d.Cutoff.Hash)
	if err != nil || len(hash) != 32 {
		return nil, control.Errorf(control.Failed, "meshkey version", "the daemon names an entry by %q", clipArg(d.Cutoff.Hash))
	}
	return func(r *trust.Root) error {
		group, err := nextGroupIssuer(r, id.Public(), o.Group, d.Here, now)
		if err != nil {
			return err
		}
		return r.CutIssuer(id.Public(), trust.Cutoff{Seq: d.Cutoff.Seq, Hash: keys.Hash(hash)}, o.Remove, group)
	}, nil
}

// nextGroupIssuer is who makes the group secret when the one that did is cut off.
func nextGroupIssuer(r *trust.Root, cut keys.PublicKey, asked, here string, now int64) (keys.PublicKey, error) {
	if asked != "" {
		is, err := r.FindIssuer(asked)
		if err != nil {
			return keys.PublicKey{}, daemon.RootError(err)
		}
		if is.ID == cut || !is.Works(now) {
			return keys.PublicKey{}, control.Errorf(control.Usage, "meshkey root show", "issuer %s does not work", is.Name)
		}
		return is.ID, nil
	}
	var first keys.PublicKey
	for i := range r.Issuers {
		is := &r.Issuers[i]
		if is.ID == cut || !is.Works(now) {
			continue
		}
		if keys.NodeID(is.ID).Compact() == here {
			return is.ID, nil
		}
		if first.IsZero() {
			first = is.ID
		}
	}
	return first, nil
}

func (c *cli) showCut(d *control.CutIssuerResult, o cutoffOptions) {
	c.say("Issuer %s (%s)", clean(d.Name), clean(d.Key))
	c.say("  counts up to entry %d", d.Cutoff.Seq)
	drop := map[string]bool{}
	for _, id := range o.Drop {
		drop[id] = true
	}
	for _, r := range d.Voided.Removals {
		if o.NoRepeat || drop[r.ID] {
			c.say("  undoes      %s  (%s)", clean(r.Text), clean(r.ID))
		} else {
			c.say("  made again  %s  (%s)", clean(r.Text), clean(r.ID))
		}
	}
	rest := d.Voided
	rest.Removals = nil
	c.sayVoided(rest)
}
