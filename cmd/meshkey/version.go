package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

// protocolVersion is the version of the protocol between nodes.
const protocolVersion = 1

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the daemon",
		Example: `  meshkey version
  meshkey version --json=1`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runVersion(cmd.Context(), c) },
	}
}

// version is this program's. It comes from the build: a module version or a revision.
func (c *cli) version() *control.Version {
	v := &control.Version{
		Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: protocolVersion,
		PID: os.Getpid(), OwnerUID: int64(c.uid),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

// versionDocument is both versions; Daemon is absent if none answers.
type versionDocument struct {
	control.Envelope
	Program control.Version  `json:"program"`
	Daemon  *control.Version `json:"daemon,omitempty"`
}

func (*versionDocument) SchemaName() string { return "meshkey.versions/1" }

func runVersion(ctx context.Context, c *cli) error {
	d := &versionDocument{Program: *c.version()}
	d.Program.PID, d.Program.Schema = 0, d.Program.SchemaName()
	if client, err := c.client(); err == nil {
		if v, err := client.Version(ctx); err == nil {
			d.Daemon = v
		}
	}
	return c.print(d, func() {
		fmt.Fprintf(c.out, "meshkey %s %s %s\n", d.Program.Version, d.Program.Go, d.Program.Platform)
		if d.Daemon != nil && d.Daemon.Version != d.Program.Version {
			c.say("the daemon is meshkey %s: restart it", clean(d.Daemon.Version))
		}
	})
}
