//go:build !unix

package beacon

import "syscall"

// shareAddress does nothing where no option is known: one daemon per machine then.
func shareAddress(_, _ string, _ syscall.RawConn) error { return nil }
