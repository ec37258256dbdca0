//go:build !linux

package netmon

import (
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

// subscribe has nothing to subscribe to: the poll finds the changes.
func subscribe() (subscription, error) { return nil, errors.New("no change events on this system") }
