package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/keys"
)

// system is what the verbs need that is not behind the control socket. wire.go connects it to internal/daemon. Errors are
// *control.Error where another exit code than 1 is right: Unverified for what does not verify, InUse for a state directory in use,
// NotFound for a state directory without a membership, Waiting for an enrolment that waits for approval.
type system struct {
	Init     func(ctx context.Context, o initRequest) (*initDocument, error)
	Enroll   func(ctx context.Context, o enrollRequest) (*enrollDocument, error)
	Request  func(ctx context.Context, o requestRequest) (*requestDocument, []byte, error)
	Response func(ctx context.Context, o responseRequest) (*enrollDocument, error)
	Run      func(ctx context.Context, o runRequest) error
	Verify   func(ctx context.Context, stateDir string) (*control.AuditReport, error)
	Logs     func(stateDir string) (*daemon.LogReader, error)
	// Start runs a daemon that outlives the verb; nil: it cannot.
	Start func(ctx context.Context, r startRequest) (*startedDaemon, error)
	// Again becomes this program anew, with other arguments and one more variable, and returns only if it cannot; nil: it cannot.
	Again func(args []string, name, value string) error
	// Member reports whether a state directory holds a membership.
	Member func(stateDir string) bool
}

// initRequest founds a mesh.
type initRequest struct {
	StateDir         string
	Mesh             string
	Name             string
	Tags             []string
	RootPassphrase   []byte   // seals the root key, unless there are RootRecipients
	RootRecipients   []string // age recipients
	Keys             daemon.KeyOptions
	DaemonPassphrase []byte // empty: the daemon's own keys are sealed to an identity file, so that it starts unattended
}

// initDocument is the founded mesh.
type initDocument struct {
	control.Envelope
	Mesh     control.MeshInfo `json:"mesh"`
	Node     control.NodeRef  `json:"node"`
	NodeText string           `json:"node_short"` // three groups, to compare by eye
	RootFile string           `json:"root_file"`
	NotAfter time.Time        `json:"not_after"`
	StateDir string           `json:"state_dir"`
	Daemon   *startedDaemon   `json:"daemon,omitempty"` // with --start
}

func (*initDocument) SchemaName() string { return "meshkey.init/1" }

// offer is what a newcomer has authenticated before it joins.
type offer struct {
	Mesh   control.MeshInfo
	Issuer control.NodeRef
	Name   string // this machine's name in the mesh
	Tags   []string
	Words  [3]string
}

// enrollRequest joins a mesh. Confirm is asked once, before anything of this machine but its key is sent; Waiting is told once, when an
// approval is waited for.
type enrollRequest struct {
	StateDir         string
	Invite           *identity.Invite
	Confirm          func(offer) bool
	Waiting          func(offer)
	Wait             time.Duration
	Name             string // a wish
	Tags             []string
	DaemonPassphrase []byte
	Keys             daemon.KeyOptions
}

// requestRequest makes a request in a file. Host is the name to wish for where there is neither a Name nor a membership.
type requestRequest struct {
	StateDir         string
	Mesh             keys.MeshID
	Name, Host       string
	Tags             []string
	DaemonPassphrase []byte
	Keys             daemon.KeyOptions
}

// requestDocument is a request that was written.
type requestDocument struct {
	control.Envelope
	Mesh     control.MeshInfo `json:"mesh"`
	Node     control.NodeRef  `json:"node"`
	NodeText string           `json:"node_short"`
	Words    [3]string        `json:"words"`
	File     string           `json:"file"`
	StateDir string           `json:"state_dir"`
}

func (*requestDocument) SchemaName() string { return "meshkey.request/1" }

// responseRequest takes the answer to a request.
type responseRequest struct {
	StateDir         string
	Response         []byte
	DaemonPassphrase []byte
	Keys             daemon.KeyOptions
}

// enrollDocument is the membership.
type enrollDocument struct {
	control.Envelope
	Mesh     control.MeshInfo `json:"mesh"`
	Node     control.NodeRef  `json:"node"`
	NodeText string           `json:"node_short"`
	Tags     []string         `json:"tags,omitempty"`
	Issuer   string           `json:"issuer"`
	Words    [3]string        `json:"words"`
	Members  int              `json:"members"`
	NotAfter time.Time        `json:"not_after"`
	StateDir string           `json:"state_dir"`
	Renewed  bool             `json:"renewed,omitempty"` // it was a member before
	Daemon   *startedDaemon   `json:"daemon,omitempty"`  // with --start
}

func (*enrollDocument) SchemaName() string { return "meshkey.enroll/1" }

// runRequest runs the daemon until ctx ends or a client stops it.
type runRequest struct {
	StateDir   string
	Socket     string
	Config     *config.Config
	ReadGroup  *uint32 // resolved from the configuration
	Version    control.Version
	Keys       daemon.KeyOptions
	Passphrase func() ([]byte, error) // asked for if the node's keys are sealed to one
	Log        *slog.Logger
	Ready      func() // called once, when the daemon serves
}
