//go:build !linux

package netmon

import (
	"context"
	"errors"
	"net"
)

func read() ([]net.Interface, []address, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, nil, err
	}
	addresses, err := readPortable(links)
	return links, addresses, err
}

// watch has nothing to subscribe to: the poll finds the changes.
func watch(context.Context, func()) error { return errors.New("no change events on this system") }
