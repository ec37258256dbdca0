//go:build !linux

package netns

type tap struct{}

func openTap(string, []instruction, func(Packet) error) (*tap, error) { return nil, errNoNamespaces }

func (*tap) stop() error { return errNoNamespaces }
