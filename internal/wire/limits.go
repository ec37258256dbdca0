package wire

const (
	// MaxInput is the longest input that is looked at: the longest control record carries less than 64 KiB, the longest object,
	// a root, 56 KiB.
	MaxInput = 64 << 10
	// MaxArray is the longest array any object may hold: the largest, an entry's ops, has 256.
	MaxArray = 512
	// MaxMap is the largest number of map pairs: no object has more than 32 fields.
	MaxMap = 64
	// MaxNesting is the deepest object: envelope, payload, list, op, list, value.
	MaxNesting = 8
	// MaxKind is the largest kind of a control body or an op: both are one byte in the registries.
	MaxKind = 255
)
