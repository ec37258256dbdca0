package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
)

type enrollOptions struct {
	Invite       string // the text, "-" for stdin, "" for the environment
	Yes          bool
	Wait         string
	Name         string
	Tags         []string
	Mesh         string
	Request      string // file
	Response     string // file
	DaemonSecret string // file
	Start        bool
}

func newEnroll(c *cli) *cobra.Command {
	o := enrollOptions{}
	cmd := &cobra.Command{
		Use:   "enroll [INVITE | -]",
		Short: "Join a mesh with an invite, or by two files",
		Example: `  meshkey enroll mk1iabc…                      the line meshkey invite has printed on an issuer
  meshkey enroll mk1iabc… --start              and run its daemon
  meshkey enroll - < invite.txt
  meshkey enroll --wait mk1iabc…               wait until an admin has approved it
  meshkey enroll --mesh ID --request gpu3.mkq  without a network: carry the file to an issuer (meshkey approve gpu3.mkq) …
  meshkey enroll --response gpu3.mkr           … and its answer back`,
		Long: `Shows the mesh and three confirmation words, and asks. If you did not carry the invite yourself, compare the words before you say yes: the
issuer shows them meanwhile, in "meshkey invite ls" and in "meshkey invite NAME --wait". Nothing but this machine's public key is sent before. If the answer gets lost, run it again with the same invite.
Given as INVITE it leaves the list of processes at once, not the shell's history. Without INVITE it is taken from MESHKEY_INVITE, from the systemd credential meshkey.invite, or asked for. An invite that needs an
approval ends with exit code 9; run it again later, or give --wait. On a member it renews the membership.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > maxPieces {
				return control.Errorf(control.Usage, "meshkey enroll --help", "these are too many arguments for an invite")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Invite = strings.Join(args, " ") // a paste may have been broken into several
			return runEnroll(cmd.Context(), c, o, cmd.Flags())
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask: whoever passed the invite is trusted")
	f.StringVar(&o.Wait, "wait", "", "wait for an approval; --wait=10m: at most so `long`")
	f.Lookup("wait").NoOptDefVal = waitAll
	f.StringVar(&o.Name, "name", "", "the `name` to wish for, where an admin decides (default: the invite's, or this host's)")
	f.StringSliceVar(&o.Tags, "tag", nil, "a `tag` to wish for, where an admin decides; may be repeated")
	f.StringVar(&o.Mesh, "mesh", "", "with --request: the `id` of the mesh; an issuer shows it with meshkey status --json")
	f.StringVar(&o.Request, "request", "", "write a request to this new `file`")
	f.StringVar(&o.Response, "response", "", "take the answer to it from this `file`")
	f.BoolVar(&o.Start, "start", false, "start the daemon in the background, too (asked on a terminal, but not root)")
	f.StringVar(&o.DaemonSecret, "daemon-passphrase-file", "", "seal this machine's own keys to the passphrase in `file`: the daemon then needs it at each start")
	return cmd
}

func runEnroll(ctx context.Context, c *cli, o enrollOptions, flags *pflag.FlagSet) error {
	p, err := c.paths()
	if err != nil {
		return err
	}
	switch {
	case o.Request != "" && o.Response != "", (o.Request != "" || o.Response != "") && o.Invite != "", (o.Mesh != "") != (o.Request != ""):
		return control.Errorf(control.Usage, "meshkey enroll --help", "give an invite, or --mesh and --request, or --response")
	case o.Request != "":
		return enrollRequestFile(ctx, c, o, p.State)
	case o.Response != "":
		return enrollResponseFile(ctx, c, o, p.State)
	}
	c.hideInvite(ctx, o.Invite, flags)
	text, err := c.inviteText(ctx, o.Invite)
	if err != nil {
		return err
	}
	inv, err := identity.ParseInvite(inviteIn(text))
	if err != nil {
		// The text is a secret: it is not repeated.
		return control.Errorf(control.Usage, "copy the whole line that begins with mk1i", "%w", err)
	}
	r := enrollRequest{StateDir: p.State, Invite: inv, Name: o.Name, Tags: identity.NormalTags(o.Tags)}
	if err := checkWishes(r.Name, r.Tags); err != nil {
		return err
	}
	if o.Wait != "" {
		if r.Wait, err = parseSpan(o.Wait); err != nil {
			return err
		}
	}
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
	r.Waiting = func(of offer) {
		c.say("Waiting for approval.  words %s", clean(wordsText(of.Words[:])))
		c.say("An admin compares them on %s with: meshkey pending", clean(node(of.Issuer)))
	}
	d, err := c.system.Enroll(ctx, r)
	if askErr != nil {
		return askErr
	}
	if err != nil {
		return err
	}
	return c.enrolled(ctx, d, o, p.State)
}

func checkWishes(name string, tags []string) error {
	if name != "" {
		if err := checkName("machine", name); err != nil {
			return err
		}
	}
	if err := identity.CheckTags(tags); err != nil {
		return control.Errorf(control.Usage, "", "%w", err)
	}
	return nil
}

// enrolled shows a membership.
func (c *cli) enrolled(ctx context.Context, d *enrollDocument, o enrollOptions, state string) error {
	d.StateDir = state
	return c.begun(ctx, d, &d.Daemon, func() {
		how := "is"
		if d.Renewed {
			how = "stays"
		}
		c.say("This machine %s %q in mesh %q now, with %s.", how, d.Node.Name, d.Mesh.Name, plural(uint64(max(d.Members-1, 0)), "other member"))
		table(c.out, [][]string{{"node", d.Node.Name, d.NodeText}, {"mesh", d.Mesh.Name, d.Mesh.ID}, {"until", moment(d.NotAfter), "the daemon renews it before that, if it is no guest's"}})
	}, o.Start, o.DaemonSecret, "meshkey status")
}

// enrollRequestFile writes a request to a file.
func enrollRequestFile(ctx context.Context, c *cli, o enrollOptions, state string) error {
	r := requestRequest{StateDir: state, Name: o.Name, Tags: identity.NormalTags(o.Tags)}
	var err error
	if r.Mesh, err = keys.ParseMeshID(o.Mesh); err != nil {
		return control.Errorf(control.Usage, "", "%w", err)
	}
	if r.Host, err = c.machineName(""); err != nil && o.Name == "" {
		return err
	}
	if err := checkWishes(r.Name, r.Tags); err != nil {
		return err
	}
	if r.DaemonPassphrase, err = optionalSecret(o.DaemonSecret); err != nil {
		return err
	}
	if r.Keys, err = c.ownKeyOptions(ctx); err != nil {
		return err
	}
	out, err := newFile(o.Request)
	if err != nil {
		return err
	}
	d, file, err := c.system.Request(ctx, r)
	if err == nil {
		err = out.write(file)
	}
	if err != nil {
		out.drop()
		return err
	}
	d.File, d.StateDir = o.Request, state
	return c.print(d, func() {
		table(c.out, [][]string{{"node", d.Node.Name, d.NodeText}, {"mesh", d.Mesh.ID}, {"words", wordsText(d.Words[:])}})
		c.say("Carry %s to an issuer of the mesh and run there:  meshkey approve FILE --out ANSWER   It asks for the words.", clean(o.Request))
		c.say("Then carry the answer back:  meshkey enroll --response ANSWER")
	})
}

// enrollResponseFile takes the answer to a request.
func enrollResponseFile(ctx context.Context, c *cli, o enrollOptions, state string) error {
	r := responseRequest{StateDir: state}
	var err error
	if r.Response, err = readBounded(o.Response, enroll.MaxResponseFile); err != nil {
		return err
	}
	if r.DaemonPassphrase, err = optionalSecret(o.DaemonSecret); err != nil {
		return err
	}
	if r.Keys, err = c.ownKeyOptions(ctx); err != nil {
		return err
	}
	d, err := c.system.Response(ctx, r)
	if err != nil {
		return err
	}
	return c.enrolled(ctx, d, o, state)
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

// maxPieces bounds the arguments an invite may have been broken into.
const maxPieces = 256

// inviteIn finds the invite in what was pasted: with a prompt and the command before it, perhaps.
func inviteIn(s string) string {
	if i := strings.Index(s, "mk1i"); i > 0 {
		return s[i:]
	}
	return s
}

// inviteCredential is the invite's name in systemd's $CREDENTIALS_DIRECTORY.
const inviteCredential = "meshkey.invite"

// inviteText finds the invite: on the command line, on stdin, in MESHKEY_INVITE, where hideInvite has moved that of the command line, in
// systemd's credential, or by asking.
func (c *cli) inviteText(ctx context.Context, arg string) (string, error) {
	switch {
	case arg == "-":
		return c.pastedInvite(ctx)
	case arg != "":
		return arg, nil
	}
	if text := c.getenv(inviteVariable); text != "" {
		return text, nil
	}
	if dir := c.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		b, err := readBounded(filepath.Join(dir, inviteCredential), maxLine)
		if err == nil {
			return string(b), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if !c.inTerm {
		return "", control.Errorf(control.Usage, "give INVITE, - for stdin, MESHKEY_INVITE, or the systemd credential "+inviteCredential, "an invite is needed, and there is no terminal to ask on")
	}
	return c.pastedInvite(ctx)
}

// pastedInvite reads an invite from stdin: one line, or several up to an empty one if a terminal has broken it.
func (c *cli) pastedInvite(ctx context.Context) (string, error) {
	if c.inTerm {
		c.say("Paste the invite and press Enter:")
	}
	text := ""
	for {
		line, err := c.line(ctx)
		if err != nil && (text == "" || ctx.Err() != nil) {
			return "", err
		}
		text += line
		if _, bad := identity.ParseInvite(inviteIn(text)); err != nil || line == "" || bad == nil || len(text) > maxLine {
			return text, nil
		}
	}
}
