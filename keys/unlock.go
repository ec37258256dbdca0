package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

var (
	// ErrPassphrase means the passphrase does not open the file: ask again.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrWeakPassphrase means a new passphrase is too easy to guess: choose a longer one.
	ErrWeakPassphrase = fmt.Errorf("a new passphrase needs %d characters or more, of %d or more kinds", minPassphrase, minPassphraseKinds)
	// ErrLocked means the file is sealed to something that was not given: another identity, or a passphrase.
	ErrLocked = errors.New("key file is sealed to something else")
)

// Recipient is who may open a key file. Its zero value is nobody and is refused.
type Recipient struct {
	to []age.Recipient
}

// CheckNewPassphrase refuses a passphrase that is easily guessed although each guess takes a second. It is for those who choose one: what a
// file was sealed to before stays good, however short.
func CheckNewPassphrase(passphrase string) error {
	kinds := map[rune]bool{}
	length := 0
	for _, r := range passphrase {
		kinds[r] = true
		length++
	}
	if length < minPassphrase || len(kinds) < minPassphraseKinds {
		return ErrWeakPassphrase
	}
	return nil
}

// PassphraseRecipient seals to a passphrase. Sealing and opening cost about a second and 256 MiB each, which is what makes
// guessing expensive.
func PassphraseRecipient(passphrase string) (Recipient, error) {
	return passphraseRecipient(passphrase, scryptWork)
}

func passphraseRecipient(passphrase string, work int) (Recipient, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Recipient{}, err // it is empty
	}
	r.SetWorkFactor(work)
	return Recipient{to: []age.Recipient{r}}, nil
}

// ParseRecipients reads age recipients as the age tools print them, "age1…" or the post-quantum "age1pq…". A file sealed to
// several opens with any one of them. Age refuses to mix the two sorts, since the weaker would decide. Recipients of plugins are
// [Plugins.ParseRecipients]'s.
func ParseRecipients(list ...string) (Recipient, error) { return Plugins{}.ParseRecipients(list...) }

// FileIdentity is an age identity kept in a file beside the sealed keys, so that a daemon starts unattended. It protects
// backups and copies of the key files, not a disk that holds both.
type FileIdentity struct {
	ids veil[[]age.Identity]
	to  Recipient
}

// NewIdentityFile makes a fresh identity and writes it to a new file of mode 0600; it never replaces one.
func NewIdentityFile(fsys durable.FS, name string) (*FileIdentity, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, "# meshkey: opens the key files of this host; whoever has both has the keys\n# public key: %s\n%s\n",
		id.Recipient(), id)
	defer clear(text)
	if err := durable.WriteNew(fsys, name, text); err != nil {
		return nil, err
	}
	return &FileIdentity{ids: hide([]age.Identity{id}), to: Recipient{to: []age.Recipient{id.Recipient()}}}, nil
}

// ReadIdentityFile reads an identity file, which must be closed to other users.
func ReadIdentityFile(fsys durable.FS, name string) (*FileIdentity, error) {
	return Plugins{}.ReadIdentityFile(fsys, name)
}

// ParseIdentity reads the text of an identity file, for identities that come as a credential of the service manager.
func ParseIdentity(text []byte) (*FileIdentity, error) { return Plugins{}.ParseIdentity(text) }

// JoinIdentities returns an identity that opens what any of them opens, and seals to the first.
func JoinIdentities(list ...*FileIdentity) *FileIdentity {
	out := &FileIdentity{}
	var ids []age.Identity
	for _, i := range list {
		if i == nil {
			continue
		}
		ids = append(ids, *i.ids.get()...)
		if out.to.to == nil {
			out.to = i.Recipient()
		}
	}
	if ids == nil {
		return nil
	}
	out.ids = hide(ids)
	return out
}

// Recipient returns what seals files to this identity.
func (i *FileIdentity) Recipient() Recipient { return Recipient{to: slices.Clone(i.to.to)} }

// Format hides the identity from every verb of package fmt.
func (i *FileIdentity) Format(f fmt.State, _ rune) { io.WriteString(f, "[age identity]") }

// Unlock is what a caller has to open key files with. Both may be given; its zero value opens nothing.
type Unlock struct {
	// Identity opens files sealed to it.
	Identity *FileIdentity
	// Passphrase is asked only when the file turns out to be sealed to a passphrase.
	Passphrase func() (string, error)
}

// open decrypts a sealed file.
func (u Unlock) open(sealed []byte) ([]byte, error) {
	lazy := &passphraseIdentity{ask: u.Passphrase}
	plugins := &pluginErrors{}
	ids := []age.Identity{lazy}
	if u.Identity != nil {
		for _, id := range *u.Identity.ids.get() {
			ids = append(ids, plugins.watch(id))
		}
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	switch {
	case lazy.err != nil:
		return nil, lazy.err
	case err != nil && plugins.err != nil:
		return nil, plugins.err
	case errors.As(err, new(*age.NoIdentityMatchError)):
		if u.Identity == nil {
			return nil, fmt.Errorf("%w: it needs an identity file", ErrLocked)
		}
		return nil, fmt.Errorf("%w: the identity given does not open it", ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("%w: damaged, or not an age file", ErrKeyFile)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxKeyBody+1))
	if err != nil || len(plain) > maxKeyBody {
		clear(plain)
		return nil, fmt.Errorf("%w: damaged", ErrKeyFile)
	}
	return plain, nil
}

// passphraseIdentity asks for the passphrase only if the file's header says that there is one. It keeps its own error, because
// the library merges a wrong passphrase with an identity that does not match.
type passphraseIdentity struct {
	ask func() (string, error)
	err error
}

// Unwrap implements [age.Identity].
func (p *passphraseIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if !slices.ContainsFunc(stanzas, func(s *age.Stanza) bool { return s.Type == "scrypt" }) {
		return nil, age.ErrIncorrectIdentity
	}
	key, err := p.unwrap(stanzas)
	p.err = err
	return key, err
}

func (p *passphraseIdentity) unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if p.ask == nil {
		return nil, fmt.Errorf("%w: it needs a passphrase", ErrLocked)
	}
	text, err := p.ask()
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	id, err := age.NewScryptIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	id.SetMaxWorkFactor(maxScryptWork)
	key, err := id.Unwrap(stanzas)
	switch {
	case errors.Is(err, age.ErrIncorrectIdentity):
		return nil, fmt.Errorf("%w (or the file is damaged)", ErrPassphrase)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return key, nil
}
