//go:build !linux

package mesh

import (
	"net"
	"time"
)

// setUserTimeout has no portable counterpart: heartbeats find the dead path instead, within 20 s.
func setUserTimeout(*net.TCPConn, time.Duration) {}
