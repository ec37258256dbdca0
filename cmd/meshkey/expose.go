package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type exposeOptions struct {
	Name    string
	Target  string
	HTTP    bool
	Allow   []string
	Replace bool
}

func newExpose(c *cli) *cobra.Command {
	o := exposeOptions{}
	cmd := &cobra.Command{
		Use:   "expose NAME TARGET",
		Short: "Offer a service of this machine to the mesh",
		Example: `  meshkey expose ollama 11434 --allow tag:laptop
  meshkey expose web http://127.0.0.1:8080
  meshkey expose postgres unix:/run/postgresql/.s.PGSQL.5432
  meshkey expose printer 192.168.1.9:631`,
		Long: `TARGET is PORT, HOST:PORT, http://HOST:PORT or unix:/PATH. The service is kept until unexpose. Nobody can use it without a grant;
--allow writes one, if this machine may.`,
		Args: exactly("NAME", "TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name, o.Target = args[0], args[1]
			return runExpose(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.HTTP, "http", false, "the service speaks HTTP")
	f.StringSliceVar(&o.Allow, "allow", nil, "let `who` (a node, tag:NAME or any) use it; may be repeated")
	f.BoolVar(&o.Replace, "replace", false, "replace a service of that name")
	return cmd
}

func runExpose(ctx context.Context, c *cli, o exposeOptions) error {
	r := &control.ExposeRequest{Name: o.Name, Target: o.Target, HTTP: o.HTTP, Allow: o.Allow, Replace: o.Replace}
	if strings.HasPrefix(r.Target, "http://") {
		target, err := httpTarget(r.Target)
		if err != nil {
			return err
		}
		r.Target, r.HTTP = target, true
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.Expose(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		table(c.out, [][]string{{res.Service.Name, res.Service.Target, res.Service.State}})
		for _, g := range res.Granted {
			c.say("granted %s: %s", clean(g.ID), clean(grantText(g)))
		}
		switch {
		case len(res.Service.AllowedTo) > 0:
			var who []string
			for _, n := range res.Service.AllowedTo {
				who = append(who, node(n))
			}
			c.say("It can be reached by %s now.", clean(join(who)))
		case res.Service.Grants > 0:
			c.say("%s cover it; nobody they name is a member now.", clean(plural(uint64(res.Service.Grants), "grant")))
		default:
			c.say("Nobody can reach it yet.")
		}
		if res.Next != "" {
			c.say("allow with: %s", clean(res.Next))
		}
		c.warn(res.Warnings)
		c.say("Undo: meshkey unexpose %s", clean(res.Service.Name))
	})
}

// httpTarget takes the host and port out of a URL that has nothing else.
func httpTarget(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" || u.Hostname() == "" {
		return "", control.Errorf(control.Usage, "http://127.0.0.1:8080", "%q: only the host and the port of a URL can be offered", clipArg(s))
	}
	if u.Port() == "" {
		return fmt.Sprintf("%s:80", u.Host), nil
	}
	return u.Host, nil
}
