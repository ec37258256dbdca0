// Package control is the local API of a running daemon: HTTP/1.1 and JSON over a unix socket, its server and its client.
package control
