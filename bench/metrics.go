package main

// metric is a figure's key in files and in the code.
type metric string

const (
	bulk1    metric = "bulk_1_gbit"
	bulk4    metric = "bulk_4_gbit"
	cpu1     metric = "cpu_1_s_per_gb"
	cpu4     metric = "cpu_4_s_per_gb"
	rr50     metric = "rr_p50_us"
	rr99     metric = "rr_p99_us"
	rr50Half metric = "rr_500mbit_p50_us"
	rr99Half metric = "rr_500mbit_p99_us"
	rr50Full metric = "rr_saturated_p50_us"
	rr99Full metric = "rr_saturated_p99_us"
	bulkFull metric = "bulk_beside_rr_gbit"
	open50   metric = "open_p50_us"
	open99   metric = "open_p99_us"
	first    metric = "first_byte_ms"
	rssBulk  metric = "rss_bulk_mb"
	rssIdle  metric = "rss_idle_mb"
	cpuIdle  metric = "cpu_idle_percent"
	rssSlow  metric = "rss_slow_mb"
	cpuSlow  metric = "cpu_slow_percent"

	// Of meshkey alone.
	handshakes  metric = "handshakes_per_s"
	sessionSize metric = "session_bytes"
	binarySize  metric = "binary_mb"
)

// column is a metric as tables show it.
type column struct {
	key    metric
	title  string
	digits int
	what   string
}

// columns are the metrics that contestants are compared in, in the order of the tables.
var columns = []column{
	{bulk1, "Gbit/s, 1 stream", 2, "one connection sends as fast as it goes; the clock stops when the receiver has said how much arrived"},
	{bulk4, "Gbit/s, 4 streams", 2, "the same with four"},
	{cpu1, "CPU s/GB, 1", 2, "CPU time of the whole machine for the transfer, client, server and kernel included, by the gigabyte"},
	{cpu4, "CPU s/GB, 4", 2, "the same with four"},
	{rr50, "RR p50 µs", 0, "a byte there and a byte back, over and over, nothing beside it"},
	{rr99, "RR p99 µs", 0, "the slowest hundredth of these"},
	{rr50Half, "RR p50 µs at 500 Mbit/s", 0, "the same beside a stream that sends 500 Mbit/s"},
	{rr99Half, "RR p99 µs at 500 Mbit/s", 0, "the slowest hundredth of these"},
	{rr50Full, "RR p50 µs, saturated", 0, "the same beside a stream that sends as fast as it goes"},
	{rr99Full, "RR p99 µs, saturated", 0, "the slowest hundredth of these"},
	{bulkFull, "Gbit/s beside RR", 2, "what that stream moved meanwhile"},
	{open50, "new stream p50 µs", 0, "from before connect to the first byte back, one stream after the other"},
	{open99, "new stream p99 µs", 0, "the slowest hundredth of these"},
	{first, "start to first byte ms", 1, "from the start of the client's side, already a member and configured, to the first byte that came back"},
	{rssBulk, "RSS MB, bulk", 1, "the most memory resident in a node's processes during the transfer of one stream, the larger node"},
	{rssIdle, "RSS MB, idle", 1, "resident in a node's processes at the end of the idle time, the larger node"},
	{cpuIdle, "CPU %, idle", 3, "CPU time of a node's processes in the idle time, of one core, the busier node"},
	{rssSlow, "RSS MB, slow streams", 1, "the most resident while slow receivers, 40 kB/s each, have senders that always have more, the larger node"},
	{cpuSlow, "CPU %, slow streams", 1, "CPU time of both nodes' processes meanwhile, of one core"},
}

// relative are the metrics that every contestant is held against the no-crypto forwarder in.
var relative = []column{
	{bulk1, "bulk, 1 stream", 2, ""},
	{bulk4, "bulk, 4 streams", 2, ""},
	{cpu1, "CPU s/GB, 1", 2, ""},
	{cpu4, "CPU s/GB, 4", 2, ""},
	{rr50, "RR p50", 2, ""},
	{rr50Full, "RR p50, saturated", 2, ""},
	{open50, "new stream p50", 2, ""},
}

