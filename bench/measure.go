package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/bench/internal/load"
)

// turn is what one contestant's turn in one round gave.
type turn struct {
	Round      int                `json:"round"`
	Contestant string             `json:"contestant"`
	Values     map[metric]float64 `json:"values"`
}

// results are everything that was measured.
type results struct {
	When     time.Time         `json:"when"`
	Took     time.Duration     `json:"took_ns"`
	Machine  machine           `json:"machine"`
	Options  settings          `json:"settings"`
	Titles   map[string]string `json:"titles"`
	Order    []string          `json:"order"`
	Turns    []turn            `json:"turns"`
	Once     []turn            `json:"once"`    // what is not taken in rounds
	Missing  map[string]string `json:"missing"` // contestant → why it was not measured
	Failures []string          `json:"failures,omitempty"`
}

// settings are how it was measured.
type settings struct {
	Quick  bool  `json:"quick"`
	Rounds int   `json:"rounds"`
	Times  times `json:"times_ns"`
}

// loudMachine is the share of a core that may be busy before a run, above which the figures are not to be quoted.
const loudMachine = 0.10

func (r *rig) compare(ctx context.Context, o *options) (*results, error) {
	began := time.Now()
	res := &results{
		When: began.UTC().Truncate(time.Second), Options: settings{o.quick, o.rounds, o.t},
		Titles: make(map[string]string), Missing: make(map[string]string),
	}
	foreign, err := load.Busy(2 * time.Second)
	if err != nil {
		return nil, err
	}
	res.Machine = describe(r.plan, foreign)
	if foreign > loudMachine {
		r.say("other programs use %.0f %% of a core: figures of this run are not to be quoted", foreign*100)
	}
	var all []contestant
	defer func() {
		for _, c := range all {
			c.stop()
		}
	}()
	for _, c := range contestants() {
		if !o.wants(c.name()) {
			continue
		}
		res.Titles[c.name()] = c.title()
		res.Order = append(res.Order, c.name())
		why := c.missing(r)
		if why == "" {
			if err := r.guarded(func() error { return c.serve(r) }); err != nil {
				c.stop()
				why = "does not start: " + err.Error()
			}
		}
		if why != "" {
			r.say("%s: not measured: %s", c.name(), why)
			res.Missing[c.name()] = why
			continue
		}
		all = append(all, c)
	}
	once := make(map[string]map[metric]float64)
	for _, c := range all {
		once[c.name()] = make(map[metric]float64)
	}
	fail := func(what string, c contestant, err error) {
		res.Failures = append(res.Failures, fmt.Sprintf("%s, %s: %v", what, c.name(), err))
		r.say("%s", res.Failures[len(res.Failures)-1])
	}
	// First, while the servers are as they were started.
	r.idle(ctx, o, all, once, fail)
	for round := range o.rounds {
		for i := range all {
			c := all[(i+round)%len(all)]
			r.say("round %d of %d: %s", round+1, o.rounds, c.name())
			t := turn{Round: round, Contestant: c.name(), Values: make(map[metric]float64)}
			if err := r.guarded(func() error { return r.turn(ctx, o, c, t.Values) }); err != nil {
				fail(fmt.Sprintf("round %d", round+1), c, err)
			}
			res.Turns = append(res.Turns, t)
		}
	}
	r.last(ctx, o, all, once, fail)
	if v := once[nameMeshkey]; v != nil {
		v[binarySize] = float64(r.plan.Size) / 1e6
		res.Failures = append(res.Failures, r.packages(ctx, o, v)...)
	}
	for _, c := range all {
		res.Once = append(res.Once, turn{Contestant: c.name(), Values: once[c.name()]})
	}
	res.Took = time.Since(began)
	return res, nil
}

func (r *rig) say(format string, a ...any) { fmt.Fprintf(r.words, format+"\n", a...) }

// guarded turns what the harness panics with into an error.
func (r *rig) guarded(f func() error) (err error) {
	defer caught(&err)
	return f()
}

// start starts a contestant's client side and returns how long after that the first byte came through.
func (r *rig) start(ctx context.Context, c contestant) (time.Duration, error) {
	var began time.Time
	a, err := r.ask(ctx, request{Do: doFirst, Addr: c.address(), For: startTime}, func() error {
		began = time.Now()
		return c.connect(r)
	})
	return a.At.Sub(began), r.explain(c, err)
}

