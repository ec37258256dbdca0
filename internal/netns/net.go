package netns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// networks numbers the networks of this process, so that several can exist at once.
var networks atomic.Uint32

// nsPath is where ip(8) keeps a named network namespace.
func nsPath(name string) string { return filepath.Join("/var/run/netns", name) }

// TB is the part of [testing.TB] that a network needs of the test it belongs to. A program that has no test gives its own: Fatalf and
// Skipf must not return.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// Net is one test's network. It is used from the test's goroutine; the commands of its hosts from any.
type Net struct {
	// Immutable.
	t  TB
	id uint32
	sw string // network namespace that holds the bridges

	// Owned by the test's goroutine.
	ports  int
	hosts  map[string]*Host
	spaces []string
}

// New makes an empty network that ends with the test. Outside a namespace it skips the test, or fails it if MESHKEY_E2E=1.
func New(t TB) *Net {
	t.Helper()
	if err := Why(); err != nil {
		if os.Getenv(requireEnv) == "1" {
			t.Fatalf("namespaces are required (%s=1): %v", requireEnv, err)
		}
		t.Skipf("needs network namespaces: %v", err)
	}
	n := &Net{t: t, id: networks.Add(1), hosts: make(map[string]*Host)}
	t.Cleanup(n.remove)
	n.sw = n.space("switch")
	// The switch is no participant: it must not answer, announce or delay.
	n.in(n.sw, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	return n
}

// space makes a network namespace with loopback up.
func (n *Net) space(name string) string {
	n.t.Helper()
	full := fmt.Sprintf("n%d-%s", n.id, name)
	n.run("ip", "netns", "add", full)
	n.spaces = append(n.spaces, full)
	n.run("ip", "-n", full, "link", "set", "lo", "up")
	return full
}

// remove ends what still runs in the namespaces, which would keep them alive, and drops them, and with them every link and rule.
func (n *Net) remove() {
	self := os.Getpid()
	for _, name := range n.spaces {
		for _, s := range strings.Fields(n.run("ip", "netns", "pids", name)) {
			// This process is listed while a thread of Do has not ended yet.
			if pid, err := strconv.Atoi(s); err == nil && pid != self {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
			}
		}
		n.run("ip", "netns", "del", name)
	}
}

// run runs one configuring command and fails the test if that fails.
func (n *Net) run(name string, args ...string) string {
	n.t.Helper()
	return output(n.t, func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, name, args...) })
}

// in is run inside a network namespace.
func (n *Net) in(space, name string, args ...string) string {
	n.t.Helper()
	return n.run("nsenter", append([]string{"--net=" + nsPath(space), "--", name}, args...)...)
}

func output(t TB, build func(context.Context) *exec.Cmd) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := build(ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return stdout.String()
}

// Bridge is a switch: one link-layer segment.
type Bridge struct {
	net  *Net
	name string
}

