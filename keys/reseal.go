package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// resealSuffix is the second name a key file has while it is sealed anew.
const resealSuffix = ".reseal"

// Reseal seals a key file anew, to other recipients. The old file stays until the new one is durable and was opened once, with again,
// and shown to hold the same key; on error it is as it was.
//
// The order of writes is the recovery argument. If the power goes
//
//	before the rename: name is the old file. name.reseal may be left; the next Reseal removes it;
//	after the rename: name is the old file or the new one, whole in both cases, and each opens.
//
// Whoever has a copy of the old file and what opened it still has the key: sealing anew protects what is stored from now on.
func Reseal(fsys durable.FS, name string, kind KeyKind, mesh MeshID, with Unlock, to Recipient, again Unlock) error {
	old, err := ReadKeyFile(fsys, name, kind, mesh, with)
	if err != nil {
		return err
	}
	next := name + resealSuffix
	if err := fsys.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := WriteKeyFile(fsys, next, to, old); err != nil {
		return err
	}
	got, err := ReadKeyFile(fsys, next, kind, old.Mesh, again)
	if err == nil && (got.Generation != old.Generation || !got.secret.Equal(old.secret)) {
		err = fmt.Errorf("%w: it came back as another key", ErrKeyFile)
	}
	if err != nil {
		_ = fsys.Remove(next)
		return fmt.Errorf("the newly sealed file does not open here, so %s stays as it was: %w", name, err)
	}
	if err := fsys.Rename(next, name); err != nil {
		return fmt.Errorf("%s: %w: %w", name, durable.ErrUncertain, err)
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("%s: %w: %w", name, durable.ErrUncertain, err)
	}
	return nil
}

// Seals tells what a key file is sealed to, without opening it: "passphrase", "age", "age-pq", or the type of a plugin's stanza. This
// is the file's own word.
func Seals(fsys durable.FS, name string) ([]string, error) {
	sealed, err := readPrivate(fsys, name)
	if err != nil {
		return nil, err
	}
	var seen stanzaTypes
	if _, err := age.Decrypt(bytes.NewReader(sealed), &seen); seen.types == nil {
		if err == nil || !errors.As(err, new(*age.NoIdentityMatchError)) {
			return nil, fmt.Errorf("%s: %w: damaged, or not an age file", name, ErrKeyFile)
		}
	}
	return seen.types, nil
}

// stanzaTypes is an identity that opens nothing and remembers what it was shown.
type stanzaTypes struct{ types []string }

// Unwrap implements [age.Identity].
func (s *stanzaTypes) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, st := range stanzas[:min(len(stanzas), maxStanzas)] {
		switch st.Type {
		case "scrypt":
			s.types = append(s.types, "passphrase")
		case "X25519":
			s.types = append(s.types, "age")
		case "mlkem768x25519":
			s.types = append(s.types, "age-pq")
		default:
			s.types = append(s.types, pluginText(st.Type))
		}
	}
	return nil, age.ErrIncorrectIdentity
}
