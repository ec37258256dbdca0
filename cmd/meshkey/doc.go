// Command meshkey is the whole program: the daemon and the verbs that talk to it.
//
// One file per verb: a constructor of its cobra command, an options struct, and a run function that takes context, cli and options and
// is free of cobra. What all verbs share:
//
//	root.go     the list of verbs, global flags, help
//	cli.go      the surroundings: streams, environment, places, the daemon's client
//	exit.go     errors to words on stderr, to JSON, and to the exit code; the table of codes is in package control
//	format.go   people's forms of times, sizes, tables
//	keyopts.go  how key files open: the [keys] table, identities, plugins, the credential
//	outfile.go  files that are carried away
//	secret.go   passphrases: never from the command line
//	system.go   what init, enroll, daemon and audit verify need of the daemon's packages; wire.go connects it
//
// The verbs of root and keys begin with those words in their files' names; rootverb.go is what they share. Proposals are made and signed
// in this process, by package trust, so that they need no daemon.
//
// Data goes to stdout, words to stderr. With --json=1 stdout is one document with a schema (JSON Lines for streams), also for errors.
package main
