package main

import (
	"net"
	"strings"
	"time"
)

// notifyTimeout bounds the message to systemd, which reads at once or never.
const notifyTimeout = time.Second

// notifySystemd sends a state to the service manager, as sd_notify(3) does; without a socket there is none to tell.
func notifySystemd(socket, state string) error {
	if socket == "" {
		return nil
	}
	// An abstract socket is written with "@".
	if strings.HasPrefix(socket, "@") {
		socket = "\x00" + socket[1:]
	}
	conn, err := net.DialTimeout("unixgram", socket, notifyTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(notifyTimeout))
	_, err = conn.Write([]byte(state))
	return err
}
