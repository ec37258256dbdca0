package meshkey_test

// layer is one row of the import table.
type layer struct {
	level int
	// imports are the packages of this module that the package's code may import; all of a lower level, or named in sideways.
	// lower stands for every package of a lower level.
	imports []string
	why     string
}

// lower allows every package of a lower level.
var lower = []string{"…"}

// layers is the import table of the module. A package that is not here does not build the tree: add it with its reason.
var layers = map[string]layer{
	".": {0, nil, "the map has no code"},

	"internal/wire":               {0, nil, "everything signed depends on these bytes alone"},
	"internal/durable":            {0, nil, "recovery is argued without knowing what is stored"},
	"internal/harden":             {0, nil, "called before anything else exists"},
	"internal/forward":            {0, nil, "it copies bytes between connections and decides nothing"},
	"internal/forward/streamtest": {0, []string{"internal/forward"}, "the contract test that every stream runs"},
	"internal/netmon":             {0, nil, "it says what the host has, not what the mesh wants"},
	"internal/netns":              {0, nil, "a test's network is no part of the product"},
	"internal/testrun":            {0, nil, "how much a test runs is no matter of the product"},

	"keys": {1, []string{"internal/durable", "internal/wire"}, "labels and derivations must be reviewable on their own"},

	"identity": {2, []string{"internal/wire", "keys"}, "signed statements do no I/O"},
	"session":  {2, []string{"internal/wire", "keys"}, "it is handed traffic keys: who the peer is and what it may do is decided elsewhere"},

	"handshake": {3, []string{"identity", "internal/wire", "keys", "session"}, "it proves a key and asks a Verify func whether that is welcome: no trust, no files"},
	"beacon":    {3, []string{"identity", "internal/netmon", "internal/wire", "keys"}, "an announcement is a hint: it cannot reach sessions or trust"},
	"trust":     {3, []string{"identity", "internal/durable", "internal/wire", "keys"}, "decided from signed bytes alone, never from transport"},
	"audit":     {3, []string{"internal/durable", "internal/wire", "keys"}, "it records decisions and must not be able to take them"},

	"internal/config": {3, lower, "the operator's file is another type than what packages take"},

	"internal/enroll":   {4, []string{"identity", "internal/durable", "internal/wire", "keys", "trust", "session", "handshake", "audit"}, "one transaction, testable without a daemon"},
	"internal/policy":   {4, lower, "composes"},
	"internal/route":    {4, lower, "composes"},
	"internal/gateway":  {4, lower, "composes"},
	"internal/diagnose": {4, lower, "composes"},
	"mesh/core":         {4, []string{"beacon", "identity", "internal/wire", "keys", "session", "trust"}, "a pure state machine: the same events give the same effects"},
	"mesh":              {4, lower, "composes the packages below and implements no protocol"},
	"control":           {4, []string{"identity", "keys", "internal/forward"}, "types and a Backend interface: the daemon implements it, control does not know the mesh"},

	"control/controltest": {4, []string{"control", "identity", "internal/forward", "keys"}, "a backend that lives in memory, for the tests of control and of the command"},

	"internal/daemon": {5, lower, "the one place where everything meets"},
	"internal/demo":   {5, []string{"control"}, "it drives real daemons as a user does, through control and the command"},
	"internal/sim":    {5, lower, "runs whole nodes"},
	"console":         {5, []string{"control", "identity", "keys"}, "a client of control like any other"},
	"e2e":             {5, lower, "runs the real binary"},

	"cmd/meshkey": {6, lower, "the one command"},
	"bench":       {6, lower, "measures the real binary beside others, and takes the figures that take long"},

	"bench/internal/stats":   {0, nil, "medians and ratios know nothing of what is measured"},
	"bench/internal/plain":   {0, nil, "the limit that meshkey is held against shares no code with it"},
	"bench/internal/members": {5, lower, "a crowd for one daemon to hold: it speaks the protocol as the packages below do"},
	"bench/internal/load":    {1, []string{"bench/internal/stats"}, "the ends of a measurement know nothing of what is between them"},
}

// sideways are the imports within one level that are not a cycle waiting to happen, each with its reason.
var sideways = map[[2]string]string{
	{"internal/forward/streamtest", "internal/forward"}: "a package's contract test belongs beside it",
	{"control/controltest", "control"}:                  "a package's fake belongs beside it",
	{"mesh", "mesh/core"}:                               "the shell around the core",
	{"mesh", "internal/enroll"}:                         "a node answers enrolments on its listener",
}

// bans are imports from outside the module that a package must not have although others may, each with its reason. A pattern
// ending in "/" means everything below.
var bans = []struct {
	pkgs    []string
	pattern string
	why     string
}{
	{[]string{"mesh", "mesh/core", "control", "internal/forward", "internal/netmon", "console"}, "crypto/", "composes packages that implement protocols, and implements none"},
	{[]string{"internal/wire", "identity", "trust", "mesh/core"}, "os", "pure: no file, no environment"},
	{[]string{"internal/wire", "identity", "trust", "mesh/core", "keys", "audit", "internal/durable"}, "net", "pure: no socket"},
	{[]string{"keys", "identity", "trust", "audit", "handshake", "session", "beacon"}, "net/http", "no protocol package speaks HTTP"},
	{[]string{"keys", "identity", "session", "trust", "audit"}, "math/rand/v2", "no jitter here: every random value of these is from crypto/rand"},
	{[]string{"mesh/core"}, "time/", "the clock is a parameter"},
	{[]string{"mesh/core"}, "crypto/rand", "randomness is a seed"},
	{[]string{"keys", "identity", "handshake", "session", "trust", "audit", "beacon", "mesh", "mesh/core", "control"}, "os/exec", "only the command and the tests start programs"},
}

// everywhere are packages that few may import, with who and why.
var everywhere = []struct {
	pattern string
	only    []string
	why     string
}{
	{"html/template", nil, "2.4 MB of binary: the console serves static modules over the JSON API"},
	{"text/template", nil, "2.4 MB of binary"},
	{"C", nil, "the binary is built without cgo"},
	{"expvar", nil, "registers itself on a global server"},
	{"net/http/pprof", nil, "registers itself on a global server"},
	{"math/rand", nil, "math/rand/v2 for jitter, crypto/rand for everything else"},
	{"log", nil, "log/slog, through a logger that is handed down"},
	{"unsafe", []string{"control", "internal/netns", "internal/netmon", "internal/forward", "internal/durable"}, "socket options and control messages of the kernel"},
	{"testing", []string{"internal/netns", "internal/testrun", "internal/forward/streamtest", "control/controltest", "e2e"}, "test helpers that are packages"},
	{"internal/netns", []string{"e2e", "bench"}, "a test's network is no part of the product"},
	{"internal/testrun", nil, "only tests"},
	{"internal/forward/streamtest", nil, "only tests"},
	{"control/controltest", nil, "only tests"},
	{"flag", []string{"bench", "internal/testrun"}, "the command's options are cobra's; the benchmark does without"},
}

// longFiles are the files above the cap of 400 lines, each with the reason why it is one file. Nothing may pass 600.
var longFiles = map[string]string{}
