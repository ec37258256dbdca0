package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sovereignmesh/meshkey/bench/internal/load"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

// Addresses of the rig. Ports are given in contestants.go.
const (
	clientIP = "10.77.0.1"
	serverIP = "10.77.0.2"
	// target is where the load's server is, seen from the daemon beside it, and rawTarget from the client.
	targetPort = "7000"
	target     = "127.0.0.1:" + targetPort
	rawTarget  = serverIP + ":" + targetPort
)

const (
	// startTime bounds the start of a program and of a contestant.
	startTime = 20 * time.Second
	// stopTime is how long a program may take to end before it is killed.
	stopTime = 5 * time.Second
	// pollStep is the distance of two looks at a process.
	pollStep = 20 * time.Millisecond
)

// rig is the two namespaces and what runs in them. It is used from one goroutine.
type rig struct {
	plan   *plan
	words  io.Writer
	self   string
	dir    string // of this run's state
	net    *harness
	client *netns.Host
	server *netns.Host
	load   *process // the server of the load
}

// harness is the test that package netns wants a network to belong to.
type harness struct{ cleanups []func() }

// rigError is what a network could not be made for.
type rigError string

func (e rigError) Error() string { return string(e) }

func (*harness) Helper()                         {}
func (*harness) Fatalf(format string, a ...any)  { panic(rigError(fmt.Sprintf(format, a...))) }
func (h *harness) Skipf(format string, a ...any) { h.Fatalf(format, a...) }
func (h *harness) Cleanup(f func())              { h.cleanups = append(h.cleanups, f) }

// caught turns the panic of a harness into an error.
func caught(err *error) {
	switch e := recover().(type) {
	case nil:
	case rigError:
		*err = errors.Join(*err, e)
	default:
		panic(e)
	}
}

func newRig(p *plan, words io.Writer) (r *rig, err error) {
	defer caught(&err)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r = &rig{plan: p, words: words, self: self, net: new(harness), dir: filepath.Join(p.Dir, "state")}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, err
	}
	n := netns.New(r.net)
	r.client, r.server = n.Host("client"), n.Host("server")
	n.Cable(r.client, clientIP+"/24", r.server, serverIP+"/24")
	for _, h := range []*netns.Host{r.client, r.server} {
		h.Sysctl("net.ipv4.tcp_congestion_control", "reno")
		// New streams by the ten thousand must run out of neither queues nor ports: the ports of ended ones are used again.
		h.Sysctl("net.core.somaxconn", "4096")
		h.Sysctl("net.ipv4.ip_local_port_range", "10000 65000")
		h.Sysctl("net.ipv4.tcp_tw_reuse", "1")
	}
	r.load, err = r.helper(r.server, "load", request{Do: doServe, Addr: "0.0.0.0:" + targetPort})
	return r, err
}

func (r *rig) close() (err error) {
	defer caught(&err)
	r.load.stop()
	for i := range r.net.cleanups {
		r.net.cleanups[len(r.net.cleanups)-1-i]()
	}
	return nil
}

// path is a file of this run.
func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// process is a program that serves.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	said chan string // the first line of its output
}

// spawn starts a program. Its output goes to a log, except for the first line, which start may wait for.
func (r *rig) spawn(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, log: r.path(name + ".log"), done: make(chan struct{}), said: make(chan string, 1)}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		in := bufio.NewReader(out)
		line, err := in.ReadString('\n')
		if err == nil {
			p.said <- strings.TrimSpace(line)
		}
		_, _ = io.Copy(io.Discard, in)
		_ = cmd.Wait()
	}()
	return p, nil
}

// line waits for the first line that the program prints.
func (p *process) line() (string, error) {
	select {
	case s := <-p.said:
		return s, nil
	case <-p.done:
		return "", fmt.Errorf("%s ended: %s", p.name, p.tail())
	case <-time.After(startTime):
		return "", fmt.Errorf("%s says nothing: %s", p.name, p.tail())
	}
}

// tail is the end of the program's log, for an error.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil || len(b) == 0 {
		return "no word in its log"
	}
	return strings.TrimSpace(string(b[max(0, len(b)-600):]))
}

// stop ends the program, in order if it can. Stopping nothing, or twice, is right.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// helper starts this program as one that serves, and waits until it does.
func (r *rig) helper(h *netns.Host, name string, q request) (*process, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	p, err := r.spawn(name, h.Command(r.self, "helper", string(b)))
	if err != nil {
		return nil, err
	}
	if _, err := p.line(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// ask runs this program in the client's namespace as one that measures. meanwhile, if there is one, is called as soon as it is ready.
func (r *rig) ask(ctx context.Context, q request, meanwhile func() error) (a response, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.For+q.Warm+90*time.Second)
	defer cancel()
	cmd := r.client.CommandContext(ctx, r.self, "helper", string(b))
	var words bytes.Buffer
	cmd.Stderr = &words
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return a, err
	}
	if err := cmd.Start(); err != nil {
		return a, err
	}
	out := bufio.NewReader(pipe)
	if meanwhile != nil {
		if _, err = out.ReadString('\n'); err == nil {
			err = meanwhile()
		}
	}
	rest, readErr := io.ReadAll(out)
	if waitErr := cmd.Wait(); waitErr != nil {
		return a, fmt.Errorf("%s: %w: %s", q.Do, waitErr, strings.TrimSpace(words.String()))
	}
	if err := errors.Join(err, readErr); err != nil {
		return a, err
	}
	return a, json.Unmarshal(rest, &a)
}

// awake keeps both cores from sleeping while f runs: what is measured then is the contestant, not how long a virtual CPU takes to be
// woken by its host. The programs run only when nothing else would, and at a nice level, whose time does not count.
func (r *rig) awake(f func() error) error {
	var all []*process
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	b, err := json.Marshal(request{Do: doAwake})
	if err != nil {
		return err
	}
	for i := range cores() {
		cmd := exec.Command("chrt", "--idle", "0", "nice", "-n", "19", r.self, "helper", string(b))
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		p, err := r.spawn(fmt.Sprintf("awake%d", i), cmd)
		if err != nil {
			return err
		}
		all = append(all, p)
		if _, err := p.line(); err != nil {
			return err
		}
	}
	return f()
}

// tree is a process and its descendants.
func tree(pid int) []int {
	children := make(map[int][]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		s := string(b)
		id, err1 := strconv.Atoi(strings.Fields(s)[0])
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		if len(f) < 2 {
			continue
		}
		parent, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], id)
		}
	}
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return out
}

// resident is the memory of the processes and their descendants, in bytes.
func resident(ps []*process) (uint64, error) {
	var sum uint64
	for _, p := range ps {
		for _, pid := range tree(p.cmd.Process.Pid) {
			n, err := load.Resident(pid)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// used is their CPU time.
func used(ps []*process) (time.Duration, error) {
	var sum time.Duration
	for _, p := range ps {
		for _, pid := range tree(p.cmd.Process.Pid) {
			d, err := load.Used(pid)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return 0, err
			}
			sum += d
		}
	}
	return sum, nil
}