// promise is one target: a figure of meshkey, by itself or over another figure of the same round.
type promise struct {
	what     string
	of       string // contestant
	metric   metric
	over     string // contestant, or "" for the figure itself
	overKey  metric // of over; "" for the same metric
	atLeast  bool
	want     float64
	moonshot float64 // 0 for none
	unit     string
	digits   int
}

// targets are the promises, in the order of the report.
var targets = []promise{
	{"bulk, 1 stream, of the no-crypto forwarder", nameMeshkey, bulk1, namePlain, "", true, 0.55, 0.65, "×", 2},
	{"bulk, 4 streams, of the no-crypto forwarder", nameMeshkey, bulk4, namePlain, "", true, 0.60, 0.66, "×", 2},
	{"bulk, 1 stream, versus ssh aes128-gcm", nameMeshkey, bulk1, nameSSH, "", true, 1.05, 1.25, "×", 2},
	{"bulk, 4 streams, versus stunnel", nameMeshkey, bulk4, nameStunnel, "", true, 1.1, 1.25, "×", 2},
	{"bulk, 1 stream, versus wireguard-go", nameMeshkey, bulk1, nameWireguard, "", true, 5, 0, "×", 1},
	{"bulk, 1 stream, versus nebula", nameMeshkey, bulk1, nameNebula, "", true, 8, 0, "×", 1},
	{"bulk, 1 stream, versus libp2p", nameMeshkey, bulk1, nameLibp2p, "", true, 2.5, 0, "×", 2},
	{"CPU s/GB, 1 stream, versus the no-crypto forwarder", nameMeshkey, cpu1, namePlain, "", false, 1.8, 1.5, "×", 2},
	{"CPU s/GB, 1 stream, versus stunnel", nameMeshkey, cpu1, nameStunnel, "", false, 0.75, 0.6, "×", 2},
	{"RR p50 versus the no-crypto forwarder", nameMeshkey, rr50, namePlain, "", false, 1.2, 0, "×", 2},
	{"RR p50 versus stunnel", nameMeshkey, rr50, nameStunnel, "", false, 1.0, 0, "×", 2},
	{"RR p50 beside a saturating stream, versus its own alone", nameMeshkey, rr50Full, nameMeshkey, rr50, false, 2, 1.3, "×", 2},
	{"RR p99 beside a saturating stream", nameMeshkey, rr99Full, "", "", false, 10000, 1000, "µs", 0},
	{"new stream p50 versus the no-crypto forwarder, audit on disk", nameMeshkey, open50, namePlain, "", false, 1.0, 0, "×", 2},
	{"new stream p50 versus stunnel, audit on disk", nameMeshkey, open50, nameStunnel, "", false, 0.35, 0, "×", 2},
	{"new stream p50 versus the no-crypto forwarder, audit on tmpfs", nameTmpfs, open50, namePlain, "", false, 0.7, 0, "×", 2},
	{"new stream p50 versus stunnel, audit on tmpfs", nameTmpfs, open50, nameStunnel, "", false, 0.25, 0, "×", 2},
	{"handshakes per second and core, the slower side, ML-KEM included", nameMeshkey, handshakes, "", "", true, 2000, 2350, "/s", 0},
	{"idle daemon, resident", nameMeshkey, rssIdle, "", "", false, 15, 0, "MB", 1},
	{"idle daemon, CPU of a core", nameMeshkey, cpuIdle, "", "", false, 0.05, 0, "%", 3},
	{"idle session, memory of one end", nameMeshkey, sessionSize, "", "", false, 12 << 10, 0, "B", 0},
	{"resident per node under bulk, 1 stream", nameMeshkey, rssBulk, "", "", false, 32, 0, "MB", 1},
	{"resident per node under slow streams", nameMeshkey, rssSlow, "", "", false, 96, 0, "MB", 1},
	{"binary, stripped", nameMeshkey, binarySize, "", "", false, 11, 0, "MB", 1},
	{"start to first byte, a member already", nameMeshkey, first, "", "", false, 30, 0, "ms", 1},
}
