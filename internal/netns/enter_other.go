//go:build !linux

package netns

import "errors"

var errNoNamespaces = errors.New("network namespaces exist on Linux only")

func namespaces() (string, error) { return "", errNoNamespaces }

func runInit() int { return initFailed }

func enter([]string, []string) (int, error) { return 0, errNoNamespaces }

func doIn(string, func()) error { return errNoNamespaces }
