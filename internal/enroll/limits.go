package enroll

const (
	// maxFrame bounds one record of the book: a certificate envelope of 600 bytes and the fixed fields.
	maxFrame = 2048
	// MaxOpen is the most invites that are neither expired nor removed: a person pastes them one by one.
	MaxOpen = 1024
	// MaxInviteLife is the longest an invite may live, in seconds; the default is an hour.
	MaxInviteLife = 30 * 24 * 3600
	// DefaultInviteLife in seconds.
	DefaultInviteLife = 3600
	// DefaultCertificateLife in seconds: 90 days, renewed at two thirds.
	DefaultCertificateLife = 90 * 24 * 3600
	// RenewForever is the renew_until of an ordinary member: 1 January 2100. 0 is a guest that never renews by itself.
	RenewForever = 4102444800
	// keepAfterExpiry is how long a dead invite stays listed, in seconds, so that a person sees what became of it.
	keepAfterExpiry = 7 * 24 * 3600
)
