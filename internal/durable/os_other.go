//go:build !linux

package durable

import "os"

// datasync is [os.File.Sync]: fsync, on darwin F_FULLFSYNC, because there fsync leaves data in the drive's cache.
func datasync(f *os.File) error { return f.Sync() }
