package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

func newRootIssuer(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "issuer",
		Short: "Propose who may enrol, revoke and grant",
		Example: `  meshkey keys new issuer > pi4.key                   on pi4: makes its key and prints the line that names it
  meshkey root issuer add pi4.key
  meshkey root issuer extend nas --for 365d
  meshkey root issuer cutoff nas --dry-run            its key was stolen: see what the cutoff would take back
  meshkey root issuer remove nas`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return groupHelp(cmd, args) },
	}
	cmd.AddCommand(newRootIssuerAdd(c), newRootIssuerExtend(c), newRootIssuerCut(c, false), newRootIssuerCut(c, true))
	return cmd
}

// life reads --until and --for.
type life struct{ until, span string }

func (l *life) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.span, "for", "365d", "how `long` the key may issue, from now")
	cmd.Flags().StringVar(&l.until, "until", "", "the `time` when its right to issue ends, instead of --for")
}

func (l *life) end(now time.Time) (int64, error) {
	if l.until == "" {
		d, err := parseSpan(l.span)
		return now.Add(d).Unix(), err
	}
	t, err := parseWhen(l.until, now)
	if err == nil && !t.After(now) {
		err = control.Errorf(control.Usage, "write 2027-11-01", "%s is not in the future", l.until)
	}
	return t.Unix(), err
}

func newRootIssuerAdd(c *cli) *cobra.Command {
	o, l := changeOptions{}, life{}
	name, ttl := "", ""
	var may, tags []string
	cmd := &cobra.Command{
		Use:   "add FILE | -",
		Short: "Propose another issuer",
		Example: `  meshkey root issuer add pi4.key
  meshkey root issuer add pi4.key --may enroll,grant --tag guest --tag team:* --max-ttl 30d --for 90d --out next.root`,
		Long: `FILE holds the line that meshkey keys new issuer has printed on the issuer's machine. It begins to issue as soon as the root
names it. Rights can only grow later: fewer of them are given to a new key.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			is := trust.Issuer{Tags: tags}
			for _, word := range may {
				right, ok := trust.ParseCaps(word)
				if !ok {
					return control.Errorf(control.Usage, "write some of enroll,revoke,head,grant", "%q is no right of an issuer", clipArg(word))
				}
				is.Caps |= right
			}
			d, err := parseSpan(ttl)
			if err != nil {
				return err
			}
			is.MaxTTL = int64(d / time.Second)
			if is.NotAfter, err = l.end(time.Now()); err != nil {
				return err
			}
			st, err := c.chain(cmd.Context(), o.Chain)
			if err != nil {
				return err
			}
			line, err := c.publicLine(args[0], keys.KindIssuer, st.Mesh())
			if err != nil {
				return err
			}
			is.ID, is.Name = line.Key, line.Name
			if name != "" {
				is.Name = name
			}
			return c.proposeOn(cmd.Context(), st, o, func(r *trust.Root) error { return r.AddIssuer(is) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "`name` of the issuer in the root (default: the one in the line)")
	f.StringSliceVar(&may, "may", []string{"enroll", "revoke", "head", "grant"}, "its `rights`")
	f.StringSliceVar(&tags, "tag", []string{"*"}, "a `tag` it may give, team:* for all that begin so, * for every one; may be repeated")
	f.StringVar(&ttl, "max-ttl", "365d", "the longest `life` of a certificate it may give")
	l.add(cmd)
	o.add(cmd)
	return cmd
}

func newRootIssuerExtend(c *cli) *cobra.Command {
	o, l := changeOptions{}, life{}
	cmd := &cobra.Command{
		Use:     "extend NAME",
		Short:   "Propose a later end of an issuer's right to issue",
		Example: `  meshkey root issuer extend nas --for 365d`,
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			end, err := l.end(time.Now())
			if err != nil {
				return err
			}
			return c.propose(cmd.Context(), o, func(r *trust.Root) error {
				is, err := r.FindIssuer(args[0])
				if err != nil {
					return err
				}
				if is.Cutoff != nil {
					return control.Errorf(control.Failed, "make a new key: meshkey keys new issuer", "issuer %s is cut off, which is for ever", is.Name)
				}
				if end < is.NotAfter {
					return control.Errorf(control.Failed, "cut it off and give a new key the shorter time", "issuer %s may issue longer than that already; rights are not taken without a cutoff", is.Name)
				}
				is.NotAfter = end
				return nil
			})
		},
	}
	l.add(cmd)
	o.add(cmd)
	return cmd
}
