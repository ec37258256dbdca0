package controltest

import (
	"context"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// rooter has method names of its own.
type rooter struct{ f *Fake }

func (r rooter) Root(context.Context) (*control.Root, error) {
	return &control.Root{
		Mesh: control.MeshInfo{Name: "homelab", ID: "9f86d081884c7d65"}, Version: 1, Hash: "00ff", Issued: Began, Threshold: 1,
		Keys:    []control.RootKey{{Name: "nas", Key: NAS.ID}},
		Issuers: []control.Issuer{{Name: "nas", Key: NAS.ID, Rights: []string{"enroll"}, Tags: []string{"*"}, NotAfter: Began.Add(365 * 24 * time.Hour), State: "works"}},
	}, r.f.call("Root", control.Caller{}, "")
}

func (r rooter) RootChain(context.Context) (*control.RootChain, error) {
	return &control.RootChain{Text: "meshkey-root-chain/1\n"}, r.f.call("RootChain", control.Caller{}, "")
}

func (r rooter) AcceptRoot(_ context.Context, by control.Caller, q *control.AcceptRootRequest) (*control.AcceptRootResult, error) {
	return &control.AcceptRootResult{Version: 2, Hash: q.Hash, Spread: spread()}, r.f.call("AcceptRoot", by, *q)
}

func (r rooter) CutIssuer(_ context.Context, by control.Caller, q *control.CutIssuerRequest) (*control.CutIssuerResult, error) {
	return &control.CutIssuerResult{Name: q.Issuer, Key: NAS.ID, DryRun: q.DryRun, Spread: spread()}, r.f.call("CutIssuer", by, *q)
}

func (r rooter) NewIssuerKey(_ context.Context, by control.Caller, q *control.NewIssuerKeyRequest) (*control.PublicKey, error) {
	return &control.PublicKey{Kind: "issuer", Name: q.Name, Key: NAS.ID}, r.f.call("NewIssuerKey", by, *q)
}
