package e2e

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// sockets collects the addresses of every socket in the network of a demo, which only demos use: the hosts of scenarios have their own.
type sockets struct {
	pid   int
	seen  map[string]bool
	looks int
}

func newSockets(pid int) *sockets { return &sockets{pid: pid, seen: map[string]bool{}} }

func (w *sockets) look(t *testing.T) {
	w.looks++
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", w.pid, table)) // of the process, not of a thread of ours
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			fields := strings.Fields(sc.Text())
			if len(fields) < 10 || fields[0] == "sl" {
				continue
			}
			for _, col := range fields[1:3] {
				a, ok := parseAddr(col)
				if !ok {
					t.Errorf("unreadable address %q", col)
					continue
				}
				if a.IsUnspecified() && col == fields[2] {
					continue // no remote end
				}
				key := table + " " + a.String()
				if !w.seen[key] && !a.IsLoopback() {
					t.Errorf("a %s socket at %s is not on loopback", table, a)
				}
				w.seen[key] = true
			}
		}
		f.Close()
	}
}

func (w *sockets) report(t *testing.T) {
	if w.looks < 50 || len(w.seen) < 4 {
		t.Errorf("saw only %d addresses in %d looks", len(w.seen), w.looks)
	}
	var list []string
	for a := range w.seen {
		list = append(list, a)
	}
	slices.Sort(list)
	t.Logf("%d looks at all sockets, all on loopback: %v", w.looks, list)
}

// parseAddr reads the kernel's hexadecimal address, in words of its own byte order.
func parseAddr(s string) (netip.Addr, bool) {
	h, _, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(h)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}

// descendants lists the children of a process, and theirs.
func descendants(pid int) []int {
	parent := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything.
		rest := string(b[strings.LastIndexByte(string(b), ')')+1:])
		f := strings.Fields(rest)
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		if err != nil || len(f) < 2 {
			continue
		}
		if p, err := strconv.Atoi(f[1]); err == nil {
			parent[child] = p
		}
	}
	var out []int
	for c := range parent {
		for p := parent[c]; p > 1; p = parent[p] {
			if p == pid {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return len(f) > 0 && f[0] != "Z" && f[0] != "X"
}
