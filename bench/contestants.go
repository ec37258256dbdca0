package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// contestant is one way from the client to the server. Its methods are called in this order, from one goroutine: missing, serve, then
// connect and disconnect in turn, stop at last. serve and stop belong to a run, connect and disconnect to a turn.
type contestant interface {
	// name is what it is called on the command line and in files.
	name() string
	// title says what it is, for people.
	title() string
	// missing says why it cannot be measured here, or nothing.
	missing(*rig) string
	// serve makes keys and configuration and starts the server's side.
	serve(*rig) error
	// address is where the load connects to, in the client's namespace.
	address() string
	// connect starts the client's side; it need not answer yet.
	connect(*rig) error
	disconnect()
	stop()
	// processes are those of the client's and of the server's side.
	processes() (client, server []*process)
}

// Names that the targets refer to.
const (
	nameRaw       = "raw"
	namePlain     = "no-crypto"
	nameMeshkey   = "meshkey"
	nameTmpfs     = "meshkey-tmpfs"
	nameSSH       = "ssh"
	nameSSHChaCha = "ssh-chacha"
	nameStunnel   = "stunnel"
	nameLibp2p    = "libp2p"
	nameWireguard = "wireguard"
	nameNebula    = "nebula"
)

// contestants are all there are, in the order of the tables.
func contestants() []contestant {
	return []contestant{
		new(raw),
		newPlain(),
		newMeshkey(nameMeshkey, false),
		newMeshkey(nameTmpfs, true),
		newSSH(nameSSH, "aes128-gcm@openssh.com", "7103", "7203"),
		newSSH(nameSSHChaCha, "chacha20-poly1305@openssh.com", "7104", "7204"),
		newStunnel(),
		newLibp2p(),
		newWireguard(),
		newNebula(),
	}
}

func names() []string {
	var out []string
	for _, c := range contestants() {
		out = append(out, c.name())
	}
	return out
}

// lacking names the Debian package of the first tool that is not there.
func lacking(tools ...[2]string) string {
	for _, t := range tools {
		if _, err := exec.LookPath(t[0]); err != nil {
			return fmt.Sprintf("needs Debian package %s (%s)", t[1], t[0])
		}
	}
	return ""
}

// raw is TCP, without any daemon.
type raw struct{}

func (raw) name() string                 { return nameRaw }
func (raw) title() string                { return "raw TCP, no daemon" }
func (raw) missing(*rig) string          { return "" }
func (raw) serve(*rig) error             { return nil }
func (raw) address() string              { return rawTarget }
func (raw) connect(*rig) error           { return nil }
func (raw) disconnect()                  {}
func (raw) stop()                        {}
func (raw) processes() (a, b []*process) { return nil, nil }

// pair is a contestant of one program on each side.
type pair struct {
	label, text string
	addr        string
	lacks       func(*rig) string
	prepare     func(*rig) error
	// server and client start a side and return when it was started; what must be said to it, or done for it, is theirs.
	server, client func(*rig) (*process, error)

	up, far *process
}

func (p *pair) name() string  { return p.label }
func (p *pair) title() string { return p.text }

func (p *pair) missing(r *rig) string {
	if p.lacks == nil {
		return ""
	}
	return p.lacks(r)
}

func (p *pair) serve(r *rig) (err error) {
	if p.prepare != nil {
		if err := p.prepare(r); err != nil {
			return err
		}
	}
	p.far, err = p.server(r)
	return err
}

func (p *pair) address() string { return p.addr }

func (p *pair) connect(r *rig) (err error) {
	p.up, err = p.client(r)
	return err
}

func (p *pair) disconnect() {
	p.up.stop()
	p.up = nil
}

func (p *pair) stop() {
	p.far.stop()
	p.far = nil
}

func (p *pair) processes() (client, server []*process) {
	return []*process{p.up}, []*process{p.far}
}

// newPlain is the forwarder without encryption, a process on each side.
func newPlain() contestant {
	const far, near = serverIP + ":7101", "127.0.0.1:7201"
	return &pair{
		label: namePlain, text: "no-crypto forwarder, our own", addr: near,
		server: func(r *rig) (*process, error) {
			return r.helper(r.server, "plain-server", request{Do: doForward, Addr: far, Target: target})
		},
		client: func(r *rig) (*process, error) {
			return r.helper(r.client, "plain-client", request{Do: doForward, Addr: near, Target: far})
		},
	}
}

// output runs a tool to its end.
func output(cmd *exec.Cmd) (string, error) {
	b, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}