// Bridge makes a switch. Names have at most 15 characters.
func (n *Net) Bridge(name string) *Bridge {
	n.t.Helper()
	n.run("ip", "-n", n.sw, "link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
	n.run("ip", "-n", n.sw, "link", "set", name, "up")
	return &Bridge{net: n, name: name}
}

// Link is a cable from a host to a bridge.
type Link struct {
	Host *Host
	// Dev is the host's interface: eth0, eth1, …
	Dev  string
	port string // the bridge's end
}

// Attach plugs the host into the bridge and gives its new interface the addresses, each with its prefix length. IPv6 addresses
// are usable after [Host.WaitDAD].
func (b *Bridge) Attach(h *Host, prefixes ...string) *Link {
	n := b.net
	n.t.Helper()
	n.ports++
	l := &Link{Host: h, Dev: fmt.Sprintf("eth%d", h.links), port: fmt.Sprintf("p%d", n.ports)}
	h.links++
	n.run("ip", "-n", n.sw, "link", "add", l.port, "type", "veth", "peer", "name", l.Dev, "netns", h.space)
	n.run("ip", "-n", n.sw, "link", "set", l.port, "master", b.name, "up")
	for _, p := range prefixes {
		l.AddAddr(p)
	}
	l.Up()
	return l
}

// AddAddr gives the interface one more address, with the directed broadcast address of an IPv4 prefix.
func (l *Link) AddAddr(prefix string) {
	l.Host.net.t.Helper()
	args := []string{"-n", l.Host.space, "addr", "add", prefix, "dev", l.Dev}
	if !strings.Contains(prefix, ":") {
		args = append(args, "brd", "+")
	}
	l.Host.net.run("ip", args...)
}

// DelAddr takes an address away.
func (l *Link) DelAddr(prefix string) {
	l.Host.net.t.Helper()
	l.Host.net.run("ip", "-n", l.Host.space, "addr", "del", prefix, "dev", l.Dev)
}

// Cable joins two hosts directly, without a switch between them, and gives each end's new interface its address with prefix length.
func (n *Net) Cable(a *Host, prefixA string, b *Host, prefixB string) {
	n.t.Helper()
	devA, devB := fmt.Sprintf("eth%d", a.links), fmt.Sprintf("eth%d", b.links)
	a.links++
	b.links++
	n.run("ip", "-n", a.space, "link", "add", devA, "type", "veth", "peer", "name", devB, "netns", b.space)
	for _, end := range []struct {
		h           *Host
		dev, prefix string
	}{{a, devA, prefixA}, {b, devB, prefixB}} {
		n.run("ip", "-n", end.h.space, "addr", "add", end.prefix, "dev", end.dev, "brd", "+")
		n.run("ip", "-n", end.h.space, "link", "set", end.dev, "up")
	}
}

// Up takes the host's interface up.
func (l *Link) Up() { l.Host.net.run("ip", "-n", l.Host.space, "link", "set", l.Dev, "up") }

// Down takes the host's interface down, as a program on the host sees it.
func (l *Link) Down() { l.Host.net.run("ip", "-n", l.Host.space, "link", "set", l.Dev, "down") }

// Unplug and Plug pull the cable at the switch: the host's interface loses its carrier, its addresses stay.
func (l *Link) Unplug() { l.Host.net.run("ip", "-n", l.Host.net.sw, "link", "set", l.port, "down") }

// Plug undoes Unplug.
func (l *Link) Plug() { l.Host.net.run("ip", "-n", l.Host.net.sw, "link", "set", l.port, "up") }

// Isolate is client isolation as access points do it: isolated links reach only links that are not.
func (l *Link) Isolate(on bool) {
	l.Host.net.run("ip", "-n", l.Host.net.sw, "link", "set", l.port, "type", "bridge_slave", "isolated", onOff(on))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Trunk is a cable between two switches.
type Trunk struct {
	net  *Net
	port string // the end at the first one
}

// Trunk joins two switches to one segment.
func (b *Bridge) Trunk(to *Bridge) *Trunk {
	n := b.net
	n.t.Helper()
	n.ports++
	near, far := fmt.Sprintf("t%da", n.ports), fmt.Sprintf("t%db", n.ports)
	n.run("ip", "-n", n.sw, "link", "add", near, "type", "veth", "peer", "name", far)
	n.run("ip", "-n", n.sw, "link", "set", near, "master", b.name, "up")
	n.run("ip", "-n", n.sw, "link", "set", far, "master", to.name, "up")
	return &Trunk{net: n, port: near}
}

// Cut parts the two switches; no host's interface notices.
func (t *Trunk) Cut() { t.net.run("ip", "-n", t.net.sw, "link", "set", t.port, "down") }

// Mend undoes Cut.
func (t *Trunk) Mend() { t.net.run("ip", "-n", t.net.sw, "link", "set", t.port, "up") }

// Host is a machine: a network namespace.
type Host struct {
	net   *Net
	space string
	Name  string
	links int // owned by the test's goroutine
}

// Host makes a machine with nothing but loopback. Asked again by the same name it returns the same machine.
func (n *Net) Host(name string) *Host {
	n.t.Helper()
	if h, ok := n.hosts[name]; ok {
		return h
	}
	h := &Host{net: n, Name: name, space: n.space(name)}
	n.hosts[name] = h
	return h
}

// Command is a program that will run on the host. Like everything inside, it cannot outlive the test binary.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + nsPath(h.space), "--", name}, args...)...)
}

// CommandContext is Command, killed when ctx ends.
func (h *Host) CommandContext(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + nsPath(h.space), "--", name}, args...)...)
}

// Run runs a program on the host to its end and returns its output. It fails the test if the program fails.
func (h *Host) Run(name string, args ...string) string {
	h.net.t.Helper()
	return h.net.in(h.space, name, args...)
}

// Do calls f in the host's network: sockets it makes by itself, without other goroutines, are the host's.
func (h *Host) Do(f func()) {
	h.net.t.Helper()
	if err := doIn(h.space, f); err != nil {
		h.net.t.Fatalf("entering %s: %v", h.Name, err)
	}
}

// Listen opens a listener of this process on the host.
func (h *Host) Listen(network, addr string) net.Listener {
	h.net.t.Helper()
	var l net.Listener
	var err error
	h.Do(func() { l, err = net.Listen(network, addr) })
	if err != nil {
		h.net.t.Fatalf("listening on %s: %v", h.Name, err)
	}
	h.net.t.Cleanup(func() { l.Close() })
	return l
}

// Sysctl sets a kernel parameter of the host's network.
func (h *Host) Sysctl(key, value string) {
	h.net.t.Helper()
	h.Run("sysctl", "-qw", key+"="+value)
}

// NFT loads nftables rules on the host, in the language of nft(8).
func (h *Host) NFT(rules string) {
	h.net.t.Helper()
	output(h.net.t, func(ctx context.Context) *exec.Cmd {
		cmd := h.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		return cmd
	})
}

// WaitDAD waits until none of the host's IPv6 addresses is tentative any more. A failed detection fails the test.
func (h *Host) WaitDAD() {
	h.net.t.Helper()
	deadline := time.Now().Add(dadWait)
	tick := time.NewTicker(pollStep)
	defer tick.Stop()
	for {
		if out := h.Run("ip", "-6", "-o", "addr", "show", "dadfailed"); out != "" {
			h.net.t.Fatalf("%s: duplicate address: %s", h.Name, out)
		}
		out := h.Run("ip", "-6", "-o", "addr", "show", "tentative")
		if out == "" {
			return
		}
		if time.Now().After(deadline) {
			h.net.t.Fatalf("%s: still tentative after %v: %s", h.Name, dadWait, out)
		}
		<-tick.C
	}
}
