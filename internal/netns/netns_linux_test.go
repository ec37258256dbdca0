package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// The test outside runs in a namespace too, so "outside" is what the marker says.
func TestGuardOutside(t *testing.T) {
	here, err := namespaces()
	if err != nil {
		t.Skip(err)
	}
	for name, mark := range map[string]string{
		"no marker":             "",
		"marker of this place":  here,
		"same network":          strings.Fields(here)[0] + " user:[1]",
		"same user namespace":   "net:[1] " + strings.Fields(here)[1],
		"nonsense":              "yes",
		"two words of nonsense": "yes please",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(markerEnv, mark)
			for _, addr := range []string{"0.0.0.0:7477", "[::]:7477", ":7477", "192.168.1.5:80", "10.0.0.1", "example.org:80", "localhost:80", ""} {
				if Guard(addr) == nil {
					t.Errorf("%q allowed", addr)
				}
			}
			for _, addr := range []string{"127.0.0.1:7477", "127.77.3.4:0", "[::1]:0", "127.0.0.1", "::1", "[::ffff:127.0.0.1]:80"} {
				if err := Guard(addr); err != nil {
					t.Errorf("%q: %v", addr, err)
				}
			}
		})
	}
}

func TestGuardInside(t *testing.T) {
	New(t)
	for _, addr := range []string{"0.0.0.0:7477", "[::]:0", ":80", "10.0.0.1:80"} {
		if err := Guard(addr); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	}
	t.Setenv(markerEnv, "")
	if Guard("0.0.0.0:1") == nil {
		t.Error("allowed without the marker")
	}
}

func TestInsideIsPrivate(t *testing.T) {
	New(t)
	if out, err := exec.Command("ip", "-o", "link").Output(); err != nil || strings.Count(string(out), "\n") != 1 {
		t.Errorf("interfaces other than lo inside: %v\n%s", err, out)
	}
	if os.Geteuid() != 0 {
		t.Errorf("uid %d inside", os.Geteuid())
	}
	comm, err := os.ReadFile("/proc/1/environ")
	if err != nil || !bytes.Contains(comm, []byte(stageEnv+"=1")) {
		t.Errorf("pid 1 is not our init: %v", err)
	}
}

func TestNewRequires(t *testing.T) {
	if Inside() != nil {
		t.Skip("needs a namespace to tell its absence")
	}
	t.Setenv(markerEnv, "")
	t.Setenv(whyEnv, "because")
	for _, want := range []string{"skip", "fail"} {
		t.Setenv(requireEnv, map[string]string{"skip": "", "fail": "1"}[want])
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(r)
		}()
		<-done
		if r.what != want || !strings.Contains(r.text, "because") {
			t.Errorf("%s: %q", want, r.what)
		}
	}
}

