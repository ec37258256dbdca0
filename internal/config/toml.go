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

// decode reads TOML into v and refuses what v has no field for.
func decode(name string, data []byte, v any) error {
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
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		e := &Error{File: name, Text: clip(strings.TrimPrefix(de.Error(), "toml: "))}
		e.Line, e.Column = de.Position()
		if k := de.Key(); len(k) > 0 {
			e.Text = clip(strings.Join(k, ".")) + ": " + e.Text
		}
		return e
	}
	return &Error{File: name, Text: clip(strings.TrimPrefix(err.Error(), "toml: "))}
}
