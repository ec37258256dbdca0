package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Options says what to run.
type Options struct {
	// Binary is the meshkey program to run.
	Binary string
	// Step is told of each step when it has happened, or failed.
	Step func(Step)
}

// Step is one thing that happened.
type Step struct {
	Name    string        `json:"name"`
	Text    string        `json:"text"`
	Command string        `json:"command,omitempty"` // what a person would type
	TookMS  float64       `json:"took_ms"`
	Figure  string        `json:"figure,omitempty"` // what was measured
	OK      bool          `json:"ok"`
	Error   string        `json:"error,omitempty"`
	took    time.Duration // exact
}

// Result is the whole story.
type Result struct {
	OK      bool    `json:"ok"`
	Steps   []Step  `json:"steps"`
	TotalMS float64 `json:"total_ms"`
}

// total bounds the demo; it takes about 35 s.
const total = 85 * time.Second

// story is one run.
type story struct {
	opts   Options
	dir    string
	pass   string // file with the root passphrase
	port   int    // of the beacons
	nas    *host
	gpu    *host
	laptop *host
	web    *web
	denied uint64 // index of the denial in gpu1's log
	entry  *entrance
	result Result

	janitor janitor
}

// Run tells the story. Everything it made is gone when it returns.
func Run(ctx context.Context, o Options) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, total, fmt.Errorf("the demo took longer than %v", total))
	defer cancel()
	// The kernel ties the death of a child to the thread that started it, so all children are started here.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s := &story{opts: o, dir: dir}
	if err := s.startJanitor(); err != nil {
		return nil, err
	}
	defer s.end()
	began := time.Now()
	err = s.tell(ctx)
	s.result.TotalMS = ms(time.Since(began))
	s.result.OK = err == nil
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return &s.result, err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// end stops every child and waits for it.
func (s *story) end() {
	if s.entry != nil {
		s.entry.close()
	}
	for _, h := range []*host{s.laptop, s.gpu, s.nas} {
		if h != nil {
			h.kill()
		}
	}
	if s.web != nil {
		s.web.close()
	}
	s.janitor.close()
}

// step runs one step and reports it. f returns a figure for people, or why the step did not happen.
func (s *story) step(name, text, command string, f func() (string, error)) error {
	began := time.Now()
	figure, err := f()
	took := time.Since(began)
	st := Step{Name: name, Text: text, Command: command, TookMS: ms(took), Figure: figure, OK: err == nil, took: took}
	if err != nil {
		st.Error = err.Error()
	}
	s.result.Steps = append(s.result.Steps, st)
	s.opts.Step(st)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Took returns the step's exact duration.
func (s Step) Took() time.Duration { return s.took }

// tell is the story, step by step; the first that does not happen ends it.
func (s *story) tell(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.found, s.enrol, s.discover, s.offer, s.deny, s.allow, s.revoke, s.freeze, s.tamper,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes what the hosts share.
func (s *story) prepare() error {
	s.pass = filepath.Join(s.dir, "passphrase")
	if err := os.WriteFile(s.pass, []byte("a passphrase for a demo\n"), 0o600); err != nil {
		return err
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = c.LocalAddr().(*net.UDPAddr).Port
	return c.Close()
}

var errState = errors.New("not as expected")
