package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// logTarget is what is promised. Memory and disk are held to it, and times to ten times as much: the machine may be shared.
type logTarget struct {
	start time.Duration // on the kept state
	join  time.Duration // of a newcomer, its daemon's first start included; 0: nobody joins
	rss   int64
	idle  time.Duration // how long its processor time is looked at; 0: not
}

// bytesPerMember is the longest log per member.
const bytesPerMember = 400

// bigLog founds a mesh, enrols members in its log, and times the real daemon: started on the log alone, and on the state it kept when it
// ended. A newcomer then joins over the network, by the invite of a person.
func bigLog(members int, want logTarget) error {
	tmp, err := os.MkdirTemp("", "meshkey-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	program := filepath.Join(tmp, "meshkey")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", program, "github.com/sovereignmesh/meshkey/cmd/meshkey").CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w\n%s", err, out)
	}
	nas, err := newBox(program, tmp, "nas")
	if err != nil {
		return err
	}
	if err := os.WriteFile(nas.path("pass"), []byte("correct horse battery staple\n"), 0o600); err != nil {
		return err
	}
	if _, _, _, err := nas.run("init", "--mesh", "big", "--name", "nas", "--passphrase-file", nas.path("pass")); err != nil {
		return err
	}
	if err := nas.fill(members); err != nil {
		return err
	}
	log := nas.path("state/trust")
	bytes := size(log, "log.")
	fmt.Printf("%d members, each enrolled by an entry of its own: log %.1f MB\n", members, float64(bytes)/1e6)
	if bytes > int64(members)*bytesPerMember {
		return fmt.Errorf("missed: the log has %d bytes, at most %d for each member were promised", bytes, bytesPerMember)
	}
	if err := nas.timed("on the log alone", 1, logTarget{rss: want.rss}, nil); err != nil {
		return err
	}
	kept := size(log, "cache")
	if kept == 0 {
		return errors.New("the daemon kept no state")
	}
	fmt.Printf("the state it kept: %.1f MB\n", float64(kept)/1e6)
	var during func() error
	if want.join > 0 {
		during = func() error { return newcomer(nas, program, tmp, want) }
	}
	return nas.timed("on the kept state", 5, want, during)
}

// timed starts the daemon so many times with nothing of its files in the kernel's memory, and does something while it runs the last time.
func (b *box) timed(what string, rounds int, want logTarget, during func() error) error {
	for i := range rounds {
		if err := forget(b.path("state")); err != nil {
			return err
		}
		ready, stop, pid, err := b.start()
		if err != nil {
			return err
		}
		now, peak := memory(pid)
		fmt.Printf("  %s: serves after %v, resident %s, at most %s\n", what, ready.Round(time.Millisecond), mib(now), mib(peak))
		if err := want.missed(ready, want.start, peak); err != nil {
			return errors.Join(err, stop())
		}
		if want.idle > 0 && i == rounds-1 {
			before := cpu(pid)
			time.Sleep(want.idle)
			fmt.Printf("  idle for %v: %.2f %% of a core\n", want.idle, 100*(cpu(pid)-before).Seconds()/want.idle.Seconds())
		}
		if during != nil && i == rounds-1 {
			if err := during(); err != nil {
				return errors.Join(err, stop())
			}
			now, peak = memory(pid)
			fmt.Printf("  the issuer after that: resident %s, at most %s\n", mib(now), mib(peak))
			if err := want.missed(0, want.start, peak); err != nil {
				return errors.Join(err, stop())
			}
		}
		if err := stop(); err != nil {
			return err
		}
	}
	return nil
}

func (want logTarget) missed(took, most time.Duration, rss int64) error {
	if rss > want.rss {
		return fmt.Errorf("missed: %s resident, promised %s", mib(rss), mib(want.rss))
	}
	if most > 0 && took > 10*most {
		return fmt.Errorf("missed: %v, ten times the %v promised", took, most)
	}
	return nil
}

// newcomer enrols a machine and starts its daemon.
func newcomer(issuer *box, program, tmp string, want logTarget) error {
	b, err := newBox(program, tmp, "new")
	if err != nil {
		return err
	}
	out, _, _, err := issuer.run("--json=1", "invite", "newcomer")
	if err != nil {
		return err
	}
	var inv control.InviteResult
	if err := json.Unmarshal([]byte(out), &inv); err != nil {
		return err
	}
	_, took, rss, err := b.run("enroll", "--yes", inv.Text)
	if err != nil {
		return err
	}
	fmt.Printf("  a newcomer joins in %v, with at most %s\n", took.Round(time.Millisecond), mib(rss))
	if err := want.missed(took, want.join, rss); err != nil {
		return err
	}
	return b.timed("the newcomer's daemon", 2, logTarget{start: want.join, rss: want.rss}, nil)
}

// box is a state directory with the real program, which opens nothing beyond this machine.
type box struct {
	program string
	dir     string
}

