package config

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Paths are the places of one daemon.
type Paths struct {
	State  string // the state directory
	Config string // meshkey.toml
	Socket string // the control socket
}

// Surroundings is what the places depend on, as the command line found it. Relative XDG directories are ignored, as their
// specification demands.
type Surroundings struct {
	Root       bool
	Home       string
	XDGConfig  string
	XDGState   string
	XDGRuntime string
}

// Find returns the places. given holds what the user said; empty fields are found.
func Find(s Surroundings, given Paths) (Paths, error) {
	p := given
	for _, g := range []*string{&p.State, &p.Config, &p.Socket} {
		if *g == "" {
			continue
		}
		if len(*g) > maxPath {
			return Paths{}, errors.New("a path is too long")
		}
		abs, err := filepath.Abs(*g)
		if err != nil {
			return Paths{}, fmt.Errorf("%s: %w", *g, err)
		}
		*g = abs
	}
	def, err := defaults(s)
	if p.State != "" {
		// By hand: a daemon of its own, with all it has in one place.
		def = Paths{Config: filepath.Join(p.State, "meshkey.toml"), Socket: filepath.Join(p.State, "meshkey.sock")}
	} else if err != nil && (p.Config == "" || p.Socket == "" || p.State == "") {
		return Paths{}, err
	}
	for _, f := range []struct{ to, from *string }{{&p.State, &def.State}, {&p.Config, &def.Config}, {&p.Socket, &def.Socket}} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
	return p, nil
}

func defaults(s Surroundings) (Paths, error) {
	if s.Root {
		return Paths{State: "/var/lib/meshkey", Config: "/etc/meshkey/meshkey.toml", Socket: "/run/meshkey/meshkey.sock"}, nil
	}
	dir := func(xdg string, below ...string) string {
		if filepath.IsAbs(xdg) {
			return filepath.Join(xdg, "meshkey")
		}
		return filepath.Join(append(append([]string{s.Home}, below...), "meshkey")...)
	}
	if !filepath.IsAbs(s.Home) && (!filepath.IsAbs(s.XDGConfig) || !filepath.IsAbs(s.XDGState)) {
		return Paths{}, errors.New("the home directory is not known: set HOME, or give --state DIR")
	}
	p := Paths{State: dir(s.XDGState, ".local", "state")}
	p.Config = filepath.Join(dir(s.XDGConfig, ".config"), "meshkey.toml")
	p.Socket = filepath.Join(p.State, "meshkey.sock")
	if filepath.IsAbs(s.XDGRuntime) {
		p.Socket = filepath.Join(s.XDGRuntime, "meshkey", "meshkey.sock")
	}
	return p, nil
}
