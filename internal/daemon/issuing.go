package daemon

import (
	"errors"
	"os"

	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// ownIssuer is what a host needs to issue.
type ownIssuer struct {
	key    *keys.SigningKey
	book   *enroll.Book
	enroll *enroll.Issuer
}

// signer returns the issuer's key of this host, or nil. Whether the root names it is trust's to say.
func (d *Daemon) signer() *keys.SigningKey {
	if o := d.own.Load(); o != nil {
		return o.key
	}
	return nil
}

// inviter and book are the parts of an issuer that let machines in; nil on a node without an issuer's key.
func (d *Daemon) inviter() *enroll.Issuer {
	if o := d.own.Load(); o != nil {
		return o.enroll
	}
	return nil
}

func (d *Daemon) book() *enroll.Book {
	if o := d.own.Load(); o != nil {
		return o.book
	}
	return nil
}

// openIssuer opens the issuer's key and book, where there are.
func (d *Daemon) openIssuer(unlock keys.Unlock) error {
	k, err := keys.ReadKeyFile(d.dir.fs, fileIssuer, keys.KindIssuer, d.meshID, unlock)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.dir.keyError(fileIssuer, err)
	}
	key, err := k.SigningKey()
	if err != nil {
		return err
	}
	return d.setIssuer(key)
}

// setIssuer makes key the one this host issues with.
func (d *Daemon) setIssuer(key *keys.SigningKey) error {
	o := &ownIssuer{key: key}
	if old := d.own.Load(); old != nil {
		o.book = old.book
	} else {
		book, rec, err := enroll.OpenBook(d.dir.fs, fileInvites)
		if err != nil {
			return err
		}
		d.dir.keep(book)
		if rec.Torn != nil {
			d.log.Warn("the invite book ended in an unfinished record, which was set aside", "copy", rec.Torn.Copy)
		}
		o.book = book
	}
	o.enroll = &enroll.Issuer{
		Key: key, Mesh: d.meshID, Book: o.book, State: d.store.Current, Now: d.trustNow, Numbers: &d.issuing,
		Append: func(ops ...trust.Op) error {
			_, err := d.append(ops...)
			return err
		},
	}
	d.own.Store(o)
	if d.node != nil {
		d.node.SetIssuer(o.enroll)
	}
	return nil
}
