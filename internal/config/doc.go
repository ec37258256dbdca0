// Package config is what the operator writes: the file meshkey.toml, the places of files, and the services.d folder that keeps what
// `expose` offers.
//
// # meshkey.toml
//
// TOML 1.0, at most 64 KiB. A missing file is an empty one; every key has a default. An unknown table or key, a value of another
// type or out of its bounds is an error that names the key, and line and column where they are known: a mistyped key must not be a
// silent default.
//
// docs/configuration.md is the list of keys, with their types, bounds and defaults; a test holds it to the list in keys.go, and that to
// the fields of [Config]. Each key has a variable of the environment, MESHKEY_NETWORK_LISTEN for network.listen, that goes before the file.
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
// # Policy files
//
// What `meshkey policy` reads, at most 256 KiB. Every error tells line and column. There are no other keys and no tables but these:
//
//	name = "main"                    the policy's name: it owns the grants it has made; optional
//	[[grant]]                        at most 2,000, lists multiplied
//	who    = "tag:dba" | [ … ]       machine, tag:NAME, any
//	what   = "*/postgres" | [ … ]    NODE/SERVICE, tag:NAME/SERVICE, SERVICE
//	reason = "…"                     one line, at most 128 bytes; optional
//	from, until = 2027-01-01T00:00:00Z   in whole seconds, with a zone; optional
//	[[test]]                         at most 1,000
//	who    = …                       as above
//	allow, deny = …                  as what, each naming its service
//	at     = 2027-01-01T00:00:00Z    optional: now
//
// # Places
//
//	            root                        user
//	config      /etc/meshkey/meshkey.toml   $XDG_CONFIG_HOME/meshkey/meshkey.toml    (~/.config)
//	state       /var/lib/meshkey            $XDG_STATE_HOME/meshkey                  (~/.local/state)
//	socket      /run/meshkey/meshkey.sock   $XDG_RUNTIME_DIR/meshkey/meshkey.sock    (else in the state directory)
//
// A state directory given by hand holds the other two as well, unless they are given too, so that several daemons live side by side
// on one machine. This package reads no environment by itself: the command line hands it over.
package config
