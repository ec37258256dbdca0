package harden

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// The flag concerns the whole process, so a child of this test is hardened.
func TestProcess(t *testing.T) {
	if os.Getenv("HARDEN_TEST_CHILD") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "HARDEN_TEST_CHILD=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d == 0 {
		t.Fatalf("dumpable before: %d %v", d, err)
	}
	if err := Process(); err != nil {
		t.Fatal(err)
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("dumpable after: %d %v", d, err)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil || l != (unix.Rlimit{}) {
		t.Errorf("core limit after: %+v %v", l, err)
	}
}
