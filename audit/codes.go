package audit

import "strings"

// Code says what happened, as noun.verb. Only the codes of this file are written; any well-formed code is read, so that an
// older program shows a newer log.
type Code string

// The registry. A code is never renamed and never gets another meaning: logs outlive programs.
const (
	DaemonStart     Code = "daemon.start"     // target: version; before: "unclean" if the last run did not stop in order
	DaemonStop      Code = "daemon.stop"      // duration: uptime
	NodeInit        Code = "node.init"        // the node's key was made
	MeshCreate      Code = "mesh.create"      // target: mesh id
	NodeEnroll      Code = "node.enroll"      // target: node; before, after: certificate serials, names, tags
	NodeRevoke      Code = "node.revoke"      // target: node
	NodeAdmit       Code = "node.admit"       // a candidate became a member of this node's peer table
	NodeRefuse      Code = "node.refuse"      // actor: node; reason: why it is not admitted
	NodeRotate      Code = "node.rotate"      // target: the new node id; at an issuer actor: the old one
	NodeLeave       Code = "node.leave"       // this node left; at an issuer actor: the node that asked to be revoked
	IssuerInit      Code = "issuer.init"      // target: the issuer's name; after: its new public key, which the root has to name
	CertRenew       Code = "cert.renew"       // target: node; before, after: not_after
	SessionOpen     Code = "session.open"     // actor: peer
	SessionClose    Code = "session.close"    // actor: peer; reason: close code; bytes, duration
	SessionRefuse   Code = "session.refuse"   // actor: peer or address
	StreamOpen      Code = "stream.open"      // actor: caller; target: service; grant: what allowed it
	StreamDeny      Code = "stream.deny"      // actor: caller; target: service; reason: no grant, window over, …
	StreamClose     Code = "stream.close"     // bytes, duration
	PeerPrune       Code = "peer.prune"       // target: node; duration: silence
	InterfaceMute   Code = "interface.mute"   // target: interface
	InterfaceUnmute Code = "interface.unmute" // target: interface
	GrantAdd        Code = "grant.add"        // grant: its id; target: what; after: who
	GrantRemove     Code = "grant.remove"     // grant: its id
	ServiceExpose   Code = "service.expose"   // target: service; after: local address
	ServiceUnexpose Code = "service.unexpose" // target: service
	RouteEscalate   Code = "route.escalate"   // a request left the mesh: target: tier; bytes; reason
	InviteCreate    Code = "invite.create"    // target: name; session: invite id
	InviteRemove    Code = "invite.remove"    // session: invite id
	InviteSpend     Code = "invite.spend"     // actor: new node; session: invite id
	InviteRefuse    Code = "invite.refuse"    // actor: address; target: node; reason: used, expired, unknown; session: invite id
	InviteDecline   Code = "invite.decline"   // actor: address; target: node; session: invite id; the person there said no
	RequestAdd      Code = "request.add"      // a machine waits for approval: actor: node; target: name wished; before: address; after: words
	RequestApprove  Code = "request.approve"  // target: node; after: serial, name, words; session: invite id, or "file"
	RequestDeny     Code = "request.deny"     // target: node; reason; session: invite id
	GroupRotate     Code = "group.rotate"     // before, after: generations
	RootAccept      Code = "root.accept"      // before, after: root versions and hashes
	EntryApply      Code = "entry.apply"      // actor: issuer; target: seq; after: hash
	EntryReject     Code = "entry.reject"     // actor: peer; reason
	EvidenceAdd     Code = "evidence.add"     // actor: issuer; before, after: the two hashes
	ClockSkew       Code = "clock.skew"       // duration: offset
	ClockReset      Code = "clock.reset"      // the operator set the time floor back; before, after: the floor
	NameConflict    Code = "name.conflict"    // target: name; before, after: the node ids
	NamePin         Code = "name.pin"         // a name means another key here from now on; target: the new node; before: the old one; after: the name
	CloneSuspect    Code = "clone.suspect"    // target: node
	RekeyFail       Code = "rekey.fail"       // actor: peer; reason
	PanicRecover    Code = "panic.recover"    // one connection was closed by a recovered panic
	AuditOpen       Code = "audit.open"       // first entry of every log; before: the checkpoint of the log it follows
	AuditGap        Code = "audit.gap"        // count: events lost; duration: how long; before: entries not acknowledged
	AuditRecover    Code = "audit.recover"    // the log was not closed in order or was repaired; count: entries after the last checkpoint
)

// Codes lists the registry.
func Codes() []Code {
	return []Code{
		DaemonStart, DaemonStop, NodeInit, MeshCreate, NodeEnroll, NodeRevoke, NodeAdmit, NodeRefuse, NodeRotate, NodeLeave, IssuerInit, CertRenew,
		SessionOpen, SessionClose, SessionRefuse, StreamOpen, StreamDeny, StreamClose, PeerPrune, InterfaceMute,
		InterfaceUnmute, GrantAdd, GrantRemove, ServiceExpose, ServiceUnexpose, RouteEscalate, InviteCreate, InviteRemove,
		InviteSpend, InviteRefuse, InviteDecline, RequestAdd, RequestApprove, RequestDeny, GroupRotate, RootAccept, EntryApply, EntryReject, EvidenceAdd, ClockSkew, ClockReset, NameConflict, NamePin,
		CloneSuspect, RekeyFail, PanicRecover, AuditOpen, AuditGap, AuditRecover,
	}
}

// Registered reports whether c may be written.
func (c Code) Registered() bool {
	switch c {
	case DaemonStart, DaemonStop, NodeInit, MeshCreate, NodeEnroll, NodeRevoke, NodeAdmit, NodeRefuse, NodeRotate, NodeLeave, IssuerInit, CertRenew,
		SessionOpen, SessionClose, SessionRefuse, StreamOpen, StreamDeny, StreamClose, PeerPrune, InterfaceMute,
		InterfaceUnmute, GrantAdd, GrantRemove, ServiceExpose, ServiceUnexpose, RouteEscalate, InviteCreate, InviteRemove,
		InviteSpend, InviteRefuse, InviteDecline, RequestAdd, RequestApprove, RequestDeny, GroupRotate, RootAccept, EntryApply, EntryReject, EvidenceAdd, ClockSkew, ClockReset, NameConflict, NamePin,
		CloneSuspect, RekeyFail, PanicRecover, AuditOpen, AuditGap, AuditRecover:
		return true
	}
	return false
}

// wellFormed reports whether c is noun.verb in lower-case ASCII letters.
func (c Code) wellFormed() bool {
	noun, verb, ok := strings.Cut(string(c), ".")
	return ok && len(c) <= maxCode && isWord(noun) && isWord(verb)
}

func isWord(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return s != ""
}

// Verdict is what was decided. The zero value means that nothing was.
type Verdict uint8

// The verdicts, as field 6 of a leaf.
const (
	None    Verdict = 0
	Allowed Verdict = 1
	Denied  Verdict = 2
	Failed  Verdict = 3
)

// String returns the word for the filter verdict=… and for people.
func (v Verdict) String() string {
	switch v {
	case None:
		return ""
	case Allowed:
		return "allowed"
	case Denied:
		return "denied"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// ParseVerdict reads the word of a verdict.
func ParseVerdict(s string) (Verdict, bool) {
	for v := None; v <= Failed; v++ {
		if v.String() == s {
			return v, true
		}
	}
	return None, false
}
