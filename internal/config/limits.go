package config

// DefaultPolicy is the name of a policy that does not say its name.
const DefaultPolicy = "main"

const (
	// maxFile bounds meshkey.toml: a hand-written file of 64 seeds has 3 KB.
	maxFile = 64 << 10
	// maxServiceFile bounds one file of services.d.
	maxServiceFile = 8 << 10
	// MaxServices bounds what one node offers: SERVICES records list them all to each peer.
	MaxServices = 256
	// maxServiceFiles bounds what is looked at in services.d, leftovers and the operator's own files included.
	maxServiceFiles = 1024
	// maxList bounds each list of the file: seeds and interface patterns.
	maxList = 64
	// maxListen bounds the listening sockets: one per address of a large host.
	maxListen = 16
	// maxEndpoints is the number of endpoints a beacon can carry.
	maxEndpoints = 8
	// maxPattern bounds an interface pattern: Linux names have 15 characters, FreeBSD's as many.
	maxPattern = 32
	// maxGroup bounds a group's name, as useradd does.
	maxGroup = 32
	// maxAllow bounds the subjects of one service.
	maxAllow = 64
	// maxSubject bounds one of them: a node id in its longest text form.
	maxSubject = 256
	// MaxPolicyFile bounds a policy file: a thousand grants, each with a reason, in a table of its own.
	MaxPolicyFile = 256 << 10
	// MaxPolicyGrants bounds what a policy grants, its lists multiplied: an apply writes them all at once, in a few dozen entries.
	MaxPolicyGrants = 2000
	// maxPolicyTests and maxPolicyList bound the tests of a policy and each of its lists.
	maxPolicyTests = 1000
	maxPolicyList  = 256
	// MaxPolicyReason leaves room for the mark of the policy in a grant's note of 200 bytes: "policy:", a name of 63, a space.
	MaxPolicyReason = 128
	// maxPath bounds a path given by hand.
	maxPath = 4096
)
