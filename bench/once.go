package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

// last takes the slow streams, after which nodes are not as they were.
func (r *rig) last(ctx context.Context, o *options, all []contestant, values map[string]map[metric]float64, fail func(string, contestant, error)) {
	for _, c := range all {
		if _, isRaw := c.(*raw); isRaw || c.name() == nameTmpfs || o.quick && !ours(c) {
			continue
		}
		r.say("%d slow streams: %s", o.t.Streams, c.name())
		if err := r.guarded(func() error { return r.slow(ctx, o, c, values[c.name()]) }); err != nil {
			fail("slow streams", c, err)
		}
	}
}

// packages takes the figures of benchmarks, and returns what failed.
func (r *rig) packages(ctx context.Context, o *options, v map[metric]float64) (failures []string) {
	for _, f := range packageFigures {
		if o.quick && f.long {
			continue
		}
		r.say("%s: %s", f.program, f.key)
		n, err := f.take(ctx, r)
		if err != nil {
			failures = append(failures, err.Error())
			r.say("%v", err)
			continue
		}
		v[f.key] = n
	}
	return failures
}

// ours says whether a contestant is of this tree.
func ours(c contestant) bool { return c.name() == nameMeshkey || c.name() == namePlain }

// slowBuffers are the kernel's buffers of a connection while streams are slow: least, at first, most. With megabytes for each the
// measurement would be of how fast they fill.
const slowBuffers = "4096 65536 65536"

// slow holds slow streams and takes the memory and time of the nodes.
func (r *rig) slow(ctx context.Context, o *options, c contestant, v map[metric]float64) error {
	for _, h := range []*netns.Host{r.client, r.server} {
		for _, key := range []string{"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"} {
			before := strings.TrimSpace(h.Run("sysctl", "-n", key))
			h.Sysctl(key, slowBuffers)
			defer h.Sysctl(key, before)
		}
	}
	return r.connected(ctx, o, c, func(addr string, _ time.Duration) error {
		var peak func() float64
		var before time.Duration
		client, server := c.processes()
		both := append(append([]*process(nil), client...), server...)
		var began time.Time
		_, err := r.ask(ctx, request{Do: doSlow, Addr: addr, Streams: o.t.Streams, For: o.t.Slow}, func() (err error) {
			peak, began = r.watch(c), time.Now()
			before, err = used(both)
			return err
		})
		if peak == nil {
			return err
		}
		most, took := peak(), time.Since(began)
		if err != nil {
			return err
		}
		after, err := used(both)
		if err != nil {
			return err
		}
		v[rssSlow], v[cpuSlow] = most, 100*(after-before).Seconds()/took.Seconds()
		return nil
	})
}

// idle starts every contestant's client, lets all be alone with themselves, and looks what each has used.
func (r *rig) idle(ctx context.Context, o *options, all []contestant, values map[string]map[metric]float64, fail func(string, contestant, error)) {
	var up []contestant
	defer func() {
		for _, c := range up {
			c.disconnect()
		}
	}()
	for _, c := range all {
		if _, isRaw := c.(*raw); isRaw {
			continue
		}
		err := r.guarded(func() error {
			up = append(up, c)
			_, err := r.start(ctx, c)
			return err
		})
		if err != nil {
			fail("idle", c, err)
		}
	}
	r.say("idle for %v", o.t.Idle)
	// What a start leaves behind is not idleness.
	pause(ctx, min(o.t.Idle, 5*time.Second))
	type sides [2]time.Duration
	look := func(c contestant) (s sides, err error) {
		client, server := c.processes()
		if s[0], err = used(client); err == nil {
			s[1], err = used(server)
		}
		return s, err
	}
	before := make(map[string]sides)
	began := time.Now()
	for _, c := range up {
		s, err := look(c)
		if err != nil {
			fail("idle", c, err)
		}
		before[c.name()] = s
	}
	pause(ctx, o.t.Idle)
	took := time.Since(began)
	for _, c := range up {
		after, err := look(c)
		if err != nil {
			fail("idle", c, err)
			continue
		}
		b := before[c.name()]
		client, server := c.processes()
		var most uint64
		for _, side := range [][]*process{client, server} {
			n, err := resident(side)
			if err != nil {
				fail("idle", c, err)
			}
			most = max(most, n)
		}
		v := values[c.name()]
		v[cpuIdle] = 100 * max(after[0]-b[0], after[1]-b[1]).Seconds() / took.Seconds()
		v[rssIdle] = float64(most) / 1e6
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// packageTests are test programs of packages whose benchmarks give figures that daemons cannot be asked for.
var packageTests = map[string]string{"handshake.test": "./handshake", "mesh.test": "./mesh"}

// packageFigure is such a figure.
type packageFigure struct {
	key     metric
	program string
	bench   string // pattern
	time    string // -test.benchtime
	unit    string
	least   bool // of several lines the least counts, else the greatest
	long    bool // left out of a quick run
}

var packageFigures = []packageFigure{
	{handshakes, "handshake.test", "HandshakeSide/AES", "500x", "handshakes/s", true, false},
	{sessionSize, "mesh.test", "IdleSessionWhole/accepted,GOGC=10", "1x", "B/session", false, true},
}

func (f packageFigure) take(ctx context.Context, r *rig) (float64, error) {
	if why, ok := r.plan.Lacks[f.program]; ok {
		return 0, fmt.Errorf("%s: %s", f.key, why)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.plan.program(f.program), "-test.run", "^$", "-test.bench", f.bench, "-test.benchtime", f.time)
	cmd.Dir = r.dir
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", f.key, err, out[max(0, len(out)-600):])
	}
	return f.parse(string(out))
}

// parse finds the figure in what the benchmark printed.
func (f packageFigure) parse(out string) (float64, error) {
	found := regexp.MustCompile(`(?m)^Benchmark.*?([0-9.e+]+) `+regexp.QuoteMeta(f.unit)+`(?:\s|$)`).FindAllStringSubmatch(out, -1)
	var n float64
	for i, m := range found {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.key, err)
		}
		if i == 0 || f.least == (v < n) {
			n = v
		}
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("%s: the benchmark printed no %s", f.key, f.unit)
	}
	return n, nil
}
