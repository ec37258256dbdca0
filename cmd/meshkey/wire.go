package main

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
)

// wired connects the verbs to the daemon's packages.
func wired() system {
	return system{Init: wireInit, Enroll: wireEnroll, Request: wireRequest, Response: wireResponse, Run: wireRun, Verify: wireVerify, Logs: wireLogs, Start: wireStart, Again: wireAgain, Member: daemon.IsMember}
}

func wireInit(ctx context.Context, o initRequest) (*initDocument, error) {
	r, err := daemon.Init(ctx, daemon.InitOptions{
		StateDir: o.StateDir, Mesh: o.Mesh, Name: o.Name, Tags: o.Tags, RootPassphrase: string(o.RootPassphrase),
		RootRecipients: o.RootRecipients, Keys: o.Keys,
		DaemonPassphrase: string(o.DaemonPassphrase),
	})
	if err != nil {
		return nil, stateError(err)
	}
	return &initDocument{
		Mesh: control.MeshInfo{Name: r.MeshName, ID: r.Mesh.String()}, Node: control.NodeRef{Name: r.Name, ID: r.Node.Compact()},
		NodeText: r.Node.Short(), RootFile: r.RootFile, NotAfter: r.NotAfter.UTC(), StateDir: o.StateDir,
	}, nil
}

func wireEnroll(ctx context.Context, o enrollRequest) (*enrollDocument, error) {
	show := func(of mesh.Offer) offer {
		return offer{
			Mesh: control.MeshInfo{Name: of.Mesh, ID: of.MeshID.String()}, Issuer: control.NodeRef{Name: of.Issuer, ID: of.IssuerID.Compact()},
			Name: of.Name, Words: of.Words,
		}
	}
	r, err := daemon.Enroll(ctx, daemon.EnrollOptions{
		StateDir: o.StateDir, Invite: o.Invite, DaemonPassphrase: string(o.DaemonPassphrase), Name: o.Name, Tags: o.Tags, Wait: o.Wait, Keys: o.Keys,
		Confirm: func(of mesh.Offer) bool { return o.Confirm == nil || o.Confirm(show(of)) },
		Waiting: func(of mesh.Offer) {
			if o.Waiting != nil {
				o.Waiting(show(of))
			}
		},
	})
	if err != nil {
		return nil, enrollError(err)
	}
	return enrollDoc(r), nil
}

func enrollDoc(r *daemon.EnrollResult) *enrollDocument {
	return &enrollDocument{
		Mesh: control.MeshInfo{Name: r.MeshName, ID: r.Mesh.String()}, Node: control.NodeRef{Name: r.Name, ID: r.Node.Compact()},
		NodeText: r.Node.Short(), Tags: r.Tags, Issuer: r.Issuer, Words: r.Words, Members: r.Members, NotAfter: r.NotAfter.UTC(), Renewed: r.Renewed,
	}
}

func wireRequest(ctx context.Context, o requestRequest) (*requestDocument, []byte, error) {
	r, err := daemon.MakeRequest(ctx, daemon.RequestOptions{
		StateDir: o.StateDir, Mesh: o.Mesh, Name: o.Name, Host: o.Host, Tags: o.Tags, DaemonPassphrase: string(o.DaemonPassphrase),
		Keys: o.Keys,
	})
	if err != nil {
		return nil, nil, enrollError(err)
	}
	return &requestDocument{
		Mesh: control.MeshInfo{ID: o.Mesh.String()}, Node: control.NodeRef{Name: r.Name, ID: r.Node.Compact()}, NodeText: r.Node.Short(), Words: r.Words,
	}, r.File, nil
}

func wireResponse(ctx context.Context, o responseRequest) (*enrollDocument, error) {
	r, err := daemon.TakeResponse(ctx, daemon.ResponseOptions{StateDir: o.StateDir, Response: o.Response, DaemonPassphrase: string(o.DaemonPassphrase), Keys: o.Keys})
	if err != nil {
		return nil, enrollError(err)
	}
	return enrollDoc(r), nil
}

