// Package control is the local API of a running daemon: HTTP/1.1 and JSON over a unix socket, its server and its client. The
// command line and the console are clients of it and have no other way in.
//
// # Vocabulary
//
//	owner     the uid the daemon runs as; only the owner and root change things
//	caller    the process at the other end of a socket connection, as the kernel reported it at its connect
//	document  a JSON object with a schema, "meshkey.NAME/VERSION"
//	backend   the daemon, seen through the small interfaces of backend.go
//
// # Transport
//
// The socket is a file of mode 0600 that belongs to the owner. If reading is opened to a group it is 0660 with that group. Beside
// it lies NAME.lock, held by flock for as long as the daemon serves. An old socket is removed only with the lock held and only if
// connecting to it is refused; a file that is no socket is never removed.
//
// The mode is the first line; the second is the check of the caller's uid and gids on every request, by SO_PEERCRED and
// SO_PEERGROUPS (Linux) or LOCAL_PEERCRED (darwin, freebsd). A connection whose caller cannot be known is refused everything.
//
//	caller                          GET but invites      invites, POST
//	owner, root                     yes                  yes
//	in the reading group            yes                  no
//	everybody else                  no                   no
//
// # Requests
//
// GET takes its arguments from the query, POST a JSON object of at most 96 KiB, or what is said below, with Content-Type application/json. Unknown query
// keys and unknown fields are refused: an old daemon must not run a command without the field that made it harmless. Bodies
// must be complete 5 s after the header, headers 5 s after the connect.
//
//	GET  /v1/status /v1/peers /v1/services /v1/version
//	GET  /v1/grants?who&what   /v1/decision?from&target&at   /v1/ready?wait_ms   /v1/invites
//	GET  /v1/root /v1/root/chain
//	GET  /v1/metrics           as JSON;   /metrics   the same in the Prometheus text format 0.0.4
//	GET  /debug/pprof/NAME     the owner's alone: profile, trace (?seconds=1..60), heap, allocs, goroutine, threadcreate
//	GET  /v1/audit/log?from&limit&last&since&until&code&actor&target&verdict&log   /v1/audit/entry?index   /v1/audit/verify
//	POST /v1/policy            a policy file of at most 256 KiB
//	POST /v1/expose /v1/unexpose /v1/grant /v1/ungrant /v1/revoke /v1/rotate/node /v1/leave /v1/repin /v1/invite /v1/invite/remove /v1/shutdown
//	POST /v1/root/accept /v1/root/cut /v1/keys/issuer
//	POST /v1/connect           the answer is a stream of events; a listener lives as long as the connection
//	POST /v1/stream            Upgrade: meshkey-stream/1; then the connection is the stream
//
// # Answers
//
// A document, with status 200, or "meshkey.error/1" with the status of its code's class. Codes are the exit codes of the command
// line; errors.go has the one table of them. A message says what happened, in one sentence; "next" what to do. Nothing a remote
// peer wrote is in a message but names, which the identity package bounds to harmless characters.
//
// Versioning: within a version of a schema fields are only added, and readers ignore fields they do not know. Anything else is a
// new version, and the client says that client and daemon differ.
//
// /v1/connect answers with application/jsonl: one "meshkey.connect/1" per line, the first with the address listened on. The
// listener accepts only on loopback, and only connections of the owner's uid (see package forward) unless the request widens
// that. Without an address in the request the service gets one of its own: 127.77.x.y on Linux, where x.y = 1 + FNV-1a-32(node id
// "/" service) mod 65,534, or the next free one; elsewhere 127.0.0.1. The port is the service's own if it is known and the system
// allows it, else 10,000 + port, else one of 10,000–29,999 by the same hash: always the same, and said aloud if it is not the first
// choice.
//
// /v1/stream answers errors before the upgrade, in HTTP. After it, both directions carry frames:
//
//	frame = len u32 big-endian (0 to 65,536) || len bytes         len 0 ends its direction, nothing follows it
//
// The end of the socket without that frame is an abort, as RST is on TCP. So a killed daemon is not the end of a file.
//
// # Properties and non-properties
//
// Bounded: connections, refusals of further ones and verifications of the audit log (the owner's apart from all others'), header,
// body, time per request, held connections, answers on the client's side. A panic in a request is that request's error. What a
// backend does is not bounded here but in its time.
//
// Not protected: root and the owner's own processes, which may do all of it. A member of the reading group sees names, addresses
// and the audit log.
package control
