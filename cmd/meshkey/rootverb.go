package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

func newRootVerb(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Show and change the root: its keys, and who may speak for the mesh",
		Example: `  meshkey root show
  meshkey root export --out homelab-root.age                  back up the root key
  meshkey root issuer add pi4.key --out next.root             propose; sign it where the root keys are
  meshkey root sign next.root --key /media/stick/root.age     on any machine, without a network
  meshkey root accept next.root                               on a member; the rest of the mesh follows`,
		Long: `A change of the root is a file that lists what changes and collects signatures: of as many root keys as the root before it
wants, and of as many as the new one wants. Where one key is enough and lies on this machine, a change is made in one step. The
daemon never needs a root key. docs/operating.md tells what to do when an issuer or the root's passphrase is lost.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return groupHelp(cmd, args) },
	}
	cmd.AddCommand(newRootShow(c), newRootAddKey(c), newRootRemoveKey(c), newRootThreshold(c), newRootStale(c), newRootIssuer(c), newRootSign(c), newRootAccept(c), newRootExport(c))
	return cmd
}

// groupHelp is the run function of a verb that only holds others.
func groupHelp(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return control.Errorf(control.Usage, cmd.CommandPath()+" --help", "%s has no verb %q", cmd.CommandPath(), clipArg(args[0]))
	}
	return cmd.Help()
}

// changeOptions are those of every verb that changes the root.
type changeOptions struct {
	Out    string
	Chain  string
	Yes    bool
	DryRun bool
	Force  bool
	Wait   string
	Key    rootKeyFlags
}

// rootKeyFlags say which root key to sign with, and how it opens.
type rootKeyFlags struct {
	File   string
	Secret secretSource
	Keys   keyFlags
}

func (o *rootKeyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.File, "key", "", "`file` of the root key to sign with (default: root.age in the state directory)")
	secretFlags(f, &o.Secret)
	o.Keys.add(f)
}

func (o *changeOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.Out, "out", "", "write the proposal to this `file`, for others to sign")
	f.StringVar(&o.Chain, "chain", "", "propose on the root chain in this `file` (meshkey root export --chain) instead of asking the daemon")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, show what would change")
	f.BoolVar(&o.Force, "force", false, "also if nobody is left who may enrol, revoke or grant")
	f.StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	o.Key.add(cmd)
}

// rootKeyFile is where the key to sign with should be.
func (c *cli) rootKeyFile(o rootKeyFlags) (string, error) {
	if o.File != "" {
		return filepath.Abs(o.File)
	}
	p, err := c.paths()
	if err != nil {
		return "", err
	}
	return filepath.Join(p.State, "root.age"), nil
}

// openRootKey opens the root key of a mesh.
func (c *cli) openRootKey(ctx context.Context, o rootKeyFlags, mesh keys.MeshID) (*keys.SigningKey, error) {
	file, err := c.rootKeyFile(o)
	if err != nil {
		return nil, err
	}
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	ko, err := c.keyOptions(ctx, cfg, o.Keys)
	if err != nil {
		return nil, err
	}
	k, err := daemon.OpenRootKey(daemon.RootKeyOptions{
		File: file, Mesh: mesh, Keys: ko,
		Passphrase: func() (string, error) {
			b, err := c.passphrase(o.Secret, "the passphrase of "+file, false)
			return string(b), err
		},
	})
	return k, keyFileError("the root key "+file, err)
}

// chain is the chain of roots to propose on: from a file, or the daemon's.
func (c *cli) chain(ctx context.Context, file string) (*trust.State, error) {
	if file != "" {
		text, err := c.readCarried(file)
		if err != nil {
			return nil, err
		}
		st, err := trust.ParseChain(text)
		return st, daemon.RootError(err)
	}
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	doc, err := client.RootChain(ctx)
	if err != nil {
		e := control.AsError(err)
		if e.Code == control.NotRunning {
			e.Next = "meshkey daemon, or give --chain FILE from: meshkey root export --chain"
		}
		return nil, e
	}
	st, err := trust.ParseChain([]byte(doc.Text))
	return st, daemon.RootError(err)
}

// propose makes a change of the root: as a file, or in one step where one key is enough.
func (c *cli) propose(ctx context.Context, o changeOptions, change func(*trust.Root) error) error {
	st, err := c.chain(ctx, o.Chain)
	if err != nil {
		return err
	}
	return c.proposeOn(ctx, st, o, change)
}

func (c *cli) proposeOn(ctx context.Context, st *trust.State, o changeOptions, change func(*trust.Root) error) error {
	now := time.Now().Unix()
	p, err := st.Propose(now, change)
	if err != nil {
		return daemon.RootError(usageIfPlain(err))
	}
	if len(p.Changes()) == 0 {
		return control.Errorf(control.Failed, "meshkey root show", "this would change nothing")
	}
	lost := p.Next().Stranded(p.Base(), now)
	if lost != 0 && !o.Force {
		return control.Errorf(control.Denied, "add another issuer first (meshkey keys new issuer), or add --force", "after this nobody could do this any more: %s", lost)
	}
	oneStep := o.Out == ""
	if g := p.Progress(); oneStep && !o.DryRun && (g.OldNeed > 1 || g.NewNeed > 1) {
		return control.Errorf(control.Usage, "give --out FILE, then on each machine with a root key: meshkey root sign FILE",
			"this root needs signatures of %d of the keys before the change and %d of those after it", g.OldNeed, g.NewNeed)
	}
	c.showProposal(p)
	if lost != 0 {
		c.warn([]control.Warning{{Text: "after this nobody can do this any more: " + lost.String()}})
	}
	if o.DryRun {
		return c.print(proposalDoc(p), func() { c.say("Nothing was changed.") })
	}
	if oneStep || o.Key.File != "" {
		if !oneStep || o.Chain == "" {
			if err := c.signProposal(ctx, p, o.Key, o.Yes); err != nil {
				return err
			}
		} else {
			return control.Errorf(control.Usage, "give --out FILE", "a proposal on a chain from a file goes into a file")
		}
	}
	if oneStep {
		return c.acceptProposal(ctx, p, o.Wait)
	}
	text, err := p.Encode()
	if err != nil {
		return err
	}
	if err := writeFile(o.Out, text, 0o644, false); err != nil {
		return err
	}
	return c.print(proposalDoc(p), func() { c.sayNext(p, o.Out) })
}

// usageIfPlain makes a refusal of an edit that has no code of its own a question of usage.
func usageIfPlain(err error) error {
	if errors.As(err, new(*control.Error)) || control.AsError(daemon.RootError(err)).Code != control.Failed {
		return err
	}
	return control.Errorf(control.Usage, "meshkey root show", "%w", err)
}

// sayNext tells what a proposal still needs.
func (c *cli) sayNext(p *trust.Proposal, file string) {
	if p.Progress().Enough() {
		c.say("Enough have signed. On a member of the mesh: meshkey root accept %s", quoteArg(file))
		return
	}
	c.say("Proposed in %s. On each machine with a root key: meshkey root sign %s", file, quoteArg(file))
}

// signProposal asks, opens the key and signs.
func (c *cli) signProposal(ctx context.Context, p *trust.Proposal, key rootKeyFlags, yes bool) error {
	if !yes {
		answer, err := c.ask(ctx, "Sign it? [y/N] ", "--yes signs without asking")
		if err != nil {
			return err
		}
		if answer != "y" && answer != "Y" && answer != "yes" {
			return control.Errorf(control.Failed, "", "nothing was signed")
		}
	}
	k, err := c.openRootKey(ctx, key, p.Base().Mesh)
	if err != nil {
		return err
	}
	return daemon.RootError(p.Sign(k))
}

// acceptProposal hands a signed root to the daemon.
func (c *cli) acceptProposal(ctx context.Context, p *trust.Proposal, wait string) error {
	raw, err := p.Root()
	if err != nil {
		return daemon.RootError(err)
	}
	return c.acceptRoot(ctx, &control.AcceptRootRequest{Root: raw}, wait)
}

func (c *cli) acceptRoot(ctx context.Context, r *control.AcceptRootRequest, wait string) error {
	var err error
	if r.WaitMS, err = waitMS(wait); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.AcceptRoot(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("Root %d holds now.", res.Version)
		c.sayVoided(res.Voided)
		c.say("%s", clean(spread(res.Spread)))
		c.warn(res.Warnings)
	})
}

func (c *cli) sayVoided(v control.Voided) {
	for _, r := range v.Removals {
		c.say("  undoes      %s", clean(r.Text))
	}
	for _, m := range v.Members {
		c.say("  no member   %s  (%s)", clean(node(m)), clean(m.ID))
	}
	for _, g := range v.Grants {
		c.say("  makes void  %s  %s", clean(g.ID), clean(grantText(g)))
	}
}

// proposalDoc describes a proposal for programs.
func proposalDoc(p *trust.Proposal) *control.Root {
	d := daemon.RootDoc(p.Next())
	g := p.Progress()
	d.Changes, d.Signed, d.Missing, d.Enough = daemon.RootChangeDocs(p.Changes()), daemon.RootKeyDocs(g.Signed), daemon.RootKeyDocs(g.Missing), g.Enough()
	return d
}

// showProposal tells people what they are about to sign.
func (c *cli) showProposal(p *trust.Proposal) {
	d, g := proposalDoc(p), p.Progress()
	c.say("mesh %s  %s", clean(p.Base().Name), p.Base().Mesh)
	c.say("root %d, to follow root %d of %s", p.Next().Version, p.Base().Version, time.Unix(p.Base().Issued, 0).UTC().Format(time.RFC3339))
	c.sayChanges(d.Changes)
	c.say("signatures: %d of %d by the keys before the change, %d of %d by those after it", g.Old, g.OldNeed, g.New, g.NewNeed)
	for _, k := range d.Signed {
		c.say("  signed      %s", clean(k.Name))
	}
	if !d.Enough {
		for _, k := range d.Missing {
			c.say("  may sign    %s  %s", clean(k.Name), clean(k.Key))
		}
	}
}

func (c *cli) sayChanges(list []control.RootChange) {
	for _, x := range list {
		switch {
		case x.Before == "":
			c.say("  + %s", clean(fmt.Sprintf("%s: %s", x.What, x.After)))
		case x.After == "":
			c.say("  - %s", clean(fmt.Sprintf("%s: %s", x.What, x.Before)))
		default:
			c.say("  ~ %s", clean(fmt.Sprintf("%s: %s -> %s", x.What, x.Before, x.After)))
		}
	}
}

// publicLine reads the line of a new key from a file or stdin, and checks that it is for this mesh.
func (c *cli) publicLine(name string, kind keys.KeyKind, mesh keys.MeshID) (keys.PublicLine, error) {
	text, err := c.readCarried(name)
	if err != nil {
		return keys.PublicLine{}, err
	}
	l, err := keys.ParsePublicLine(string(text))
	if err != nil {
		return l, control.Errorf(control.Usage, "copy the line again that was printed by: meshkey keys new "+string(kind), "%s: %w", name, err)
	}
	if l.Kind != kind {
		return l, control.Errorf(control.Usage, "", "%s holds the key of a %s, not of a %s", name, l.Kind, kind)
	}
	if l.Mesh != mesh {
		return l, control.Errorf(control.Unverified, "make a key for this mesh", "%s holds a key for mesh %s, and this is mesh %s", name, l.Mesh.Short(), mesh.Short())
	}
	return l, nil
}
