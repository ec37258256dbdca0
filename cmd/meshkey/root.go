package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sovereignmesh/meshkey/control"
)

// group is a line of the root's help.
type group struct {
	title string
	verbs []*cobra.Command
}

// verbs is the list of commands, in the order people need them.
func verbs(c *cli) []group {
	return []group{
		{"Start", []*cobra.Command{newInit(c), newInvite(c), newEnroll(c), newPending(c), newApprove(c), newDeny(c), newDemo(c)}},
		{"Use", []*cobra.Command{newStatus(c), newPeers(c), newServices(c), newConnect(c)}},
		{"Offer", []*cobra.Command{newExpose(c), newUnexpose(c)}},
		{"Allow", []*cobra.Command{newGrant(c), newUngrant(c), newGrants(c), newCan(c), newPolicy(c)}},
		{"Review", []*cobra.Command{newAudit(c)}},
		{"Operate", []*cobra.Command{
			newDaemon(c), newDoctor(c), newRevoke(c), newRotate(c), newLeave(c), newRepin(c), newRootVerb(c), newKeys(c), newMetrics(c), newVersion(c),
		}},
	}
}

func newRoot(c *cli) *cobra.Command {
	groups := verbs(c)
	root := &cobra.Command{
		Use:           "meshkey",
		Short:         "Reach your own machines and services by identity, without a server in the middle",
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return control.Errorf(control.Usage, "meshkey help", "there is no verb %q", clipArg(args[0]))
			}
			rootHelp(cmd.OutOrStdout(), groups)
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&c.flags.json, "json", "", "machine-readable output, version `1`")
	f.Lookup("json").NoOptDefVal = "1"
	f.StringVar(&c.flags.state, "state", "", "state `directory` (MESHKEY_STATE)")
	f.StringVar(&c.flags.config, "config", "", "configuration `file` (MESHKEY_CONFIG)")
	f.StringVar(&c.flags.socket, "socket", "", "control `socket` of the daemon (MESHKEY_SOCKET)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if c.flags.json == "" {
			c.flags.json = c.getenv("MESHKEY_JSON")
		}
		if asked := c.flags.json; asked != "" && asked != "1" {
			c.flags.json = ""
			return control.Errorf(control.Usage, "--json=1", "this program writes version 1 of its documents, not %q", clipArg(asked))
		}
		return nil
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return control.Errorf(control.Usage, cmd.CommandPath()+" --help", "%w", err)
	})
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		if cmd == root {
			rootHelp(cmd.OutOrStdout(), groups)
			return
		}
		verbHelp(cmd.OutOrStdout(), cmd)
	})
	root.SetHelpCommand(&cobra.Command{
		Use: "help [VERB]", Short: "Show a verb's examples and flags", Hidden: true, Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return control.Errorf(control.Usage, "meshkey help", "there is no verb %q", clipArg(strings.Join(args, " ")))
			}
			return cmd.Help()
		},
	})
	root.CompletionOptions.DisableDefaultCmd = true
	for _, g := range groups {
		for _, v := range g.verbs {
			root.AddCommand(v)
		}
	}
	return root
}

func clipArg(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// rootHelp shows how to begin, then the verbs.
func rootHelp(w io.Writer, groups []group) {
	fmt.Fprint(w, `Reach your own machines and services by identity, without a server in the middle.

  meshkey init --mesh homelab --name nas      found a mesh, this machine is its first member
  meshkey daemon                              run it (init --start does as well)
  meshkey invite gpu1                         print the line that lets another machine join
  meshkey enroll mk1i… --start                on that machine: join, and run it
  meshkey expose ollama 11434                 offer a service
  meshkey grant laptop gpu1/ollama --for 8h   let somebody use it
  meshkey connect gpu1/ollama                 use it

`)
	for _, g := range groups {
		var names []string
		for _, v := range g.verbs {
			names = append(names, v.Name())
		}
		fmt.Fprintf(w, "%-9s%s\n", g.title, strings.Join(names, " · "))
	}
	fmt.Fprint(w, `
meshkey VERB --help shows a verb's examples and flags. All take --json=1, --state DIR, --config FILE, --socket FILE.
What can be configured, in meshkey.toml or the environment: docs/configuration.md
Exit codes: `)
	var codes []string
	for _, x := range control.Codes() {
		codes = append(codes, fmt.Sprintf("%d %s", int(x), x))
	}
	fmt.Fprintln(w, strings.Join(codes, " · "))
}

// verbHelp shows examples first, then the usage and the verb's own flags.
func verbHelp(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintln(w, cmd.Short+".")
	if cmd.Example != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimRight(cmd.Example, "\n"))
	}
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	fmt.Fprintf(w, "\nUsage: %s\n", usageLine(cmd))
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			fmt.Fprintf(w, "       %s\n", usageLine(sub))
		}
	}
	var rows [][]string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "      --" + f.Name
		if f.Shorthand != "" {
			name = "  -" + f.Shorthand + ", --" + f.Name
		}
		arg, usage := pflag.UnquoteUsage(f)
		if arg != "" {
			name += " " + arg
		}
		rows = append(rows, []string{name, usage})
	})
	if len(rows) > 0 {
		fmt.Fprintln(w, "\nFlags:")
		table(w, rows)
	}
}

func usageLine(cmd *cobra.Command) string {
	path := strings.TrimSuffix(cmd.CommandPath(), cmd.Name())
	return path + cmd.Use
}

// exactly wants n arguments; names are for the error.
func exactly(names ...string) cobra.PositionalArgs {
	return between(len(names), len(names), names...)
}

func between(least, most int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return control.Errorf(control.Usage, cmd.CommandPath()+" --help", "%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):least], " and "))
		case len(args) > most:
			return control.Errorf(control.Usage, cmd.CommandPath()+" --help", "%s has no place for %q", cmd.CommandPath(), clipArg(args[most]))
		}
		return nil
	}
}

// none wants no arguments.
func none() cobra.PositionalArgs { return between(0, 0) }
