//go:build !unix

package session

// Without readiness reads a stream waits with a few bytes of its own and takes a pooled buffer when they have come.
const haveReadiness = false

func readNow(uintptr, []byte) (n int, again bool, err error) { panic("session: no readiness reads") }

func writeNow(uintptr, []byte) int { panic("session: no readiness writes") }

func peekNow(uintptr) bool { panic("session: no readiness reads") }