type recorder struct {
	testing.TB
	what, text string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(_ string, a ...any) {
	r.what, r.text = "skip", a[0].(error).Error()
	runtime.Goexit()
}

func (r *recorder) Fatalf(_ string, a ...any) {
	r.what, r.text = "fail", a[1].(error).Error()
	runtime.Goexit()
}

func TestCable(t *testing.T) {
	n := New(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "10.0.1.1/24", b, "10.0.1.2/24")
	n.Cable(a, "10.0.2.1/24", b, "10.0.2.2/24")
	exchange(t, a, b, "10.0.1.2:80")
	exchange(t, a, b, "10.0.2.2:80")
	if out := n.in(n.sw, "ip", "-o", "link"); strings.Count(out, "\n") != 1 {
		t.Errorf("a cable has ends on the switch:\n%s", out)
	}
}

func TestHostsAndBridges(t *testing.T) {
	n := New(t)
	br := n.Bridge("lan")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	la := br.Attach(a, "10.0.0.1/24", "fd00::1/64")
	br.Attach(b, "10.0.0.2/24", "fd00::2/64")
	br.Attach(c, "10.0.0.3/24")
	if n.Host("a") != a {
		t.Error("a second host of the same name")
	}
	a.WaitDAD()
	b.WaitDAD()

	for _, addr := range []string{"10.0.0.2:80", "[fd00::2]:80"} {
		exchange(t, a, b, addr)
	}
	// The other network has the same addresses and does not meet this one.
	other := New(t)
	h := other.Host("a")
	other.Bridge("lan").Attach(h, "10.0.0.1/24")
	if reach(h, "10.0.0.2:80") == nil {
		t.Error("two networks are joined")
	}

	b.NFT("table inet t { chain in { type filter hook input priority 0; tcp dport 81 reject with tcp reset; }; }")
	l := b.Listen("tcp", "10.0.0.2:81")
	defer l.Close()
	eventually(t, "a refusal", func() bool { return errors.Is(reach(a, "10.0.0.2:81"), syscall.ECONNREFUSED) })
	a.Sysctl("net.ipv4.tcp_congestion_control", "reno")
	if got := a.Run("sysctl", "-n", "net.ipv4.tcp_congestion_control"); got != "reno\n" {
		t.Errorf("sysctl: %q", got)
	}

	if out := a.Run("ip", "-o", "-4", "addr", "show", la.Dev); !strings.Contains(out, "brd 10.0.0.255") {
		t.Errorf("no directed broadcast address: %s", out)
	}
	la.Unplug()
	carrier(t, a, la.Dev, "0")
	la.Plug()
	carrier(t, a, la.Dev, "1")
	exchange(t, a, b, "10.0.0.2:80")
}

// exchange proves that a reaches a listener of b: eight bytes and their end.
func exchange(t *testing.T, a, b *Host, addr string) {
	t.Helper()
	l := b.Listen("tcp", addr)
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.WriteString(conn, "good day")
			conn.Close()
		}
	}()
	var got []byte
	var err error
	a.Do(func() {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", addr, time.Minute); err == nil {
			defer conn.Close()
			got, err = io.ReadAll(conn)
		}
	})
	if err != nil || string(got) != "good day" {
		t.Fatalf("%s from %s: %q %v", addr, a.Name, got, err)
	}
}

func reach(h *Host, addr string) (err error) {
	h.Do(func() {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", addr, 300*time.Millisecond); err == nil {
			conn.Close()
		}
	})
	return err
}

