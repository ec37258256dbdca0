package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// maxSecret bounds a passphrase; more is a file given by mistake.
const maxSecret = 4096

// secretSource says where a passphrase comes from. It is never on the command line, where every user of the machine could read it.
type secretSource struct {
	File string // --passphrase-file
	FD   int    // --passphrase-fd; -1 for none
}

const secretHelp = "give --passphrase-file FILE, --passphrase-fd N or MESHKEY_PASSPHRASE_FILE"

const weakHelp = "take a few words that do not belong together; on a terminal, Enter alone has one made"

// credential is the passphrase's name in systemd's $CREDENTIALS_DIRECTORY.
const credential = "meshkey.passphrase"

// passphrase finds a passphrase: a descriptor, a file, the file in MESHKEY_PASSPHRASE_FILE, systemd's credential, or the terminal; there a
// new one is asked for twice. Whether a new one is good enough is checked by what seals to it, wherever it comes from.
func (c *cli) passphrase(s secretSource, what string, fresh bool) ([]byte, error) {
	if s.File != "" && s.FD >= 0 {
		return nil, control.Errorf(control.Usage, "", "--passphrase-file and --passphrase-fd exclude each other")
	}
	switch {
	case s.FD >= 0:
		f := os.NewFile(uintptr(s.FD), "passphrase")
		if f == nil {
			return nil, control.Errorf(control.Usage, "", "descriptor %d is not open", s.FD)
		}
		defer f.Close()
		return readSecret(f, "the descriptor")
	case s.File != "":
		return secretFile(s.File)
	case c.getenv("MESHKEY_PASSPHRASE_FILE") != "":
		return secretFile(c.getenv("MESHKEY_PASSPHRASE_FILE"))
	}
	if dir := c.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		b, err := secretFile(filepath.Join(dir, credential))
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	if !c.inTerm {
		return nil, control.Errorf(control.Usage, secretHelp, "%s is needed, and there is no terminal to ask on", what)
	}
	if !fresh {
		io.WriteString(c.err, what+": ")
		return c.typed()
	}
	return c.newPassphrase(what)
}

// newPassphrase asks for a new passphrase twice, or makes one and wants to see it typed, so that it is on paper before anything is sealed to
// it.
func (c *cli) newPassphrase(what string) ([]byte, error) {
	io.WriteString(c.err, what+" (Enter alone: one is made for you): ")
	first, err := c.readSecret()
	io.WriteString(c.err, "\n")
	if err != nil {
		return nil, control.Errorf(control.Usage, secretHelp, "reading the passphrase: %w", err)
	}
	if len(first) == 0 {
		first = madePassphrase()
		c.say("Write this down, and keep it apart from the key; it is not shown again:\n\n    %s\n", first)
	}
	if first, err = checkSecret(first, "the passphrase"); err != nil {
		return nil, err
	}
	if err := keys.CheckNewPassphrase(string(first)); err != nil {
		return nil, control.Errorf(control.Usage, weakHelp, "%w", err)
	}
	io.WriteString(c.err, "once more: ")
	second, err := c.typed()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, control.Errorf(control.Usage, "try again", "the two passphrases differ")
	}
	return first, nil
}

// madePassphrase returns nine of the 256 confirmation words, 72 random bits: at a second a guess that is out of reach for anybody.
func madePassphrase() []byte {
	var words []string
	for range 3 {
		var h keys.Hash
		rand.Read(h[:])
		w := identity.Words(h)
		words = append(words, w[:]...)
	}
	return []byte(strings.Join(words, " "))
}

func (c *cli) typed() ([]byte, error) {
	b, err := c.readSecret()
	io.WriteString(c.err, "\n")
	if err != nil {
		return nil, control.Errorf(control.Usage, secretHelp, "reading the passphrase: %w", err)
	}
	return checkSecret(b, "the passphrase")
}

// secretFile reads the first line of a file that nobody else can read.
func secretFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, control.Errorf(control.Usage, secretHelp, "the passphrase: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, control.Errorf(control.Usage, "chmod 600 "+name, "%s holds a passphrase and is open to other users", name)
	}
	return readSecret(f, name)
}

func readSecret(r io.Reader, from string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+2))
	if err != nil {
		return nil, control.Errorf(control.Usage, secretHelp, "the passphrase from %s: %w", from, err)
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = bytes.TrimSuffix(b[:i], []byte("\r"))
	}
	return checkSecret(b, "the passphrase from "+from)
}

func checkSecret(b []byte, what string) ([]byte, error) {
	if len(b) == 0 {
		return nil, control.Errorf(control.Usage, secretHelp, "%s is empty", what)
	}
	if len(b) > maxSecret {
		return nil, control.Errorf(control.Usage, secretHelp, "%s is longer than %d bytes", what, maxSecret)
	}
	return b, nil
}

// readFromTerminal reads a line from the terminal without showing it.
func readFromTerminal() ([]byte, error) { return term.ReadPassword(int(os.Stdin.Fd())) }

// secretFlags adds the flags of a secretSource.
func secretFlags(f *pflag.FlagSet, s *secretSource) {
	f.StringVar(&s.File, "passphrase-file", "", "read the passphrase from `file` (MESHKEY_PASSPHRASE_FILE)")
	f.IntVar(&s.FD, "passphrase-fd", -1, "read the passphrase from descriptor `n`")
}
