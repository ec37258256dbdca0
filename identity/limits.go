package identity

const (
	// MaxCertificate is the longest encoded certificate envelope: every field at its widest, tags and name at their bounds. Together
	// with a binding it fits the 1022 bytes of a handshake payload.
	MaxCertificate = 602
	// MaxBinding is the longest encoded binding envelope: every field at its widest.
	MaxBinding = 249
	// MaxCSR is the longest encoded request envelope: every field at its widest, tags and name at their bounds.
	MaxCSR = 562
	// MaxLeave is the encoded envelope of a leave, which has one size: 106 bytes of payload, one signature of 102, and their frame.
	MaxLeave = 211
	// MaxInvite is the longest decoded invite without its checksum: every list at its bound and every field at its widest.
	MaxInvite = 1033
	// MaxInviteHeads bounds the heads in an invite so that its text stays pasteable.
	MaxInviteHeads = 8
	// MaxEndpoints is the most addresses a beacon or an invite lists.
	MaxEndpoints = 8
	// MaxName is the longest node, mesh or service name: one DNS label.
	MaxName = 63
	// MaxTag is the longest tag.
	MaxTag = 32
	// MaxTags is the most tags of a certificate.
	MaxTags = 16
	// MaxTagBytes bounds all tags of a certificate together, so that a certificate fits a handshake payload.
	MaxTagBytes = 256
	// MaxTime is the latest time any object may name, the end of the year 9999: later ones have no form in JSON, and sums with them
	// could overflow.
	MaxTime = 253402300799
	// MaxBindingLife is the longest a Noise static key may serve.
	MaxBindingLife = 24 * 3600
	// ClockSlack is how far a peer's clock may be behind or ahead before a window counts as not begun.
	ClockSlack = 300
	// maxSigs is the most signatures of any envelope: the threshold signatures of two successive roots.
	maxSigs = 30
)