func wireRun(ctx context.Context, o runRequest) error {
	d := daemon.Options{
		StateDir: o.StateDir, Socket: o.Socket, Version: o.Version, Listen: o.Config.ListenAddrs(), BeaconPort: o.Config.BeaconPort(),
		LoopbackOnly: o.Config.LoopbackOnly(), Ignore: o.Config.Network.IgnoreInterfaces, Include: o.Config.Network.Interfaces,
		Endpoints: o.Config.ExtraEndpoints(), Seeds: o.Config.Mesh.Seeds, ReadGroup: o.ReadGroup, Log: o.Log, Ready: o.Ready, Keys: o.Keys,
		Passphrase: func() (string, error) {
			b, err := o.Passphrase()
			return string(b), err
		},
	}
	switch o.Config.AuditMode() {
	case config.AuditStrict:
		d.Unrecorded = mesh.UnrecordedStop
	case config.AuditOpen:
		d.Unrecorded = mesh.UnrecordedAllow
	}
	err := daemon.Run(ctx, d)
	if errors.Is(err, daemon.ErrNotMember) {
		return control.Errorf(control.NotFound, firstSteps, "this machine is in no mesh yet (looked in %s)", o.StateDir)
	}
	return stateError(err)
}

func wireVerify(_ context.Context, stateDir string) (*control.AuditReport, error) {
	r, err := daemon.VerifyAudit(stateDir)
	if err != nil && !daemon.IsMember(stateDir) {
		return nil, control.Errorf(control.NotFound, firstSteps+"; a copy of a log is named by --state DIR", "there is no membership in %s", stateDir)
	}
	if err != nil {
		return nil, stateError(err)
	}
	return r, nil
}

func wireLogs(stateDir string) (*daemon.LogReader, error) {
	l, err := daemon.OpenLogs(stateDir)
	if err != nil {
		return nil, stateError(err)
	}
	return l, nil
}

// stateError gives what is wrong with a state directory its exit code.
func stateError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, durable.ErrLocked):
		return control.Errorf(control.InUse, "stop the other one, or use another directory with --state", "%w", err)
	case errors.Is(err, daemon.ErrNotMember):
		return control.Errorf(control.NotFound, firstSteps, "this machine is in no mesh yet (looked in the state directory)")
	case errors.Is(err, daemon.ErrMember):
		return control.Errorf(control.Failed, "use another directory with --state", "this state directory is a member of a mesh already; a membership is never overwritten")
	case errors.Is(err, keys.ErrWeakPassphrase):
		return control.Errorf(control.Usage, weakHelp, "%w", err)
	case errors.Is(err, keys.ErrPassphrase):
		return control.Errorf(control.Failed, "try again", "%w", err)
	case errors.Is(err, keys.ErrPlugin), errors.Is(err, keys.ErrPluginName), errors.Is(err, keys.ErrRecipient):
		return control.Errorf(control.Usage, "", "%w", err)
	case errors.Is(err, keys.ErrKeyFile), errors.Is(err, keys.ErrOtherKey), errors.Is(err, keys.ErrLocked):
		return control.Errorf(control.Unverified, "restore the file from a backup, or enrol again with another --state", "%w", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return control.Errorf(control.Failed, "stop the program that uses the port, or give network.listen another one in meshkey.toml", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return control.Errorf(control.Failed, "run it as the owner of the state directory, or use another one with --state", "%w", err)
	}
	return err
}

// enrollError gives an enrolment that failed its exit code.
func enrollError(err error) error {
	switch {
	case errors.Is(err, mesh.ErrWaiting):
		return control.Errorf(control.Waiting, "run the same command again, or with --wait", "%w", err)
	case errors.Is(err, mesh.ErrRequestDenied):
		return control.Errorf(control.Denied, "ask the admin of the issuer", "%w", err)
	case errors.Is(err, daemon.ErrNoRequest):
		return control.Errorf(control.NotFound, "", "%w", err)
	case errors.Is(err, enroll.ErrFile), errors.Is(err, enroll.ErrNoFile):
		return fileError(err)
	case errors.Is(err, mesh.ErrWrongMesh):
		return control.Errorf(control.Unverified, "get a new invite from somebody you trust", "%w", err)
	case errors.Is(err, mesh.ErrInviteExpired), errors.Is(err, mesh.ErrInviteRefused), errors.Is(err, mesh.ErrInviteName),
		errors.Is(err, mesh.ErrInviteRevoked), errors.Is(err, mesh.ErrInviteIssuer):
		return control.Errorf(control.Denied, "", "%w", err)
	case errors.Is(err, mesh.ErrTooLate):
		return control.Errorf(control.Unreachable, "run it again with the same invite", "%w", err)
	case errors.Is(err, mesh.ErrNotConfirmed):
		return control.Errorf(control.Interrupted, "", "%w", err)
	case errors.Is(err, mesh.ErrUnreachable):
		return control.Errorf(control.Unreachable, "check that the issuer's daemon runs and that this machine reaches it, and that the invite is new", "%w", err)
	}
	return stateError(err)
}
