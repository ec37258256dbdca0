package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaces names the network and user namespace of the calling thread, as the kernel does.
func namespaces() (string, error) {
	n, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", err
	}
	u, err := os.Readlink("/proc/thread-self/ns/user")
	if err != nil {
		return "", err
	}
	return n + " " + u, nil
}

// command builds the process that becomes init inside. It dies with the thread that starts it, so start it from a locked one.
func command(args, environ []string, mark string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	environ = slices.DeleteFunc(slices.Clone(environ), func(s string) bool { return strings.HasPrefix(s, markerEnv+"=") })
	cmd.Env = append(environ, markerEnv+"="+mark, stageEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd, nil
}

// enter runs this program inside and returns its exit code.
func enter(args, environ []string) (int, error) {
	mark, err := namespaces()
	if err != nil {
		return 0, err
	}
	cmd, err := command(args, environ, mark)
	if err != nil {
		return 0, err
	}
	// The parent-death signal belongs to the thread: keep it for as long as the child runs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	stop := relay(cmd.Process.Pid)
	defer stop()
	return exitCode(cmd.Wait())
}

func exitCode(err error) (int, error) {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if s, ok := e.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), nil
		}
		return e.ExitCode(), nil
	}
	return 0, err
}

// relay passes the signals with which people and go test end a program to the process pid, until stop is called.
func relay(pid int) (stop func()) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range ch {
			_ = syscall.Kill(pid, s.(syscall.Signal)) // it may be gone already
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		<-done
	}
}

// runInit is pid 1 inside: it prepares the mounts, runs the tests as its child, reaps everything that loses its parent, and ends,
// and with it all that runs inside, when its child does.
func runInit() int {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "netns:", err)
		return initFailed
	}
	code, err := superviseSelf()
	if err != nil {
		fmt.Fprintln(os.Stderr, "netns:", err)
		return initFailed
	}
	return code
}

// prepare gives the namespaces their own /proc, and a /run in which ip(8) can keep the names of further network namespaces.
func prepare() error {
	// Not every user has the folders of the administrator's tools in the path; inside we are the administrator.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	for _, tool := range []string{"ip", "nsenter", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed (Debian packages iproute2, util-linux, procps)", tool)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	run, err := filepath.EvalSymlinks("/var/run")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mounting %s: %w", run, err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	return nil
}

func superviseSelf() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, stageEnv+"=") })
	child, err := os.StartProcess(self, os.Args, &os.ProcAttr{Env: env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 0, err
	}
	stop := relay(child.Pid)
	defer stop()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, fmt.Errorf("waiting for the tests: %w", err)
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == child.Pid && status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// doIn calls f on a thread that is in the named network namespace. The thread is not given back: it ends with its goroutine, since a
// thread in a foreign namespace must never run anything else.
func doIn(name string, f func()) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open(nsPath(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			errs <- &os.PathError{Op: "open", Path: nsPath(name), Err: err}
			return
		}
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		unix.Close(fd)
		if err != nil {
			errs <- os.NewSyscallError("setns", err)
			return
		}
		defer close(errs)
		f()
	}()
	return <-errs
}
