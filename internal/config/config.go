package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereignmesh/meshkey/internal/forward"
	"github.com/sovereignmesh/meshkey/keys"
)

// DefaultPort is the port of sessions (TCP) and beacons (UDP).
const DefaultPort = 7477

// Config is meshkey.toml as it is written. The zero value is the empty file. Use the accessors: they know the defaults.
type Config struct {
	Network Network `toml:"network"`
	Mesh    Mesh    `toml:"mesh"`
	Control Control `toml:"control"`
	Log     Log     `toml:"log"`
	Audit   Audit   `toml:"audit"`
	Keys    Keys    `toml:"keys"`
}

// Network is the [network] table.
type Network struct {
	Listen           []string `toml:"listen"`
	BeaconPort       int64    `toml:"beacon_port"`
	LoopbackOnly     bool     `toml:"loopback_only"`
	Interfaces       []string `toml:"interfaces"`
	IgnoreInterfaces []string `toml:"ignore_interfaces"`
}

// Mesh is the [mesh] table.
type Mesh struct {
	Seeds     []string `toml:"seeds"`
	Endpoints []string `toml:"endpoints"`
}

// Control is the [control] table.
type Control struct {
	ReadGroup string `toml:"read_group"`
}

// Log is the [log] table.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Audit is the [audit] table.
type Audit struct {
	Mode string `toml:"mode"`
}

// Keys is the [keys] table.
type Keys struct {
	Recipients []string `toml:"recipients"`
	Identity   string   `toml:"identity"`
	Plugins    []string `toml:"plugins"`
}

// Load reads the file name. A missing file is an empty one. See [Config.Environment] for what may be said elsewhere.
func Load(name string) (*Config, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &Config{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return Parse(name, data)
}

// Parse reads the content of a file; name is for errors.
func Parse(name string, data []byte) (*Config, error) {
	if len(data) > maxFile {
		return nil, &Error{File: name, Text: fmt.Sprintf("longer than %d bytes", maxFile)}
	}
	c := &Config{}
	if err := decode(name, data, c, fileKeys(c)); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, &Error{File: name, Text: err.Error()}
	}
	return c, nil
}

func (c *Config) check() error {
	return errors.Join(
		c.checkNetwork(),
		checkList("mesh.seeds", c.Mesh.Seeds, maxList, checkSeed),
		checkList("mesh.endpoints", c.Mesh.Endpoints, maxEndpoints, checkEndpoint),
		checkGroup(c.Control.ReadGroup),
		oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"),
		oneOf("audit.mode", c.Audit.Mode, "degraded", "strict", "open"),
		c.checkKeys(),
	)
}

func (c *Config) checkNetwork() error {
	n := &c.Network
	if n.BeaconPort < 0 || n.BeaconPort > 65535 {
		return fmt.Errorf("network.beacon_port: %d is no port", n.BeaconPort)
	}
	return errors.Join(
		checkList("network.listen", n.Listen, maxListen, func(s string) error {
			a, err := checkAddr(s)
			if err == nil && n.LoopbackOnly && !a.Addr().IsLoopback() {
				return errors.New("not on loopback, but loopback_only is set")
			}
			if first, e := netip.ParseAddrPort(n.Listen[0]); err == nil && e == nil && first.Port() != a.Port() {
				return errors.New("another port than the first address: a node has one")
			}
			return err
		}),
		checkList("network.interfaces", n.Interfaces, maxList, checkPattern),
		checkList("network.ignore_interfaces", n.IgnoreInterfaces, maxList, checkPattern),
	)
}

func (c *Config) checkKeys() error {
	k := &c.Keys
	plugins, err := keys.NewPlugins(k.Plugins, keys.PluginUI{})
	if err != nil {
		return fmt.Errorf("keys.plugins: %w", err)
	}
	if k.Identity != "" && !path.IsAbs(k.Identity) {
		return errors.New("keys.identity: not an absolute path")
	}
	if len(k.Recipients) == 0 {
		return nil
	}
	if _, err := plugins.ParseRecipients(k.Recipients...); err != nil {
		return fmt.Errorf("keys.recipients: %w", err)
	}
	return nil
}

