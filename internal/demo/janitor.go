package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const dirPrefix = "meshkey-demo-"

// janitor is a child that outlives the demo by a moment: when the pipe it reads ends, it removes the demo's directory, also after the
// demo was killed and could not.
type janitor struct {
	cmd  *exec.Cmd
	hold *os.File
}

func (s *story) startJanitor() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(s.opts.Binary, "demo", "--clean-up", s.dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		w.Close()
		return err
	}
	s.janitor = janitor{cmd: cmd, hold: w}
	return nil
}

func (j *janitor) close() {
	j.hold.Close()
	_ = j.cmd.Wait()
}

// cleanUpTries is how often CleanUp tries, a tenth of a second apart: daemons that end may still write.
const cleanUpTries = 100

// CleanUp waits until in ends and then removes the directory of a demo. It refuses every other directory.
func CleanUp(in io.Reader, dir string) error {
	if filepath.Dir(dir) != filepath.Clean(os.TempDir()) || !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		return fmt.Errorf("%s is no directory of a demo", dir)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	var err error
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range cleanUpTries {
		if err = os.RemoveAll(dir); err == nil {
			if _, serr := os.Lstat(dir); errors.Is(serr, os.ErrNotExist) {
				return nil
			}
		}
		<-tick.C
	}
	return err
}
