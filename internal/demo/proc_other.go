//go:build !linux

package demo

import "syscall"

// dieWithParent puts the child into a group of its own; it ends with its pipe.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
