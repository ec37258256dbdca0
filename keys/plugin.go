package keys

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// ErrPlugin means that a recipient or identity wants a plugin this host has not been told to run.
var ErrPlugin = errors.New("age plugin not allowed on this host")

// Plugins are the age plugins this host may run: programs named age-plugin-NAME in the PATH. A plugin is started only for a name of
// this list, which comes from the host's own configuration, never from a file of somebody else. The zero value allows none.
type Plugins struct {
	names []string
	ui    *plugin.ClientUI
}

// PluginUI is how plugins speak with a person. Functions that are nil answer that there is nobody.
type PluginUI struct {
	Say     func(text string)
	Ask     func(prompt string, secret bool) (string, error)
	Confirm func(prompt, yes, no string) (bool, error)
}

// NewPlugins allows the plugins of these names.
func NewPlugins(names []string, ui PluginUI) (Plugins, error) {
	if len(names) > maxPlugins {
		return Plugins{}, fmt.Errorf("%d age plugins, at most %d", len(names), maxPlugins)
	}
	for _, n := range names {
		if err := CheckPluginName(n); err != nil {
			return Plugins{}, err
		}
	}
	u := &plugin.ClientUI{}
	if ui.Say != nil {
		u.DisplayMessage = func(name, text string) error {
			ui.Say(pluginText(name + " plugin: " + text))
			return nil
		}
		u.WaitTimer = func(name string) { ui.Say(pluginText(name + " plugin: waiting; does it want to be touched?")) }
	}
	if ui.Ask != nil {
		u.RequestValue = func(name, prompt string, secret bool) (string, error) {
			return ui.Ask(pluginText(name+" plugin: "+prompt), secret)
		}
	}
	if ui.Confirm != nil {
		u.Confirm = func(name, prompt, yes, no string) (bool, error) {
			return ui.Confirm(pluginText(name+" plugin: "+prompt), pluginText(yes), pluginText(no))
		}
	}
	return Plugins{names: slices.Clone(names), ui: u}, nil
}

// CheckPluginName accepts 1 to 32 of a-z, 0-9 and hyphens: what becomes a part of a program's name.
func CheckPluginName(s string) error {
	ok := s != "" && len(s) <= maxPluginName && s[0] != '-' && s[len(s)-1] != '-'
	for i := range len(s) {
		c := s[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return errors.New("the name of an age plugin has 1 to 32 of a-z, 0-9 and inner hyphens")
	}
	return nil
}

func (p Plugins) allowed(name string) error {
	// The list's alphabet has no path separator, so what passes is the name of a program in the PATH.
	if slices.Contains(p.names, name) {
		return nil
	}
	if CheckPluginName(name) != nil {
		return ErrPlugin
	}
	return fmt.Errorf("%w: %s; allow it by keys.plugins in meshkey.toml, or --plugin %s", ErrPlugin, name, name)
}

// pluginText makes a plugin's words one harmless line.
func pluginText(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxPluginText {
		s = strings.ToValidUTF8(s[:maxPluginText], "") + "…"
	}
	return s
}

// ParseRecipients reads age recipients, those of allowed plugins too. See the function of that name.
func (p Plugins) ParseRecipients(list ...string) (Recipient, error) {
	var out Recipient
	if len(list) == 0 || len(list) > maxRecipients {
		return Recipient{}, fmt.Errorf("%d age recipients, want 1 to %d", len(list), maxRecipients)
	}
	for i, s := range list {
		if len(s) > maxRecipientText {
			return Recipient{}, fmt.Errorf("age recipient %d is too long", i+1)
		}
		// Parsed one by one: the library's own parser skips comment lines, and a recipient that silently is none is worse than
		// an error.
		if rs, err := age.ParseRecipients(strings.NewReader(s)); err == nil && len(rs) == 1 {
			out.to = append(out.to, rs[0])
			continue
		}
		name, _, err := plugin.ParseRecipient(s)
		if err != nil {
			return Recipient{}, fmt.Errorf("age recipient %d is not of the form age1… or age1pq…", i+1)
		}
		if err := p.allowed(name); err != nil {
			return Recipient{}, fmt.Errorf("age recipient %d: %w", i+1, err)
		}
		r, err := plugin.NewRecipient(s, p.ui)
		if err != nil {
			return Recipient{}, fmt.Errorf("age recipient %d: %w", i+1, err)
		}
		out.to = append(out.to, r)
	}
	return out, nil
}

// ReadIdentityFile reads an identity file, which must be closed to other users.
func (p Plugins) ReadIdentityFile(fsys durable.FS, name string) (*FileIdentity, error) {
	text, err := readPrivate(fsys, name)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	id, err := p.ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return id, nil
}

// ParseIdentity reads the text of an identity file: a line for each identity, native or of an allowed plugin; empty lines and lines
// that begin with # are passed over.
func (p Plugins) ParseIdentity(text []byte) (*FileIdentity, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%w: identity too long", ErrKeyFile)
	}
	var ids []age.Identity
	out := &FileIdentity{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, to, err := p.parseIdentity(line)
		if err != nil {
			return nil, err
		}
		ids, out.to.to = append(ids, id), append(out.to.to, to)
	}
	if len(ids) == 0 || len(ids) > maxRecipients {
		return nil, fmt.Errorf("%w: not an age identity", ErrKeyFile)
	}
	out.ids = hide(ids)
	return out, nil
}

// parseIdentity reads one line. The library's errors may quote what it read, and what it read may be a damaged secret: they are not
// passed on.
func (p Plugins) parseIdentity(line []byte) (age.Identity, age.Recipient, error) {
	if bytes.HasPrefix(line, []byte("AGE-PLUGIN-")) {
		name, _, err := plugin.ParseIdentity(string(line))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: not an age identity", ErrKeyFile)
		}
		if err := p.allowed(name); err != nil {
			return nil, nil, err
		}
		id, err := plugin.NewIdentity(string(line), p.ui)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: not an age identity", ErrKeyFile)
		}
		return id, id.Recipient(), nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(line))
	if err != nil || len(ids) != 1 {
		return nil, nil, fmt.Errorf("%w: not an age identity", ErrKeyFile)
	}
	switch id := ids[0].(type) {
	case *age.X25519Identity:
		return id, id.Recipient(), nil
	case *age.HybridIdentity:
		return id, id.Recipient(), nil
	}
	return nil, nil, fmt.Errorf("%w: an age identity of a sort that cannot seal", ErrKeyFile)
}

// pluginErrors keeps why a plugin failed, which is not that the file is damaged.
type pluginErrors struct{ err error }

type watchedPlugin struct {
	id   *plugin.Identity
	errs *pluginErrors
}

func (e *pluginErrors) watch(id age.Identity) age.Identity {
	if p, ok := id.(*plugin.Identity); ok {
		return watchedPlugin{p, e}
	}
	return id
}

// Unwrap implements [age.Identity].
func (w watchedPlugin) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := w.id.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		w.errs.err = fmt.Errorf("%w: %s", ErrLocked, pluginText(err.Error()))
		return nil, age.ErrIncorrectIdentity // another identity may still open it
	}
	return key, err
}
