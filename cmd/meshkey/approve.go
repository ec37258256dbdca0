package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
)

type approveOptions struct {
	What   string // a request's id, or a file
	Name   string
	Tags   []string
	NoTags bool
	Allow  []string
	Words  string
	Out    string
	Yes    bool
}

func newApprove(c *cli) *cobra.Command {
	o := approveOptions{}
	cmd := &cobra.Command{
		Use:   "approve REQUEST | FILE",
		Short: "Let a machine in that waits, or that sent a request in a file",
		Example: `  meshkey approve a1b2c3d4e5f60718
  meshkey approve a1b2c3d4e5f60718 --name gpu3 --tag gpu
  meshkey approve gpu3.mkq --out gpu3.mkr       then carry gpu3.mkr back and run there: meshkey enroll --response gpu3.mkr`,
		Long: `Asks for the three words the new machine shows: they prove that the request is its own, and not one that somebody else put in its place.
Without --name and --tag it gets what its invite says, or what its file asks for, which is shown. The answer to a file is sealed to the
machine that made it; anybody may carry it.`,
		Args: exactly("REQUEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args[0]
			return runApprove(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "give it this `name`")
	f.StringSliceVar(&o.Tags, "tag", nil, "give it this `tag`, may be repeated; then it gets no others")
	f.BoolVar(&o.NoTags, "no-tags", false, "give it no tags")
	f.StringSliceVar(&o.Allow, "allow", nil, "a `service` it may use from its first moment, may be repeated")
	f.StringVar(&o.Words, "words", "", "the three `words` the machine shows, in place of typing them")
	f.StringVar(&o.Out, "out", "", "write the answer to a request file to this new `file`")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask for the words of a waiting request; a file is never approved without")
	return cmd
}

func runApprove(ctx context.Context, c *cli, o approveOptions) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	r := &control.ApproveRequest{Name: o.Name, Tags: o.Tags, NoTags: o.NoTags, Allow: o.Allow}
	if o.Words != "" {
		if r.Words, err = splitWords(o.Words); err != nil {
			return err
		}
	}
	if isRequestID(o.What) {
		return approveWaiting(ctx, c, client, r, o)
	}
	return approveFile(ctx, c, client, r, o)
}

func isRequestID(s string) bool {
	return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == ""
}

// splitWords reads three words, however they are separated.
func splitWords(s string) ([]string, error) {
	w := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r < 'a' || r > 'z' })
	if len(w) != 3 {
		return nil, control.Errorf(control.Usage, "they stand behind \"words\" on its screen", "the new machine shows three words")
	}
	return w, nil
}

// askWords asks for the words that somebody reads from the new machine.
func (c *cli) askWords(ctx context.Context) ([]string, error) {
	text, err := c.ask(ctx, "Type the three words it shows: ", "--words \"one two three\" gives them without asking")
	if err != nil {
		return nil, err
	}
	return splitWords(text)
}

func approveWaiting(ctx context.Context, c *cli, client *control.Client, r *control.ApproveRequest, o approveOptions) error {
	if o.Out != "" {
		return control.Errorf(control.Usage, "", "a machine that waits fetches its answer itself; --out is for request files")
	}
	r.ID = o.What
	if r.Words == nil && !o.Yes {
		p, err := client.Pending(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(p.Waiting, func(w control.Waiter) bool { return w.ID == o.What })
		if i < 0 {
			return control.Errorf(control.NotFound, "meshkey pending", "no request %s waits here", clean(o.What))
		}
		w := p.Waiting[i]
		c.say("node     %s", clean(w.NodeText))
		c.say("from     %s, since %s", clean(dash(w.Address)), moment(w.Since))
		c.say("invite   %s  tags %s", clean(w.InviteName), clean(dash(join(w.InviteTags))))
		c.say("wishes   %s  tags %s", clean(w.Name), clean(dash(join(w.Tags))))
		if r.Words, err = c.askWords(ctx); err != nil {
			return err
		}
	}
	res, err := client.Approve(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.approved(res)
		c.say("It becomes a member when it looks for the answer: with --wait by itself, else by the same command again.")
	})
}

