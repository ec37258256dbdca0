package identity

const (
	// MaxCertificate is the longest encoded certificate envelope: 16 tags, the longest name, and the fixed fields.
	MaxCertificate = 600
	// MaxBinding is the longest encoded binding envelope; all its fields are of fixed or bounded width.
	MaxBinding = 320
	// MaxCSR is the longest encoded request envelope.
	MaxCSR = 900
	// MaxInvite is the longest decoded invite: 64 issuer heads would be 5 KiB; an invite carries at most MaxInviteHeads.
	MaxInvite = 1200
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
	// MaxBindingLife is the longest a Noise static key may serve.
	MaxBindingLife = 24 * 3600
	// ClockSlack is how far a peer's clock may be behind or ahead before a window counts as not begun.
	ClockSlack = 300
	// maxSigs is the most signatures of any envelope: the threshold signatures of two successive roots.
	maxSigs = 30
)
