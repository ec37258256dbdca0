package main

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/config"
)

// unit is a systemd unit: section, key, values in order.
type unit map[string]map[string][]string

// readUnit reads the part of systemd.syntax(7) that our units use, and no more.
func readUnit(t *testing.T, name string) unit {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for i, line := range strings.Split(string(b), "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			var ok bool
			if section, ok = strings.CutSuffix(line[1:], "]"); !ok || u[section] != nil || !slices.Contains([]string{"Unit", "Service", "Install"}, section) {
				t.Fatalf("%s:%d: %q", name, i+1, line)
			}
			u[section] = map[string][]string{}
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" || key == "" || strings.ContainsAny(key, " \t") || strings.TrimSpace(value) != value || strings.HasSuffix(value, "\\") {
				t.Fatalf("%s:%d: %q", name, i+1, line)
			}
			if u[section][key] != nil && key != "Environment" {
				t.Errorf("%s:%d: %s twice", name, i+1, key)
			}
			u[section][key] = append(u[section][key], value)
		}
	}
	return u
}

func (u unit) get(key string) string { return strings.Join(u["Service"][key], " ") }

// TestUnits holds the systemd units of docs to the program: what they run, where its files are, and that it has no right it does not need.
func TestUnits(t *testing.T) {
	both := map[string]string{
		"Type": "notify", "NoNewPrivileges": "yes", "MemoryDenyWriteExecute": "yes", "LockPersonality": "yes", "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes",
		"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK", "SystemCallFilter": "@system-service", "SystemCallArchitectures": "native",
		"UMask": "0077", "RuntimeDirectory": "meshkey", "Restart": "on-failure",
	}
	system := map[string]string{
		"User": "meshkey", "CapabilityBoundingSet": "", "AmbientCapabilities": "", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
		"PrivateDevices": "yes", "ProtectProc": "invisible", "StateDirectory": "meshkey", "StateDirectoryMode": "0700", "ConfigurationDirectory": "meshkey",
		"RestrictNamespaces": "yes", "ImportCredential": "meshkey.*",
	}
	for file, want := range map[string][]map[string]string{"meshkey.service": {both, system}, "meshkey-user.service": {both}} {
		u := readUnit(t, filepath.Join("../../docs", file))
		for _, m := range want {
			for key, value := range m {
				if _, ok := u["Service"][key]; !ok || u.get(key) != value {
					t.Errorf("%s: %s=%s, want %s", file, key, u.get(key), value)
				}
			}
		}
		// An own user namespace hides which user a local connection comes from.
		if _, ok := u["Service"]["PrivateUsers"]; ok {
			t.Errorf("%s: PrivateUsers", file)
		}
		args := strings.Fields(u.get("ExecStart"))
		root := newRoot(newWorld(t, "").cli)
		cmd, rest, err := root.Find(args[1:])
		if err != nil || cmd.Name() != "daemon" || len(rest) > 0 || path.Base(args[0]) != "meshkey" || !path.IsAbs(args[0]) {
			t.Errorf("%s runs %q: %v", file, args, err)
		}
		for _, code := range strings.Fields(u.get("RestartPreventExitStatus")) {
			if !strings.Contains(" 2 4 5 6 ", " "+code+" ") {
				t.Errorf("%s: does not start again after %s", file, code)
			}
		}
	}
	// Root's verbs and the daemon, which is another user, look in the same places.
	places, err := config.Find(config.Surroundings{Root: true}, config.Paths{})
	if err != nil {
		t.Fatal(err)
	}
	env := readUnit(t, "../../docs/meshkey.service").get("Environment")
	if want := "MESHKEY_STATE=" + places.State + " MESHKEY_CONFIG=" + places.Config + " MESHKEY_SOCKET=" + places.Socket; env != want {
		t.Errorf("the unit sets %q, root looks at %q", env, want)
	}
	for _, c := range []string{identityCredential, credential} {
		if ok, err := path.Match("meshkey.*", c); !ok || err != nil {
			t.Errorf("the credential %s is not imported", c)
		}
	}
}

// Where systemd is installed it reads the units as well, with a program that exists in place of ours.
func TestUnitsAsSystemdReadsThem(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd here: the units were read by TestUnits alone")
		return
	}
	dir := t.TempDir()
	for file, mode := range map[string]string{"meshkey.service": "--system", "meshkey-user.service": "--user"} {
		b, err := os.ReadFile(filepath.Join("../../docs", file))
		if err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, file)
		if err := os.WriteFile(at, []byte(strings.ReplaceAll(string(b), "ExecStart=/usr/local/bin/meshkey", "ExecStart="+self)), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), analyze, mode, "verify", "--man=no", at)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
		out, err := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			// A key that this systemd is too old for is passed over by it, too.
			if strings.Contains(line, at) && !strings.Contains(line, "Unknown key 'ImportCredential'") {
				t.Errorf("%s", line)
			}
		}
		if err != nil && strings.Contains(string(out), at+":") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		t.Logf("%s: %v %s", file, err, out)
	}
}