func (c *cli) approved(res *control.ApproveResult) {
	again := ""
	if res.Again {
		again = " (as before)"
	}
	fmt.Fprintf(c.out, "%s  %s  tags %s  until %s\n", clean(node(res.Node)), clean(wordsText(res.Words)), clean(dash(join(res.Tags))), moment(res.NotAfter))
	c.say("Approved%s.  Undo: meshkey revoke %s", again, clean(node(res.Node)))
}

func approveFile(ctx context.Context, c *cli, client *control.Client, r *control.ApproveRequest, o approveOptions) error {
	if o.Out == "" {
		return control.Errorf(control.Usage, "meshkey approve "+clean(clipArg(o.What))+" --out FILE", "where shall the answer be written?")
	}
	var err error
	if r.File, err = readBounded(o.What, enroll.MaxRequestFile); err != nil {
		return err
	}
	st, err := client.Status(ctx)
	if err != nil {
		return err
	}
	mesh, err := keys.ParseMeshID(st.Mesh.ID)
	if err != nil {
		return err
	}
	q, err := enroll.ParseRequest(r.File, mesh)
	if err != nil {
		return fileError(err)
	}
	showRequest(c, q.CSR, o)
	if r.Words == nil {
		if r.Words, err = c.askWords(ctx); err != nil {
			return err
		}
	}
	if shown := q.CSR.Words(); !slices.Equal(r.Words, shown[:]) {
		return control.Errorf(control.Unverified, "compare the machine's id, and carry its file again", "%w", enroll.ErrWords)
	}
	// The place for the answer comes first: an answer that cannot be written would leave a member that does not know it.
	out, err := newFile(o.Out)
	if err != nil {
		return err
	}
	res, err := client.Approve(ctx, r)
	if err == nil {
		err = out.write(res.Response)
	}
	if err != nil {
		out.drop()
		return err
	}
	res.Response = nil // it is in the file
	return c.print(res, func() {
		c.approved(res)
		c.say("Carry %s to the machine and run there:  meshkey enroll --response FILE", clean(o.Out))
	})
}

func showRequest(c *cli, q *identity.SignedCSR, o approveOptions) {
	c.say("node     %s", clean(q.Node.Short()))
	name, tags := q.Name, q.Tags
	if o.Name != "" {
		name = o.Name
	}
	if o.NoTags || len(o.Tags) > 0 {
		tags = o.Tags
	}
	c.say("becomes  %s  tags %s", clean(name), clean(dash(join(tags))))
}

// fileError gives a file that is not what it should be its exit code.
func fileError(err error) error {
	switch {
	case errors.Is(err, enroll.ErrNoFile):
		return control.Errorf(control.Usage, "give the file that meshkey has written", "%w", err)
	case errors.Is(err, enroll.ErrFile):
		return control.Errorf(control.Unverified, "carry the file again, and compare the words", "%w", err)
	}
	return err
}

// readBounded reads a whole file of a known longest length.
func readBounded(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, control.Errorf(control.Usage, "", "%w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, control.Errorf(control.Usage, "give the file that meshkey has written", "%s is longer than %d bytes", clean(clipArg(name)), most)
	}
	return b, nil
}

// freshFile is a file that did not exist before.
type freshFile struct{ f *os.File }

// newFile makes a file, readable by its owner alone, and never touches one that is there.
func newFile(name string) (*freshFile, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, control.Errorf(control.Usage, "give another name, or move it away", "%s exists and is not overwritten", clean(clipArg(name)))
	case err != nil:
		return nil, control.Errorf(control.Usage, "", "%w", err)
	}
	return &freshFile{f}, nil
}

// write fills the file; what it returns is on the disk.
func (n *freshFile) write(b []byte) error {
	_, err := n.f.Write(b)
	return errors.Join(err, n.f.Sync(), n.f.Close())
}

// drop removes a file that was not filled.
func (n *freshFile) drop() {
	n.f.Close()
	os.Remove(n.f.Name())
}
