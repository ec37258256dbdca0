package control

import (
	"encoding/hex"
	"time"
)

// Root is the root this node follows: who may change it, and who may speak for the mesh.
type Root struct {
	Envelope
	Mesh        MeshInfo     `json:"mesh"`
	Version     uint64       `json:"version"`
	Hash        string       `json:"hash"`
	Issued      time.Time    `json:"issued"`
	Threshold   uint64       `json:"threshold"`
	Keys        []RootKey    `json:"keys"`
	Issuers     []Issuer     `json:"issuers"`
	GroupIssuer string       `json:"group_issuer,omitempty"` // its key
	Params      RootParams   `json:"params"`
	Pending     []RootFork   `json:"pending,omitempty"` // contradicting successors: none of them holds
	Changes     []RootChange `json:"changes,omitempty"` // of a proposal in a file: what it changes
	Signed      []RootKey    `json:"signed,omitempty"`  // of a proposal: who has signed
	Missing     []RootKey    `json:"missing,omitempty"` // of a proposal: who has not
	Enough      bool         `json:"enough,omitempty"`  // of a proposal: it can be accepted
	Warnings    []Warning    `json:"warnings,omitempty"`
}

func (*Root) SchemaName() string { return "meshkey.root/1" }

// RootKey is one key that signs roots. Keys are in the compact text form of node ids.
type RootKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Issuer is what the root says about an issuer, and how far its chain is held here.
type Issuer struct {
	Name     string    `json:"name"`
	Key      string    `json:"key"`
	Rights   []string  `json:"rights"` // enroll, revoke, head, grant
	Tags     []string  `json:"tags"`   // patterns of the tags it may give
	MaxTTLMS int64     `json:"max_ttl_ms"`
	NotAfter time.Time `json:"not_after"`
	Cutoff   *Cutoff   `json:"cutoff,omitempty"`
	Entries  uint64    `json:"entries"`
	Here     bool      `json:"here,omitempty"` // its key is on this machine
	Evidence *Evidence `json:"evidence,omitempty"`
	State    string    `json:"state"` // works | cut off | ended | contradicts itself
}

// Cutoff is the last entry of an issuer that counts.
type Cutoff struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// Evidence tells that an issuer has signed two entries with one number.
type Evidence struct {
	Seq    uint64   `json:"seq"`
	Hashes []string `json:"hashes"`
}

// RootParams are the mesh's settings; 0 is never.
type RootParams struct {
	MaxStaleMS    int64  `json:"max_stale_ms"`
	StaleAction   string `json:"stale_action"` // warn | restrict
	GroupMaxAgeMS int64  `json:"group_max_age_ms"`
}

// RootFork is one of several valid successors of the root.
type RootFork struct {
	Hash    string       `json:"hash"`
	Version uint64       `json:"version"`
	Issued  time.Time    `json:"issued"`
	Changes []RootChange `json:"changes"`
}

// RootChange is one difference between two roots. Before is empty for what is new, After for what is gone.
type RootChange struct {
	What   string `json:"what"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// RootChain is the public chain of roots as a file.
type RootChain struct {
	Envelope
	Text string `json:"text"`
	Path string `json:"path,omitempty"` // where the command wrote it
}

func (*RootChain) SchemaName() string { return "meshkey.root-chain/1" }

// AcceptRootRequest hands over a signed root, or the hash of one of those that contradict each other.
type AcceptRootRequest struct {
	Root   []byte `json:"root,omitempty"`
	Hash   string `json:"hash,omitempty"`
	WaitMS int64  `json:"wait_ms,omitempty"`
}

// AcceptRootResult tells which root holds now, and what its cutoffs took back.
type AcceptRootResult struct {
	Envelope
	Version uint64       `json:"version"`
	Hash    string       `json:"hash"`
	Changes []RootChange `json:"changes"`
	Voided  Voided       `json:"voided"`
	Spread
	Warnings []Warning `json:"warnings,omitempty"`
}

func (*AcceptRootResult) SchemaName() string { return "meshkey.root-accept/1" }

// Voided is what a cutoff takes back.
type Voided struct {
	Removals []Removal `json:"removals,omitempty"` // revocations and ungrants that would be undone
	Members  []NodeRef `json:"members,omitempty"`
	Grants   []Grant   `json:"grants,omitempty"`
}

// Removal is one revocation or ungrant.
type Removal struct {
	ID   string `json:"id"`   // a word for CutIssuerRequest.Drop
	Text string `json:"text"` // "revocation of …"
}

// CutIssuerRequest prepares an issuer's cutoff: it tells what the cutoff takes back, and this host's issuer repeats the removals among
// that, so that they outlive it. The cutoff itself takes a root. Nil At is the last entry held here, or the last before an issuer
// contradicted itself.
type CutIssuerRequest struct {
	Issuer   string   `json:"issuer"` // name or key
	At       *uint64  `json:"at,omitempty"`
	DryRun   bool     `json:"dry_run,omitempty"`
	NoRepeat bool     `json:"no_repeat,omitempty"`
	Drop     []string `json:"drop,omitempty"` // ids of removals not to repeat: those the thief made
	WaitMS   int64    `json:"wait_ms,omitempty"`
}

// CutIssuerResult is the place of the cutoff.
type CutIssuerResult struct {
	Envelope
	Name     string `json:"name"`
	Key      string `json:"key"`
	Cutoff   Cutoff `json:"cutoff"`
	Voided   Voided `json:"voided"`
	Repeated int    `json:"repeated"`
	DryRun   bool   `json:"dry_run,omitempty"`
	Here     string `json:"here,omitempty"` // key of this host's own issuer, if it works and is another one
	Spread
}

func (*CutIssuerResult) SchemaName() string { return "meshkey.root-cut/1" }

// NewIssuerKeyRequest makes an issuer's key on the daemon's host.
type NewIssuerKeyRequest struct {
	Name string `json:"name"`
}

// PublicKey is the public half of a new root or issuer key. Line is what those who change the root need.
type PublicKey struct {
	Envelope
	Kind    string   `json:"kind"` // root | issuer
	Mesh    MeshInfo `json:"mesh"`
	Name    string   `json:"name"`
	Key     string   `json:"key"`
	Line    string   `json:"line"`
	File    string   `json:"file"` // the sealed private half
	Existed bool     `json:"existed,omitempty"`
}

func (*PublicKey) SchemaName() string { return "meshkey.public-key/1" }

func (r *AcceptRootRequest) check() error {
	switch {
	case (len(r.Root) == 0) == (r.Hash == ""):
		return Errorf(Usage, "meshkey root accept FILE, or meshkey root accept HASH", "a root or a hash, and not both")
	case len(r.Root) > maxRoot:
		return Errorf(Usage, "", "a root has at most %d bytes", maxRoot)
	case r.Hash != "":
		if b, err := hex.DecodeString(r.Hash); err != nil || len(b) != 32 {
			return Errorf(Usage, "meshkey root show", "%q is no hash of a root: it has 64 hexadecimal digits", clip(r.Hash))
		}
	}
	return checkWait(r.WaitMS)
}

func (r *CutIssuerRequest) check() error {
	if err := checkNode(r.Issuer); err != nil {
		return err
	}
	if len(r.Drop) > maxDrop {
		return Errorf(Usage, "", "at most %d removals to drop", maxDrop)
	}
	for _, d := range r.Drop {
		if err := checkText("removal", d, maxQuery); err != nil {
			return err
		}
	}
	return checkWait(r.WaitMS)
}

func (r *NewIssuerKeyRequest) check() error { return checkName("issuer", r.Name) }
