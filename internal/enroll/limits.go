package enroll

const (
	// maxFrame bounds one record of the book: a certificate envelope of 602 bytes, MaxAllow services of at most 110 bytes each, a name,
	// tags and the fixed fields.
	maxFrame = 4096
	// MaxOpen is the most invites that are neither expired nor removed: a person pastes them one by one.
	MaxOpen = 1024
	// MaxUses bounds one invite: beyond a rack of machines, make another.
	MaxUses = 100
	// numberRoom is what "-100" takes of a name; with names in use elsewhere the number may be higher.
	numberRoom = 5
	// maxNumber is the highest number looked at for the name of a machine of several.
	maxNumber = 9999
	// MaxAllow bounds the services granted with one enrolment: more deserve a tag.
	MaxAllow = 16
	// MaxWaiting is the most requests that wait for a person: a list that is read line by line.
	MaxWaiting = 256
	// maxAsked is the most requests one invite takes besides two for each use, the denied ones included: strangers who found it must
	// not fill the list.
	maxAsked = 8
	// maxAgain is how often one node may ask anew, with other words, before it is answered; looking for the answer does not count.
	maxAgain = 32
	// requestLife is how long a request waits, and its answer can be fetched, in seconds from the first time it was asked.
	requestLife = 7 * 24 * 3600
	// maxAddress bounds the text of the address a request came from.
	maxAddress = 64
	// MaxRequestFile bounds a request file: a request of 562 bytes, a key of 1216 and their frame have 1787.
	MaxRequestFile = 2048
	// MaxResponseFile bounds an answer: four years of a mesh of 1,000 members. It travels through the local API in base64.
	MaxResponseFile = 20 << 20
	// MaxHistory is what of it the trust log may have: its frames have 20 bytes each around them, and the shortest is above 100.
	MaxHistory = 16 << 20
	// maxFrames bounds the frames of an answer: no frame is shorter than 100 bytes.
	maxFrames = MaxResponseFile / 100
	// MaxPeers bounds the peer records of an answer: enough to find the mesh with most of them gone.
	MaxPeers = 24
	// rotationLife is how long a rotation may be finished once it was asked for, in seconds: a machine that was switched off in the middle
	// is back in a week, or asks anew.
	rotationLife = 7 * 24 * 3600
	// maxRotationsDay bounds the rotations of one member in a day, asked for or done: each costs records that are never forgotten.
	maxRotationsDay = 8
	// MaxInviteLife is the longest an invite may live, in seconds; the default is an hour.
	MaxInviteLife = 30 * 24 * 3600
	// DefaultInviteLife in seconds.
	DefaultInviteLife = 3600
	// ApprovalInviteLife in seconds: a person decides about each request anyway, and may not be there in the hour.
	ApprovalInviteLife = 24 * 3600
	// DefaultCertificateLife in seconds: 90 days, renewed at two thirds.
	DefaultCertificateLife = 90 * 24 * 3600
	// RenewForever is the renew_until of an ordinary member: 1 January 2100. 0 is a guest that never renews by itself.
	RenewForever = 4102444800
	// keepAfterExpiry is how long a dead invite stays listed, in seconds, so that a person sees what became of it.
	keepAfterExpiry = 7 * 24 * 3600
)