func newBox(program, parent, name string) (*box, error) {
	b := &box{program: program, dir: filepath.Join(parent, name)}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	text := "[network]\nloopback_only = true\nlisten = [\"127.0.0.1:0\"]\nbeacon_port = 29477\n"
	return b, os.WriteFile(b.path("meshkey.toml"), []byte(text), 0o600)
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func (b *box) command(args ...string) *exec.Cmd {
	all := append([]string{"--state", b.path("state"), "--socket", b.path("sock"), "--config", b.path("meshkey.toml")}, args...)
	return exec.Command(b.program, all...)
}

// run runs a command to its end and returns what it printed, how long it took and the most memory it had.
func (b *box) run(args ...string) (out string, took time.Duration, rss int64, err error) {
	cmd := b.command(args...)
	var words strings.Builder
	cmd.Stderr = &words
	began := time.Now()
	text, err := cmd.Output()
	took = time.Since(began)
	if err != nil {
		return "", 0, 0, fmt.Errorf("meshkey %s: %w\n%s", strings.Join(args, " "), err, words.String())
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rss = u.Maxrss << 10
	}
	return strings.TrimSpace(string(text)), took, rss, nil
}

// start runs the daemon, and stop ends it in order.
func (b *box) start() (ready time.Duration, stop func() error, pid int, err error) {
	cmd := b.command("daemon")
	log, err := os.Create(b.path("log"))
	if err != nil {
		return 0, nil, 0, err
	}
	defer log.Close()
	cmd.Stderr = log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, nil, 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			return errors.Join(errors.New("the daemon does not stop"), <-done)
		}
	}
	if err := control.NewClient(b.path("sock")).WaitReady(context.Background(), 5*time.Minute); err != nil {
		words, _ := os.ReadFile(b.path("log"))
		return 0, nil, 0, errors.Join(fmt.Errorf("%w\n%s", err, words), stop())
	}
	return time.Since(began), stop, cmd.Process.Pid, nil
}

// memory is a process' resident memory now, and the most it ever had.
func memory(pid int) (now, peak int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		switch f := strings.Fields(line); {
		case len(f) < 2:
		case f[0] == "VmRSS:":
			fmt.Sscan(f[1], &now)
		case f[0] == "VmHWM:":
			fmt.Sscan(f[1], &peak)
		}
	}
	return now << 10, peak << 10
}

// cpu is the processor time a process has used.
func cpu(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// Behind the name in parentheses, which may have spaces: utime and stime are the 12th and 13th.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	var user, system int64
	fmt.Sscan(f[11], &user)
	fmt.Sscan(f[12], &system)
	return time.Duration(user+system) * time.Second / 100
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// forget asks the kernel to drop what it holds of the files below dir: the next start reads the disk.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return dropCached(f)
	})
}

// fill enrols members in the log of a founder whose daemon does not run, an entry each: the longest log of so many members.
func (b *box) fill(members int) error {
	state, err := durable.OS(b.path("state"))
	if err != nil {
		return err
	}
	defer closeFS(state)
	raw, err := durable.ReadFile(state, "member", 64<<10)
	if err != nil {
		return err
	}
	var m struct {
		Version     uint64      `cbor:"1,keyasint"`
		Mesh        keys.MeshID `cbor:"2,keyasint"`
		Certificate []byte      `cbor:"3,keyasint"`
		Peers       [][]byte    `cbor:"4,keyasint"`
	}
	if err := wire.Unmarshal(raw, &m); err != nil {
		return err
	}
	id, err := keys.ReadIdentityFile(state, "identity.txt")
	if err != nil {
		return err
	}
	file, err := keys.ReadKeyFile(state, "issuer.age", keys.KindIssuer, m.Mesh, keys.Unlock{Identity: id})
	if err != nil {
		return err
	}
	issuer, err := file.SigningKey()
	if err != nil {
		return err
	}
	dir, err := durable.OS(b.path("state/trust"))
	if err != nil {
		return err
	}
	defer closeFS(dir)
	store, err := trust.Open(dir, m.Mesh)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	for i := range members - 1 {
		var seed [32]byte
		rand.Read(seed[:])
		node, err := keys.SigningKeyFromSeed(seed[:])
		if err != nil {
			return err
		}
		c, err := identity.IssueCertificate(identity.Certificate{
			Mesh: m.Mesh, Node: node.NodeID(), Serial: uint64(i) + 2, Issuer: issuer.Public(), NotBefore: now, NotAfter: now + 90*24*3600,
			Tags: identity.NormalTags([]string{"gpu", fmt.Sprintf("site:s%d", i%50)}), Name: fmt.Sprintf("node-%06d", i), RenewUntil: now + 3*365*24*3600,
		}, issuer)
		if err != nil {
			return err
		}
		if _, err := store.AppendOwn(issuer, now, trust.EnrollOp(c)); err != nil {
			return err
		}
	}
	return store.Close()
}

func closeFS(v any) {
	if c, ok := v.(interface{ Close() error }); ok {
		_ = c.Close()
	}
}

// size is how many bytes the files of a directory have whose names begin with a word.
func size(dir, word string) (n int64) {
	list, _ := filepath.Glob(filepath.Join(dir, word+"*"))
	for _, name := range list {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}
