package policy

const (
	// maxAsked bounds the decisions asked for what an apply changes, and those for its tests: half a second of them. A policy of a
	// thousand machines that says "any" on both sides has more pairs, and is told by its grants alone.
	maxAsked = 200_000
	// opsPerEntry is how many ops go into one entry: each is at most 430 bytes, an entry 32 KB.
	opsPerEntry = 64
	// maxServices bounds the names of services that a star is looked at with.
	maxServices = 256
)
