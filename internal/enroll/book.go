package enroll

import (
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Errors a caller branches on.
var (
	// ErrUnknown: no such invite here; it may be another issuer's, or removed long ago.
	ErrUnknown = errors.New("no such invite; ask the admin for a new one")
	// ErrExpired: the invite's time is over.
	ErrExpired = errors.New("the invite has expired; ask the admin for a new one")
	// ErrUsed: another node has spent the invite.
	ErrUsed = errors.New("the invite has already been used; ask the admin for a new one")
	// ErrRemoved: an admin took the invite back.
	ErrRemoved = errors.New("the invite was taken back; ask the admin for a new one")
	// ErrFull: too many open invites.
	ErrFull = fmt.Errorf("more than %d open invites; remove some with: meshkey invite rm ID", MaxOpen)
)

const (
	kindCreated = 1
	kindSpent   = 2
	kindRemoved = 3
	kindAsked   = 4
	kindDenied  = 5
	kindFile    = 6
)

type record struct {
	Kind       uint8             `cbor:"1,keyasint"`
	ID         identity.InviteID `cbor:"2,keyasint"`
	Time       int64             `cbor:"3,keyasint"`
	Name       string            `cbor:"4,keyasint,omitempty"`
	Tags       []string          `cbor:"5,keyasint,omitempty"`
	Expiry     int64             `cbor:"6,keyasint,omitempty"`
	Uses       uint32            `cbor:"7,keyasint,omitempty"`
	Life       int64             `cbor:"8,keyasint,omitempty"`
	RenewUntil int64             `cbor:"9,keyasint,omitempty"`
	UID        uint32            `cbor:"10,keyasint,omitempty"`
	Node       []byte            `cbor:"11,keyasint,omitempty"`
	Serial     uint64            `cbor:"12,keyasint,omitempty"`
	Cert       []byte            `cbor:"13,keyasint,omitempty"`
	Allow      []trust.What      `cbor:"14,keyasint,omitempty"`
	Approval   bool              `cbor:"15,keyasint,omitempty"`
	Request    []byte            `cbor:"16,keyasint,omitempty"`
	Channel    []byte            `cbor:"17,keyasint,omitempty"`
	Address    string            `cbor:"18,keyasint,omitempty"`
	Old        []byte            `cbor:"19,keyasint,omitempty"`
	Sig        []byte            `cbor:"20,keyasint,omitempty"`
}

// Spend is one use of an invite, or one approved request file.
type Spend struct {
	Node        keys.NodeID
	Name        string // "" in records of the first release, whose invites had one name
	Serial      uint64
	Certificate []byte       // the envelope, given again to the same node
	Allow       []trust.What // granted in the same entry
	Channel     keys.Hash    // what the confirmation words are of; zero in records of the first release
	Time        int64

	rotation *Rotation // of its invite
}

// Invite is what the issuer knows of an invite it made. Times are unix seconds.
type Invite struct {
	ID         identity.InviteID
	Name       string
	Tags       []string
	Created    int64
	Expiry     int64
	Uses       uint32 // how many nodes may spend it; with more than one they are named NAME-1, NAME-2, …
	Life       int64  // of the certificate, in seconds
	RenewUntil int64
	UID        uint32
	Allow      []trust.What // what a newcomer may use, granted in the entry that enrols it
	Approval   bool         // a person decides about each request
	Spends     []Spend
	Removed    int64 // 0: not removed
	// Rotation makes it the invite of one key, to which a member's name passes; nobody is shown such an invite.
	Rotation *Rotation

	requests map[keys.NodeID]*Request
}

// spendOf returns the use by a node.
func (v *Invite) spendOf(node keys.NodeID) *Spend {
	for i := range v.Spends {
		if v.Spends[i].Node == node {
			return &v.Spends[i]
		}
	}
	return nil
}

// Status is one word for a person.
func (v *Invite) Status(now int64) string {
	switch {
	case len(v.Spends) >= int(v.Uses):
		return "used"
	case v.Removed != 0:
		return "removed"
	case now >= v.Expiry:
		return "expired"
	}
	return "open"
}

// Book is the durable list of this issuer's invites.
type Book struct {
	mu  sync.Mutex // held by a whole transaction, which waits for the disk
	log *durable.Log

	// changed under mu and view together, so that either is enough for reading; view waits for nothing
	view    sync.RWMutex
	invites map[identity.InviteID]*Invite
	asked   map[RequestID]*Request
	files   map[keys.Hash]*Spend // approved request files, by the request's id
	serial  uint64               // highest serial ever written
}

func newBook() *Book {
	return &Book{invites: map[identity.InviteID]*Invite{}, asked: map[RequestID]*Request{}, files: map[keys.Hash]*Spend{}}
}

// OpenBook replays the book. It fails on a damaged book rather than forget a spend.
func OpenBook(fsys durable.FS, name string) (*Book, *durable.Recovery, error) {
	b := newBook()
	log, rec, err := durable.OpenLog(fsys, name, maxFrame, func(i uint64, payload []byte) error {
		var r record
		if err := wire.Unmarshal(payload, &r); err != nil {
			return fmt.Errorf("invite book, record %d: %w", i, err)
		}
		return b.applyLocked(&r)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("opening the invite book: %w", err)
	}
	b.log = log
	return b, rec, nil
}

// Close closes the book's file.
func (b *Book) Close() error { return b.log.Close() }

func (b *Book) applyLocked(r *record) error {
	b.view.Lock()
	defer b.view.Unlock()
	v := b.invites[r.ID]
	if r.Kind != kindCreated && r.Kind != kindFile && v == nil {
		return fmt.Errorf("record of kind %d for an unknown invite %s", r.Kind, r.ID)
	}
	switch r.Kind {
	case kindCreated:
		if v != nil {
			return fmt.Errorf("invite %s created twice", r.ID)
		}
		rot, err := rotationOf(r)
		if err != nil {
			return err
		}
		b.invites[r.ID] = &Invite{
			Rotation: rot,
			ID:       r.ID, Name: r.Name, Tags: r.Tags, Created: r.Time, Expiry: r.Expiry, Uses: r.Uses, Life: r.Life,
			RenewUntil: r.RenewUntil, UID: r.UID, Allow: r.Allow, Approval: r.Approval, requests: map[keys.NodeID]*Request{},
		}
	case kindSpent, kindFile:
		s, err := spendOf(r)
		if err != nil {
			return err
		}
		if r.Kind == kindFile {
			if s.Channel.IsZero() || b.files[s.Channel] != nil {
				return errors.New("a request file approved twice, or without its id")
			}
			b.files[s.Channel] = s
		} else {
			s.rotation = v.Rotation
			v.Spends = append(v.Spends, *s)
		}
		b.serial = max(b.serial, r.Serial)
	case kindRemoved:
		v.Removed = r.Time
	case kindAsked:
		return b.applyAskedLocked(v, r)
	case kindDenied:
		q := v.requests[keys.NodeID(padded(r.Node))]
		if q == nil {
			return fmt.Errorf("denial of a request nobody made, invite %s", r.ID)
		}
		q.Denied = r.Time
	default:
		return fmt.Errorf("unknown record kind %d: written by a newer release", r.Kind)
	}
	return nil
}

func spendOf(r *record) (*Spend, error) {
	if len(r.Node) != 32 || len(r.Channel) != 0 && len(r.Channel) != 32 {
		return nil, fmt.Errorf("spend of invite %s without a node", r.ID)
	}
	return &Spend{
		Node: keys.NodeID(r.Node), Name: r.Name, Serial: r.Serial, Certificate: r.Cert, Allow: r.Allow,
		Channel: keys.Hash(padded(r.Channel)), Time: r.Time,
	}, nil
}

// padded is b as 32 bytes: an absent field is zero.
func padded(b []byte) (out [32]byte) {
	copy(out[:], b)
	return out
}

// writeLocked makes r durable, then applies it: what memory holds is always on disk.
//
// After a failed write it is uncertain whether the disk has the record. Nothing more is accepted until the log was reopened, which voids
// the record, and it is written again; if we crash before that, the next start may find it: a spend by a node that was not answered,
// and by no other.
func (b *Book) writeLocked(r *record) error {
	_, err := b.log.AppendSync(wire.MustMarshal(r))
	if errors.Is(err, durable.ErrFailed) {
		if _, err = b.log.Reopen(); err == nil {
			_, err = b.log.AppendSync(wire.MustMarshal(r))
		}
	}
	if err != nil {
		return fmt.Errorf("writing the invite book: %w", err)
	}
	return b.applyLocked(r)
}

// unloggedLocked returns the spends with a serial above the chain's highest, in order: their entries were never appended.
func (b *Book) unloggedLocked(maxSerial uint64) []*Spend {
	var out []*Spend
	for _, s := range b.files {
		if s.Serial > maxSerial {
			out = append(out, s)
		}
	}
	for _, v := range b.invites {
		for i := range v.Spends {
			if v.Spends[i].Serial > maxSerial {
				out = append(out, &v.Spends[i])
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Serial < out[j].Serial })
	return out
}

// Create records a new invite.
func (b *Book) Create(v Invite, now int64) error {
	if err := identity.CheckName(v.Name); err != nil {
		return err
	}
	if err := identity.CheckTags(v.Tags); err != nil {
		return err
	}
	if v.Expiry <= now || v.Expiry-now > MaxInviteLife {
		return fmt.Errorf("an invite lives between 1 second and %d days", MaxInviteLife/86400)
	}
	if v.Uses < 1 || v.Uses > MaxUses || v.Life <= 0 {
		return fmt.Errorf("an invite has 1 to %d uses and a positive certificate life", MaxUses)
	}
	if v.Uses > 1 && len(v.Name) > identity.MaxName-numberRoom {
		return fmt.Errorf("the name of several machines has at most %d characters: a number follows it", identity.MaxName-numberRoom)
	}
	if err := checkAllow(v.Allow); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.invites[v.ID] != nil {
		return fmt.Errorf("invite %s exists already", v.ID) // written, it would make the book unreadable
	}
	if b.openLocked(now) >= MaxOpen {
		return ErrFull
	}
	return b.writeLocked(&record{
		Kind: kindCreated, ID: v.ID, Time: now, Name: v.Name, Tags: v.Tags, Expiry: v.Expiry, Uses: v.Uses, Life: v.Life,
		RenewUntil: v.RenewUntil, UID: v.UID, Allow: v.Allow, Approval: v.Approval,
	})
}

func (b *Book) openLocked(now int64) int {
	n := 0
	for _, v := range b.invites {
		if v.Rotation == nil && v.Status(now) == "open" {
			n++
		}
	}
	return n
}

// Remove takes an invite back. An invite that was spent stays spent: revoke the node instead.
func (b *Book) Remove(id identity.InviteID, uid uint32, now int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.invites[id]
	if v == nil {
		return ErrUnknown
	}
	if len(v.Spends) >= int(v.Uses) {
		return ErrUsed
	}
	if v.Removed != 0 {
		return nil
	}
	return b.writeLocked(&record{Kind: kindRemoved, ID: id, Time: now, UID: uid})
}

// List returns the invites a person may still care about, newest first.
func (b *Book) List(now int64) []Invite {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Invite
	for _, v := range b.invites {
		if v.Rotation == nil && now-v.Expiry < keepAfterExpiry {
			c := *v
			c.Spends, c.requests = append([]Spend(nil), v.Spends...), nil
			out = append(out, c)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Created != out[j].Created {
			return out[i].Created > out[j].Created
		}
		return out[i].ID.String() < out[j].ID.String()
	})
	return out
}

// Answerable reports whether a handshake naming the invite deserves an answer at all: it exists, its time is not over and it was
// not taken back unused. A spent invite is answered until it expires, because the answer may have been lost, and one by which
// somebody asked for approval as long as that request lives; that of a rotation for ever, be it
// with a no. Strangers ask this, so it does not wait for a transaction, nor for the
// disk behind it.
func (b *Book) Answerable(id identity.InviteID, now int64) bool {
	b.view.RLock()
	defer b.view.RUnlock()
	v := b.invites[id]
	if v == nil {
		return false
	}
	if v.Rotation != nil {
		return true // its key has to learn what became of it, however late it comes back
	}
	for _, r := range v.requests {
		if r.alive(now) {
			return true
		}
	}
	return now < v.Expiry && (v.Removed == 0 || len(v.Spends) > 0)
}

// usableLocked returns the invite if node may spend it now; again is the earlier spend by the same node.
func (b *Book) usableLocked(id identity.InviteID, node keys.NodeID, now int64) (v *Invite, again *Spend, err error) {
	v = b.invites[id]
	if v == nil {
		return nil, nil, ErrUnknown
	}
	r := v.requests[node]
	again = v.spendOf(node)
	switch {
	case v.Rotation != nil && v.Rotation.New != node:
		return nil, nil, ErrUsed
	case v.Rotation != nil && again != nil:
		return v, again, nil // the old key is revoked: without this answer the machine has none
	case now >= v.Expiry && (r == nil || !r.alive(now)):
		return nil, nil, ErrExpired
	case again != nil:
		return v, again, nil
	case v.Removed != 0:
		return nil, nil, ErrRemoved
	case r != nil && r.Denied != 0:
		return nil, nil, ErrDenied
	case len(v.Spends) >= int(v.Uses):
		return nil, nil, ErrUsed
	}
	return v, nil, nil
}
