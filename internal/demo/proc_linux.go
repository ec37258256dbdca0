package demo

import "syscall"

// dieWithParent makes the kernel kill the child when the thread that starts it is gone.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
