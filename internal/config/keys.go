package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// key is one key of a file: where its value is kept, which tells its type, and what one looks like.
type key struct {
	path    string // "network.listen"
	example string
	value   any // *string, *bool, *int64 or *[]string
}

// fileKeys are the keys of meshkey.toml, in the order of its tables.
func fileKeys(c *Config) []key {
	return []key{
		{"network.listen", `["192.168.1.5:7477"]`, &c.Network.Listen},
		{"network.beacon_port", `7477`, &c.Network.BeaconPort},
		{"network.loopback_only", `true`, &c.Network.LoopbackOnly},
		{"network.interfaces", `["wg0"]`, &c.Network.Interfaces},
		{"network.ignore_interfaces", `["docker*", "wwan*"]`, &c.Network.IgnoreInterfaces},
		{"mesh.seeds", `["nas.example.net:7477"]`, &c.Mesh.Seeds},
		{"mesh.endpoints", `["203.0.113.9:7477"]`, &c.Mesh.Endpoints},
		{"control.read_group", `"adm"`, &c.Control.ReadGroup},
		{"log.level", `"debug"`, &c.Log.Level},
		{"log.format", `"json"`, &c.Log.Format},
		{"audit.mode", `"strict"`, &c.Audit.Mode},
		{"keys.recipients", `["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]`, &c.Keys.Recipients},
		{"keys.identity", `"/etc/meshkey/id.txt"`, &c.Keys.Identity},
		{"keys.plugins", `["yubikey"]`, &c.Keys.Plugins},
	}
}

// serviceKeys are the keys of a file of services.d.
func serviceKeys(f *serviceFile) []key {
	return []key{
		{"version", `1`, &f.Version},
		{"target", `"127.0.0.1:11434"`, &f.Target},
		{"http", `true`, &f.HTTP},
		{"allow", `["tag:laptop"]`, &f.Allow},
	}
}

// wants is the key's type for people.
func (k key) wants() string {
	switch k.value.(type) {
	case *bool:
		return "true or false"
	case *int64:
		return "a whole number"
	case *[]string:
		return "a list of strings"
	}
	return "a string"
}

// is reports whether a value of TOML has the key's type.
func (k key) is(v any) bool {
	var ok bool
	switch k.value.(type) {
	case *bool:
		_, ok = v.(bool)
	case *int64:
		_, ok = v.(int64)
	case *[]string:
		var list []any
		list, ok = v.([]any)
		for _, e := range list {
			if _, text := e.(string); !text {
				return false
			}
		}
	default:
		_, ok = v.(string)
	}
	return ok
}

// wrongIn says what is wrong with the type of the key's value in a document, or of the tables around it.
func (k key) wrongIn(doc map[string]any) string {
	var at any = doc
	parts := strings.Split(k.path, ".")
	for i, part := range parts {
		table, ok := at.(map[string]any)
		if !ok {
			name := strings.Join(parts[:i], ".")
			return fmt.Sprintf("%s must be a table: [%s] on a line of its own, and its keys below", name, name)
		}
		if at, ok = table[part]; !ok {
			return ""
		}
	}
	if k.is(at) {
		return ""
	}
	return fmt.Sprintf("%s must be %s, e.g. %s", k.path, k.wants(), k.example)
}

// env is the environment variable that says the same: MESHKEY_NETWORK_LISTEN for network.listen.
func (k key) env() string {
	return "MESHKEY_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// set takes the key's value from its variable: a string as it is, a list with commas between.
func (k key) set(s string) error {
	switch to := k.value.(type) {
	case *string:
		*to = s
	case *bool:
		if s != "true" && s != "false" {
			return errors.New("must be true or false")
		}
		*to = s == "true"
	case *int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return errors.New("must be a whole number")
		}
		*to = n
	case *[]string:
		*to = nil
		for e := range strings.SplitSeq(s, ",") {
			*to = append(*to, strings.TrimSpace(e))
		}
	}
	return nil
}

// Environment takes the keys whose variables are set in place of what the file says. A variable that is empty is not set.
func (c *Config) Environment(getenv func(string) string) error {
	found := false
	for _, k := range fileKeys(c) {
		s := getenv(k.env())
		if s == "" {
			continue
		}
		if len(s) > maxFile {
			return &Error{File: k.env(), Text: fmt.Sprintf("longer than %d bytes", maxFile)}
		}
		if err := k.set(s); err != nil {
			return &Error{File: k.env(), Text: err.Error()}
		}
		found = true
	}
	if !found {
		return nil
	}
	if err := c.check(); err != nil {
		return &Error{File: "environment", Text: err.Error()}
	}
	return nil
}
