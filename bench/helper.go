package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"github.com/sovereignmesh/meshkey/bench/internal/load"
	"github.com/sovereignmesh/meshkey/bench/internal/plain"
)

// What a helper can be asked for.
const (
	doServe   = "serve"   // be the server of the load on Addr, until killed
	doForward = "forward" // be one daemon of the forwarder without encryption, from Addr to Target, until killed
	doAwake   = "awake"   // keep a core awake, until killed
	doBulk    = "bulk"
	doPing    = "ping"
	doOpen    = "open"
	doFirst   = "first" // the first byte, tried until it comes
	doSlow    = "slow"
	doMembers = "members" // join with the invites on standard input, then make as many sessions as it says there, see crowd
)

// request is a helper's argument, response what it prints. Programs that serve print "ready".
type request struct {
	Do      string        `json:"do"`
	Addr    string        `json:"addr"`
	Target  string        `json:"target,omitempty"`
	Streams int           `json:"streams,omitempty"`
	Rate    float64       `json:"rate,omitempty"` // bits per second
	Warm    time.Duration `json:"warm,omitempty"`
	For     time.Duration `json:"for,omitempty"`
}

type response struct {
	Bulk    load.Bulk    `json:"bulk"`
	Latency load.Latency `json:"latency"`
	Sent    uint64       `json:"sent"`
	At      time.Time    `json:"at"` // of the first byte
}

// firstStep is the distance of two tries for a first byte, well below what is measured.
const firstStep = 200 * time.Microsecond

func help(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return usageError("helper is for the benchmark itself")
	}
	var q request
	if err := json.Unmarshal([]byte(args[0]), &q); err != nil {
		return usageError(fmt.Sprintf("helper: %v", err))
	}
	var a response
	var err error
	switch q.Do {
	case doServe, doForward:
		ln, err := net.Listen("tcp", q.Addr)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "ready")
		if q.Do == doServe {
			return load.Serve(ln)
		}
		return plain.New(q.Target).Serve(ln)
	case doAwake:
		fmt.Fprintln(out, "ready")
		for n := 0; ; n++ {
			runtime.KeepAlive(n) // it must not sleep
		}
	case doBulk:
		a.Bulk, err = load.SendBulk(q.Addr, q.Streams, q.For, q.Rate)
	case doPing:
		a.Latency, err = load.Ping(q.Addr, q.Warm, q.For)
	case doOpen:
		a.Latency, err = load.Open(q.Addr, q.For)
	case doFirst:
		fmt.Fprintln(out, "ready")
		for end := time.Now().Add(q.For); ; time.Sleep(firstStep) {
			if err = load.First(q.Addr); err == nil || time.Now().After(end) {
				break
			}
		}
		a.At = time.Now()
	case doSlow:
		a.Sent, err = load.Slow(q.Addr, q.Streams, q.For, func() error {
			_, err := fmt.Fprintln(out, "ready")
			return err
		})
	case doMembers:
		return crowd(q, in, out)
	default:
		err = errors.New("helper: unknown request " + q.Do)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(a)
}
