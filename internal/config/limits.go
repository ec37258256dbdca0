package config

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
	// maxPath bounds a path given by hand.
	maxPath = 4096
)
