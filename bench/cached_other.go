//go:build !linux

package main

import (
	"errors"
	"os"
)

// dropCached cannot be asked for here.
func dropCached(*os.File) error {
	return errors.New("only Linux drops a file from its cache when asked")
}
