// Package demo runs the main job of meshkey once, for real: three daemons as processes of their own, bound to loopback, in a temporary
// directory, driven by the same commands a person types. Every step asserts what it claims; a step that did not happen fails the
// demo.
//
// The children end with the demo however it ends: each holds the reading end of a pipe whose writing end only the demo has, and
// stops when that is closed; on Linux the kernel also kills them when the demo's process is gone, frozen or not. One more child, held
// by a pipe in the same way, then removes the directory.
package demo
