// Package config is what the operator writes: the file meshkey.toml, the places of files, and the services.d folder that keeps what
// `expose` offers.
//
// # meshkey.toml
//
// TOML 1.0, at most 64 KiB. A missing file is an empty one; every key has a default. An unknown table or key, a value of another
// type or out of its bounds is an error that names the key, and line and column where they are known: a mistyped key must not be a
// silent default.
//
//	[network]
//	listen            = ["[::]:7477"]   TCP, IP literals with port; more than one only on different addresses
//	beacon_port       = 7477            UDP, shared by all daemons of a segment
//	loopback_only     = false           open nothing beyond loopback; listen then defaults to 127.0.0.1:7477
//	ignore_interfaces = […]             patterns (*, ?) of interfaces not to use; by default those of containers and tunnels
//	interfaces        = []              patterns of interfaces to use all the same; with ignore_interfaces = ["*"]: only these
//	[mesh]
//	seeds             = []              "host:port" of members across routers
//	endpoints         = []              "IP:port" announced besides our own addresses, such as a forwarded port
//	[control]
//	read_group        = ""              group, by name or number, whose members may read the control socket
//	[log]
//	level             = "info"          debug, info, warn, error
//	format            = "text"          text, json
//	[audit]
//	mode              = "degraded"      if the audit log cannot be written: degraded, strict, open
//	[keys]
//	recipients        = []              "age1…", "age1pq…" or of a plugin: who this machine's own keys are sealed to
//	identity          = ""              absolute path of an age identity file that opens them, besides the one in the state directory
//	plugins           = []              names of age plugins that may be run, "yubikey" for age-plugin-yubikey
//
// # services.d/NAME.toml, in the state directory
//
// Written by `expose`, removed by `unexpose`, readable and editable by the operator. One file per service, at most 8 KiB. Strict as
// above. NAME is the service's name.
//
//	version = 1
//	target  = "127.0.0.1:11434"    HOST:PORT, [IPV6]:PORT or unix:/PATH
//	http    = true                 may be absent
//	allow   = ["tag:laptop"]       what was asked for when it was exposed, for the record: grants decide, not this
//
// One bad file does not keep the other services down: loading returns what is good and says what is not.
//
// # Places
//
//	            root                        user
//	config      /etc/meshkey/meshkey.toml   $XDG_CONFIG_HOME/meshkey/meshkey.toml    (~/.config)
//	state       /var/lib/meshkey            $XDG_STATE_HOME/meshkey                  (~/.local/state)
//	socket      /run/meshkey/meshkey.sock   $XDG_RUNTIME_DIR/meshkey/meshkey.sock    (else in the state directory)
//
// A state directory given by hand holds the other two as well, unless they are given too, so that several daemons live side by side
// on one machine. This package reads no environment: the command line hands it over.
package config
