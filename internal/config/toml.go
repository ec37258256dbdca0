package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Error is a mistake in a file. Line and Column count from 1; 0 is unknown.
type Error struct {
	File         string
	Line, Column int
	Text         string
}

// Error names the place as compilers do.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// decode reads TOML into v, whose keys are given, and refuses what v has no field for.
func decode(name string, data []byte, v any, keys []key) error {
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		return nil
	}
	if m, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(m.Errors) > 0 {
		first := &m.Errors[0]
		e := &Error{File: name, Text: fmt.Sprintf("unknown key %q", clip(strings.Join(first.Key(), ".")))}
		e.Line, e.Column = first.Position()
		return e
	}
	e := &Error{File: name, Text: clip(strings.TrimPrefix(err.Error(), "toml: "))}
	where := ""
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		e.Line, e.Column = de.Position()
		if where = strings.Join(de.Key(), "."); where != "" {
			e.Text = clip(where) + ": " + e.Text
		}
	}
	if text := wrongType(data, keys, where); text != "" {
		e.Text = text
	}
	return e
}

// wrongType says which key has a value of another type than its own, and what it wants, for the library speaks of its caller's types.
// where is the key it stopped at, if it told. Text that is no TOML at all has another mistake.
func wrongType(data []byte, keys []key, where string) string {
	var doc map[string]any
	if toml.Unmarshal(data, &doc) != nil {
		return ""
	}
	first := ""
	for _, k := range keys {
		switch text := k.wrongIn(doc); {
		case text == "":
		case k.path == where:
			return text
		case first == "":
			first = text
		}
	}
	return first
}
