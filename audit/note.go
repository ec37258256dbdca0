package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/keys"
)

// Signature types of C2SP signed-note.
const (
	algEd25519     = 1
	algCosignature = 4
)

// ErrCheckpoint means that bytes are no checkpoint of the log, or none its node signed.
var ErrCheckpoint = errors.New("not a signed checkpoint of this log")

// Checkpoint is a signed statement of a node about its log: at Time it had Size entries and the root Root.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
	Time   time.Time // of the signature, to the second
	Others int       // further signature lines, of witnesses; not verified here
	Note   []byte    // the signed note as it was read or made
}

// Origin is the name of a node's log, in checkpoints and for witnesses. Node ids, not names: names are reused.
func Origin(mesh keys.MeshID, node keys.NodeID) string {
	return "meshkey/" + mesh.Short() + "/audit/" + node.Compact()
}

// keyHash is the key hash of C2SP signed-note for an Ed25519 key used with a signature type.
func keyHash(name string, alg byte, key keys.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', alg})
	h.Write(key[:])
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// VerifierKey is the vkey of a node's log for other C2SP tools.
func VerifierKey(mesh keys.MeshID, node keys.NodeID) string {
	return vkey(Origin(mesh, node), algEd25519, node.Public())
}

func vkey(name string, alg byte, key keys.PublicKey) string {
	enc := base64.StdEncoding.EncodeToString(append([]byte{alg}, key[:]...))
	return fmt.Sprintf("%s+%08x+%s", name, keyHash(name, alg, key), enc)
}

// logVerifiers returns the two verifiers of a log: of the note itself, and of the node's own dated signature on it.
func logVerifiers(origin string, node keys.NodeID) (plain, dated note.Verifier, err error) {
	if plain, err = note.NewVerifier(vkey(origin, algEd25519, node.Public())); err != nil {
		return nil, nil, err
	}
	if dated, err = torchwood.NewCosignatureVerifier(vkey(origin, algCosignature, node.Public())); err != nil {
		return nil, nil, err
	}
	return plain, dated, nil
}

// noteSigner signs with the node's key as C2SP says. The texts cannot be taken for any other signature input of this program:
// those begin with "meshkey/1 ", a checkpoint with "meshkey/" and eight hexadecimal digits, a dated one with "cosignature/v1".
type noteSigner struct {
	name string
	alg  byte
	pub  keys.PublicKey
	sign func(text []byte) []byte
}

func (s noteSigner) Name() string                     { return s.name }
func (s noteSigner) KeyHash() uint32                  { return keyHash(s.name, s.alg, s.pub) }
func (s noteSigner) Sign(text []byte) ([]byte, error) { return s.sign(text), nil }

// signers are the two signatures a node puts on its checkpoints: the plain one, and the one dated at unix seconds.
func signers(key *keys.SigningKey, origin string, at int64) (plain, dated note.Signer) {
	plain = noteSigner{origin, algEd25519, key.Public(), func(text []byte) []byte {
		return ed25519.Sign(key.CryptoSigner(), text)
	}}
	dated = noteSigner{origin, algCosignature, key.Public(), func(text []byte) []byte {
		sig := binary.BigEndian.AppendUint64(nil, uint64(at))
		return append(sig, ed25519.Sign(key.CryptoSigner(), fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	}}
	return plain, dated
}

// signCheckpoint makes the checkpoint of a tree, dated now.
func signCheckpoint(key *keys.SigningKey, origin string, size uint64, root tlog.Hash, now time.Time) (*Checkpoint, error) {
	text := torchwood.Checkpoint{Origin: origin, Tree: tlog.Tree{N: int64(size), Hash: root}}.String()
	plain, dated := signers(key, origin, now.Unix())
	signed, err := note.Sign(&note.Note{Text: text}, plain, dated)
	if err != nil {
		return nil, err
	}
	return &Checkpoint{Origin: origin, Size: size, Root: root, Time: time.Unix(now.Unix(), 0).UTC(), Note: signed}, nil
}

// parseCheckpoint reads and verifies a signed checkpoint of the log. It is strict: the two signatures of the node come first,
// then at most maxCosignatures of others, nothing is repeated, every line has one spelling.
func parseCheckpoint(b []byte, origin string, node keys.NodeID) (*Checkpoint, error) {
	if len(b) > maxNote {
		return nil, fmt.Errorf("%w: %d bytes", ErrCheckpoint, len(b))
	}
	plain, dated, err := logVerifiers(origin, node)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	n, err := note.Open(b, note.VerifierList(plain, dated))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if len(n.Sigs) != 2 || n.Sigs[0].Hash != plain.KeyHash() || n.Sigs[1].Hash != dated.KeyHash() {
		return nil, fmt.Errorf("%w: it needs the node's signature and the node's dated signature", ErrCheckpoint)
	}
	if len(n.UnverifiedSigs) > maxCosignatures {
		return nil, fmt.Errorf("%w: %d further signatures", ErrCheckpoint, len(n.UnverifiedSigs))
	}
	c, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if c.Origin != origin || c.Extension != "" || c.String() != n.Text {
		return nil, fmt.Errorf("%w: origin, extension or spelling", ErrCheckpoint)
	}
	at, err := torchwood.CosignatureTimestamp(n.Sigs[1])
	if err != nil || at > maxTimeMs/1000 {
		return nil, fmt.Errorf("%w: date of the signature", ErrCheckpoint)
	}
	if !canonicalNote(n, b) {
		return nil, fmt.Errorf("%w: signature lines are not in canonical form", ErrCheckpoint)
	}
	return &Checkpoint{
		Origin: origin, Size: uint64(c.N), Root: c.Hash, Time: time.Unix(at, 0).UTC(), Others: len(n.UnverifiedSigs),
		Note: append([]byte(nil), b...),
	}, nil
}

// canonicalNote reports whether the note, written again, gives the same bytes: no repeated, reordered or respelled line.
func canonicalNote(n *note.Note, b []byte) bool {
	var again strings.Builder
	again.WriteString(n.Text)
	again.WriteByte('\n')
	for _, list := range [][]note.Signature{n.Sigs, n.UnverifiedSigs} {
		for _, s := range list {
			raw, err := base64.StdEncoding.DecodeString(s.Base64)
			if err != nil {
				return false
			}
			again.WriteString("— " + s.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n")
		}
	}
	return again.String() == string(b)
}