func carrier(t *testing.T, h *Host, dev, want string) {
	t.Helper()
	eventually(t, "carrier "+want, func() bool {
		return strings.Contains(h.Run("ip", "-o", "link", "show", dev), "LOWER_UP") == (want == "1")
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(pollStep)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}

func TestIsolation(t *testing.T) {
	n := New(t)
	br := n.Bridge("wifi")
	a, b, ap := n.Host("a"), n.Host("b"), n.Host("ap")
	br.Attach(a, "10.0.0.1/24").Isolate(true)
	br.Attach(b, "10.0.0.2/24").Isolate(true)
	br.Attach(ap, "10.0.0.3/24")
	if reach(a, "10.0.0.2:80") == nil {
		t.Error("isolated hosts meet")
	}
	exchange(t, a, ap, "10.0.0.3:80")
}

func TestTrunk(t *testing.T) {
	n := New(t)
	left, right := n.Bridge("left"), n.Bridge("right")
	cable := left.Trunk(right)
	a, b := n.Host("a"), n.Host("b")
	left.Attach(a, "10.0.0.1/24")
	right.Attach(b, "10.0.0.2/24")
	exchange(t, a, b, "10.0.0.2:80")
	cable.Cut()
	if reach(a, "10.0.0.2:81") == nil {
		t.Error("parted switches are one segment")
	}
	cable.Mend()
	exchange(t, a, b, "10.0.0.2:82")
}

func TestCapture(t *testing.T) {
	n := New(t)
	br := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	br.Attach(a, "10.0.0.1/24")
	lb := br.Attach(b, "10.0.0.2/24")
	c := b.Capture(lb.Dev, "tcp", "port", "80")
	before := time.Now().Add(-time.Second)
	exchange(t, a, b, "10.0.0.2:80")
	eventually(t, "the bytes in the capture", func() bool { return c.Contains([]byte("good day")) })
	packets, err := c.Stop()
	if err != nil || len(packets) < 6 {
		t.Fatalf("%d packets, %v", len(packets), err)
	}
	for _, p := range packets {
		if p.Time.Before(before) || p.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("packet at %v", p.Time)
		}
		if binary.BigEndian.Uint16(p.Data[12:]) != 0x0800 {
			t.Errorf("not an IPv4 frame: % x", p.Data[:14])
		}
	}
	if c.Contains([]byte("good night")) {
		t.Error("capture contains what was never sent")
	}
}

func TestFilterRefusesNonsense(t *testing.T) {
	for _, in := range []string{"", "0", "x", "2\n1 2 3 4", "1\n1 2 3", "1\n1 2 3 x", "1\n65536 0 0 0", "1\n1 256 0 0", "5000\n1 1 1 1"} {
		if _, err := parseFilter(in); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
	if p, err := parseFilter("2\n40 0 0 12\n6 0 0 262144\n"); err != nil || len(p) != 2 || p[1].k != 262144 {
		t.Errorf("%v %v", p, err)
	}
}

func TestDoLeavesOtherThreadsAlone(t *testing.T) {
	n := New(t)
	h := n.Host("h")
	home, err := namespaces()
	if err != nil {
		t.Fatal(err)
	}
	var there string
	h.Do(func() { there, err = namespaces() })
	if err != nil || there == home {
		t.Errorf("Do ran in %s: %v", there, err)
	}
	if again, _ := namespaces(); again != home {
		t.Errorf("the test moved to %s", again)
	}
}

// A program that is left running on a host ends with its network, and an orphan is reaped by init.
func TestNothingStaysBehind(t *testing.T) {
	var pid int
	t.Run("network", func(t *testing.T) {
		h := New(t).Host("h")
		cmd := h.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid = cmd.Process.Pid
		go cmd.Wait()
	})
	if pid == 0 {
		t.Skip("no namespaces")
	}
	eventually(t, "the end of the program on the host", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })

	out, err := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan being reaped", func() bool { return errors.Is(syscall.Kill(orphan, 0), syscall.ESRCH) })
}

// TestExitCodes runs this test binary again as a whole, and looks at what its caller sees.
func TestExitCodes(t *testing.T) {
	New(t)
	if mode := os.Getenv("NETNS_TEST_MODE"); mode != "" {
		switch mode {
		case "exit":
			os.Exit(17)
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return
	}
	for mode, want := range map[string]int{"pass": 0, "exit": 17, "kill": 128 + int(syscall.SIGKILL)} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestExitCodes$")
		cmd.Env = append(os.Environ(), markerEnv+"=", "NETNS_TEST_MODE="+mode)
		out, err := cmd.CombinedOutput()
		if code, err := exitCode(err); err != nil || code != want {
			t.Errorf("%s: exit %d, want %d: %v\n%s", mode, code, want, err, out)
		}
	}
}

// The tests' end is the end of everything inside, also when they are killed: the kernel does it when init goes.
func TestKilledOutside(t *testing.T) {
	New(t)
	if file := os.Getenv("NETNS_TEST_FILE"); file != "" {
		// Inside the inner namespace: leave a lock held by a grandchild, say so, and hang.
		script := `exec 9>"$1"; flock 9; echo held >&9; exec sleep 1000`
		if err := exec.Command("setsid", "sh", "-c", script, "sh", file).Run(); err != nil {
			t.Fatal(err)
		}
		return
	}
	file := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledOutside$")
	cmd.Env = append(os.Environ(), markerEnv+"=", "NETNS_TEST_FILE="+file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grandchild holding its lock", func() bool {
		b, _ := os.ReadFile(file)
		return string(b) == "held\n"
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	eventually(t, "the end of the grandchild", func() bool {
		return exec.Command("flock", "-n", file, "true").Run() == nil
	})
}