// connected runs f while the contestant's client side runs, after the first byte has come and some bulk has warmed it.
func (r *rig) connected(ctx context.Context, o *options, c contestant, f func(addr string, took time.Duration) error) error {
	took, err := r.start(ctx, c)
	defer c.disconnect()
	if err != nil {
		return err
	}
	if _, err := r.ask(ctx, request{Do: doBulk, Addr: c.address(), Streams: 1, For: o.t.Warm}, nil); err != nil {
		return r.explain(c, err)
	}
	return r.explain(c, f(c.address(), took))
}

// explain adds the logs of a contestant's programs to an error.
func (r *rig) explain(c contestant, err error) error {
	if err == nil {
		return nil
	}
	client, server := c.processes()
	for _, p := range append(client, server...) {
		if p != nil {
			err = fmt.Errorf("%w\n  %s: %s", err, p.name, p.tail())
		}
	}
	return err
}

// turn measures everything that is measured in rounds.
func (r *rig) turn(ctx context.Context, o *options, c contestant, v map[metric]float64) error {
	return r.connected(ctx, o, c, func(addr string, took time.Duration) error {
		v[first] = float64(took.Microseconds()) / 1e3
		if err := r.bulk(ctx, o, c, addr, v); err != nil {
			return err
		}
		return r.awake(func() error {
			if err := r.ping(ctx, o, addr, 0, v, rr50, rr99); err != nil {
				return err
			}
			if err := r.ping(ctx, o, addr, 500e6, v, rr50Half, rr99Half); err != nil {
				return err
			}
			if err := r.ping(ctx, o, addr, -1, v, rr50Full, rr99Full); err != nil {
				return err
			}
			profiled := r.profile(ctx, o, c, "open", o.t.Open)
			a, err := r.ask(ctx, request{Do: doOpen, Addr: addr, For: o.t.Open}, nil)
			err = errors.Join(err, profiled())
			if err == nil {
				v[open50], v[open99] = a.Latency.P50, a.Latency.P99
			}
			return err
		})
	})
}

func (r *rig) bulk(ctx context.Context, o *options, c contestant, addr string, v map[metric]float64) error {
	peak, profiled := r.watch(c), r.profile(ctx, o, c, "bulk", o.t.Bulk)
	a, err := r.ask(ctx, request{Do: doBulk, Addr: addr, Streams: 1, For: o.t.Bulk}, nil)
	most := peak()
	err = errors.Join(err, profiled())
	if err != nil {
		return err
	}
	v[bulk1], v[cpu1] = gbit(a.Bulk), perGB(a.Bulk)
	if most > 0 {
		v[rssBulk] = most
	}
	if a, err = r.ask(ctx, request{Do: doBulk, Addr: addr, Streams: 4, For: o.t.Bulk}, nil); err != nil {
		return err
	}
	v[bulk4], v[cpu4] = gbit(a.Bulk), perGB(a.Bulk)
	return nil
}

func gbit(b load.Bulk) float64  { return float64(b.Bytes) * 8 / b.Seconds / 1e9 }
func perGB(b load.Bulk) float64 { return b.CPU / (float64(b.Bytes) / 1e9) }

// ping takes round trips beside a stream of a rate in bits per second: 0 for none, below 0 for as fast as it goes.
func (r *rig) ping(ctx context.Context, o *options, addr string, rate float64, v map[metric]float64, p50, p99 metric) error {
	var side response
	var sideErr error
	var wg sync.WaitGroup
	if rate != 0 {
		wg.Go(func() {
			// A little longer than the pings, so that none is alone.
			d := o.t.Ping + 2*o.t.Settle
			side, sideErr = r.ask(ctx, request{Do: doBulk, Addr: addr, Streams: 1, For: d, Rate: max(rate, 0)}, nil)
		})
	}
	a, err := r.ask(ctx, request{Do: doPing, Addr: addr, Warm: o.t.Settle, For: o.t.Ping}, nil)
	wg.Wait()
	if err := errors.Join(err, sideErr); err != nil {
		return err
	}
	if a.Latency.Count == 0 {
		return fmt.Errorf("no round trip in %v", o.t.Ping)
	}
	v[p50], v[p99] = a.Latency.P50, a.Latency.P99
	if rate < 0 {
		v[bulkFull] = gbit(side.Bulk)
	}
	return nil
}

// watch looks at the memory of a contestant's nodes until the function returned is called, which returns the most that the larger had, in
// MB, or 0 if it has no processes.
func (r *rig) watch(c contestant) (peak func() float64) {
	client, server := c.processes()
	var most uint64
	look := func() {
		for _, side := range [][]*process{client, server} {
			if n, err := resident(side); err == nil {
				most = max(most, n)
			}
		}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				look()
			case <-stop:
				return
			}
		}
	}()
	return func() float64 {
		close(stop)
		<-done
		look()
		return float64(most) / 1e6
	}
}
