package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
)

type enrollOptions struct {
	Invite       string // the text, or "-" for stdin
	Yes          bool
	DaemonSecret string // file
}

func newEnroll(c *cli) *cobra.Command {
	o := enrollOptions{}
	cmd := &cobra.Command{
		Use:   "enroll INVITE | -",
		Short: "Join a mesh with an invite",
		Example: `  meshkey enroll mk1iabc…        the line meshkey invite has printed on an issuer
  meshkey enroll - < invite.txt`,
		Long: `Shows the mesh and three confirmation words, and asks. The issuer shows the same words: compare them if you did not carry the
invite yourself. Nothing but this machine's public key is sent before. If the answer gets lost, run it again with the same invite.`,
		Args: exactly("INVITE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Invite = args[0]
			return runEnroll(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask: whoever passed the invite is trusted")
	f.StringVar(&o.DaemonSecret, "daemon-passphrase-file", "", "seal this machine's own keys to the passphrase in `file`: the daemon then needs it at each start")
	return cmd
}

func runEnroll(ctx context.Context, c *cli, o enrollOptions) error {
	text := o.Invite
	if text == "-" {
		var err error
		if text, err = c.invite(ctx); err != nil {
			return err
		}
	}
	inv, err := identity.ParseInvite(text)
	if err != nil {
		// The text is a secret: it is not repeated.
		return control.Errorf(control.Usage, "copy the whole line that begins with mk1i", "%w", err)
	}
	p, err := c.paths()
	if err != nil {
		return err
	}
	r := enrollRequest{StateDir: p.State, Invite: inv}
	if r.Keys, err = c.ownKeyOptions(ctx); err != nil {
		return err
	}
	if r.DaemonPassphrase, err = optionalSecret(o.DaemonSecret); err != nil {
		return err
	}
	if !o.Yes && !c.inTerm {
		return control.Errorf(control.Usage, "--yes joins without asking", "joining a mesh is confirmed on a terminal, and there is none")
	}
	var askErr error
	r.Confirm = func(of offer) bool {
		c.showOffer(of)
		if o.Yes {
			return true
		}
		answer, err := c.ask(ctx, "Join it? [y/N] ", "--yes joins without asking")
		askErr = err
		return err == nil && (answer == "y" || answer == "yes" || answer == "Y")
	}
	d, err := c.system.Enroll(ctx, r)
	if askErr != nil {
		return askErr
	}
	if err != nil {
		return err
	}
	d.StateDir = p.State
	return c.print(d, func() {
		c.say("This machine is %q in mesh %q now, with %s.", d.Node.Name, d.Mesh.Name, plural(uint64(max(d.Members-1, 0)), "other member"))
		table(c.out, [][]string{{"node", d.Node.Name, d.NodeText}, {"mesh", d.Mesh.Name, d.Mesh.ID}, {"until", moment(d.NotAfter), "before that: a new invite of the same name"}})
		c.say("Start it: meshkey daemon        Then: meshkey status")
	})
}

func (c *cli) showOffer(of offer) {
	c.say("mesh     %s (%s)", clean(of.Mesh.Name), clean(of.Mesh.ID))
	c.say("issuer   %s", clean(node(of.Issuer)))
	name := of.Name
	if len(of.Tags) > 0 {
		name += "  tags " + strings.Join(of.Tags, ", ")
	}
	c.say("you are  %s", clean(name))
	c.say("words    %s", clean(fmt.Sprintf("%s · %s · %s", of.Words[0], of.Words[1], of.Words[2])))
}

// invite reads an invite from stdin: one line, or several where a terminal has broken it.
func (c *cli) invite(ctx context.Context) (string, error) {
	if c.inTerm {
		c.say("Paste the invite and press Enter:")
	}
	return c.line(ctx)
}
