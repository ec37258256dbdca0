package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
)

// KeyKind says what the secret in a key file is.
type KeyKind string

const (
	// KindRoot is a root key: sealed to a passphrase or to recipients, never needed by the daemon.
	KindRoot KeyKind = "root"
	// KindIssuer is the key that signs an issuer's entries and certificates.
	KindIssuer KeyKind = "issuer"
	// KindNode is a node's identity.
	KindNode KeyKind = "node"
	// KindGroup is one generation of the group secret.
	KindGroup KeyKind = "group"
)

var (
	// ErrKeyFile means the file is damaged or is no key file: restore it from a backup.
	ErrKeyFile = errors.New("not a readable key file")
	// ErrOtherKey means the file is in order, but holds a key of another kind or mesh than was asked for.
	ErrOtherKey = errors.New("key file holds another key")
)

// KeyMaterial is the content of one key file.
type KeyMaterial struct {
	Kind       KeyKind
	Mesh       MeshID
	Generation uint64
	secret     secret
}

// SigningMaterial is what is sealed for a root, issuer or node key.
func SigningMaterial(kind KeyKind, m MeshID, k *SigningKey) KeyMaterial {
	return KeyMaterial{Kind: kind, Mesh: m, secret: newSecret(k.Seed())}
}

// GroupMaterial is what is sealed for one generation of the group secret.
func GroupMaterial(m MeshID, s GroupSecret) KeyMaterial {
	return KeyMaterial{Kind: KindGroup, Mesh: m, Generation: s.Generation, secret: s.secret}
}

// SigningKey returns the key of a root, issuer or node file.
func (k KeyMaterial) SigningKey() (*SigningKey, error) {
	switch k.Kind {
	case KindRoot, KindIssuer, KindNode:
		return SigningKeyFromSeed(k.secret.Bytes())
	}
	return nil, fmt.Errorf("%w: a %s key does not sign", ErrOtherKey, k.Kind)
}

// GroupSecret returns the secret of a group file.
func (k KeyMaterial) GroupSecret() (GroupSecret, error) {
	if k.Kind != KindGroup {
		return GroupSecret{}, fmt.Errorf("%w: a %s key is no group secret", ErrOtherKey, k.Kind)
	}
	return GroupSecretFromBytes(k.Generation, k.secret.Bytes())
}

// keyBody is the plaintext inside the age file.
type keyBody struct {
	Version    uint64   `cbor:"1,keyasint"`
	Kind       KeyKind  `cbor:"2,keyasint"`
	Mesh       MeshID   `cbor:"3,keyasint"`
	Generation uint64   `cbor:"4,keyasint"`
	Secret     [32]byte `cbor:"5,keyasint"`
}

// check holds what must be true of a body whoever wrote it: age does not authenticate the sender.
func (b *keyBody) check() error {
	if b.Version != keyFileVersion {
		return fmt.Errorf("%w: format version %d, this program reads %d", ErrKeyFile, b.Version, keyFileVersion)
	}
	switch b.Kind {
	case KindRoot, KindIssuer, KindNode, KindGroup, KindRequest:
	default:
		return fmt.Errorf("%w: unknown kind of key", ErrKeyFile)
	}
	if b.Mesh.IsZero() {
		return fmt.Errorf("%w: it names no mesh", ErrKeyFile)
	}
	return nil
}

// WriteKeyFile seals k to the recipient in a new file of mode 0600. It never replaces a file: the error is then
// [fs.ErrExist], and the key that is there stays the key. When it returns nil the file survives a power loss.
func WriteKeyFile(fsys durable.FS, name string, to Recipient, k KeyMaterial) error {
	body := keyBody{Version: keyFileVersion, Kind: k.Kind, Mesh: k.Mesh, Generation: k.Generation, Secret: [32]byte(k.secret.Bytes())}
	defer clear(body.Secret[:])
	if err := body.check(); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	// Ask before the expensive sealing, so that a second attempt fails at once; WriteNew decides.
	if f, err := fsys.OpenFile(name, os.O_RDONLY, 0); err == nil {
		f.Close()
		return existsError(name)
	}
	plain := wire.MustMarshal(body)
	defer clear(plain)
	sealed, err := to.seal(plain)
	if err != nil {
		return fmt.Errorf("sealing %s: %w", name, err)
	}
	if err := durable.WriteNew(fsys, name, sealed); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return existsError(name)
		}
		return err
	}
	return nil
}

func existsError(name string) error {
	return fmt.Errorf("%s exists and key files are never overwritten; move it away first: %w", name, fs.ErrExist)
}

// ReadKeyFile opens a key file and returns its key, which must be of the given kind and, unless mesh is zero, of that mesh.
//
// Whoever can write the directory and knows the recipient can put a file of their own there: age authenticates nobody. So a
// caller that already knows the public key or commitment, from its certificate or the log, compares it.
func ReadKeyFile(fsys durable.FS, name string, kind KeyKind, mesh MeshID, with Unlock) (KeyMaterial, error) {
	sealed, err := readPrivate(fsys, name)
	if err != nil {
		return KeyMaterial{}, err
	}
	plain, err := with.open(sealed)
	if err != nil {
		return KeyMaterial{}, fmt.Errorf("%s: %w", name, err)
	}
	defer clear(plain)
	var body keyBody
	defer func() { clear(body.Secret[:]) }()
	if err := wire.Unmarshal(plain, &body); err != nil {
		return KeyMaterial{}, fmt.Errorf("%s: %w: its content is no key", name, ErrKeyFile)
	}
	if err := body.check(); err != nil {
		return KeyMaterial{}, fmt.Errorf("%s: %w", name, err)
	}
	if body.Kind != kind {
		return KeyMaterial{}, fmt.Errorf("%s: %w: its kind is %s, not %s", name, ErrOtherKey, body.Kind, kind)
	}
	if !mesh.IsZero() && body.Mesh != mesh {
		return KeyMaterial{}, fmt.Errorf("%s: %w: its mesh is %s, not %s", name, ErrOtherKey, body.Mesh.Short(), mesh.Short())
	}
	return KeyMaterial{Kind: body.Kind, Mesh: body.Mesh, Generation: body.Generation, secret: newSecret(body.Secret[:])}, nil
}

// readPrivate reads a file that must be closed to everybody but its owner, as ssh demands of its keys.
func readPrivate(fsys durable.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to other users (mode %#o): run: chmod 600 %s", name, perm, name)
	}
	return readBounded(f, name)
}

// readBounded reads at most maxKeyFile bytes.
func readBounded(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%s: %w: longer than %d bytes", name, ErrKeyFile, maxKeyFile)
	}
	return b, nil
}

// seal encrypts plain in the binary age format.
func (r Recipient) seal(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r.to...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