// checkList applies a check to each element of a list, which must be bounded and without duplicates.
func checkList(key string, list []string, most int, check func(string) error) error {
	if len(list) > most {
		return fmt.Errorf("%s: %d elements, at most %d", key, len(list), most)
	}
	for i, s := range list {
		if err := check(s); err != nil {
			return fmt.Errorf("%s: %q: %w", key, clip(s), err)
		}
		if slices.Contains(list[:i], s) {
			return fmt.Errorf("%s: %q twice", key, clip(s))
		}
	}
	return nil
}

func checkAddr(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Addr().Is4In6() || a.Addr().IsMulticast() {
		return a, errors.New("not IP:PORT")
	}
	return a, nil
}

func checkEndpoint(s string) error {
	a, err := checkAddr(s)
	if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().Zone() != "" {
		return errors.New("not IP:PORT of one host")
	}
	return nil
}

// checkSeed accepts what can be dialled: the same host and port as a service's target, written whole.
func checkSeed(s string) error {
	t, err := forward.ParseTarget(s)
	if err != nil || t.Port() == 0 || t.String() != s {
		return errors.New("not host:port")
	}
	return nil
}

func checkPattern(s string) error {
	if s == "" || len(s) > maxPattern || strings.ContainsAny(s, " /\\[]") {
		return errors.New("not a pattern of interface names")
	}
	_, err := path.Match(s, "")
	return err
}

func checkGroup(s string) error {
	if len(s) > maxGroup || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ':' || r > '~' }) {
		return errors.New("control.read_group: not a group")
	}
	return nil
}

func oneOf(key, s string, allowed ...string) error {
	if s == "" || slices.Contains(allowed, s) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s", key, clip(s), strings.Join(allowed, ", "))
}

// clip bounds what is repeated of a file in an error.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// LoopbackOnly reports whether nothing beyond loopback is opened: by loopback_only, or because every address to listen on is there.
func (c *Config) LoopbackOnly() bool {
	at := addrPorts(c.Network.Listen)
	elsewhere := func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() }
	return c.Network.LoopbackOnly || len(at) > 0 && !slices.ContainsFunc(at, elsewhere)
}

// ListenAddrs returns the TCP addresses to listen on.
func (c *Config) ListenAddrs() []netip.AddrPort {
	if len(c.Network.Listen) == 0 {
		addr := netip.IPv6Unspecified()
		if c.Network.LoopbackOnly {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return []netip.AddrPort{netip.AddrPortFrom(addr, DefaultPort)}
	}
	return addrPorts(c.Network.Listen)
}

// ExtraEndpoints returns the addresses to announce besides the host's own.
func (c *Config) ExtraEndpoints() []netip.AddrPort { return addrPorts(c.Mesh.Endpoints) }

// addrPorts converts what check has accepted.
func addrPorts(list []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range list {
		if a, err := netip.ParseAddrPort(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// BeaconPort returns the UDP port of beacons.
func (c *Config) BeaconPort() uint16 {
	if c.Network.BeaconPort == 0 {
		return DefaultPort
	}
	return uint16(c.Network.BeaconPort)
}

// LogLevel returns the least level to log.
func (c *Config) LogLevel() slog.Level {
	switch c.Log.Level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// LogJSON reports whether the log is written as JSON.
func (c *Config) LogJSON() bool { return c.Log.Format == "json" }

// AuditMode says what happens when the audit log cannot be written.
type AuditMode string

// The audit modes. The default is AuditDegraded.
const (
	AuditDegraded AuditMode = "degraded" // no new streams, enrolments or grants; what runs is drained
	AuditStrict   AuditMode = "strict"   // everything stops at once
	AuditOpen     AuditMode = "open"     // all goes on, with a gap record later
)

// AuditMode returns the audit mode.
func (c *Config) AuditMode() AuditMode {
	if c.Audit.Mode == "" {
		return AuditDegraded
	}
	return AuditMode(c.Audit.Mode)
}

// ReadGroup returns the group that may read the control socket, or "" for none. With a number, id is its gid and known is true;
// else the caller must look the name up.
func (c *Config) ReadGroup() (name string, id uint32, known bool) {
	n, err := strconv.ParseUint(c.Control.ReadGroup, 10, 32)
	return c.Control.ReadGroup, uint32(n), err == nil
}
