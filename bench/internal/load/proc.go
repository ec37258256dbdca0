package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is USER_HZ: what the kernel counts CPU time in towards user space, on every architecture Go runs on.
const tick = time.Second / 100

// busy is the CPU time that the machine has spent since it started, of all cores, idle and niced time left out.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(b)
}

// parseBusy reads the line "cpu user nice system idle iowait irq softirq steal …".
func parseBusy(b []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 8 || f[0] != "cpu" {
		return 0, errors.New("/proc/stat does not begin with the CPUs' times")
	}
	var total time.Duration
	for _, i := range []int{1, 3, 6, 7} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// Busy is the share of one core that the machine uses while d passes: what disturbs a measurement before it begins.
func Busy(d time.Duration) (float64, error) {
	before, err := busy()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(d)
	took := time.Since(began)
	after, err := busy()
	if err != nil {
		return 0, err
	}
	return (after - before).Seconds() / took.Seconds(), nil
}

// Resident is the memory a process has in RAM, in bytes.
func Resident(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no memory", pid)
}

// Used is the CPU time of a process and of its threads that have ended.
func Used(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseUsed(string(b))
}

func parseUsed(s string) (time.Duration, error) {
	// The name, in parentheses, may hold anything.
	i := strings.LastIndexByte(s, ')')
	if i < 0 {
		return 0, errors.New("no name in stat of the process")
	}
	f := strings.Fields(s[i+1:])
	if len(f) < 13 {
		return 0, errors.New("stat of the process is too short")
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, err
}
