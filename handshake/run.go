package handshake

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// readExactly fills b and reads nothing behind it.
func readExactly(conn net.Conn, b []byte, deadline time.Time) error {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b)
	return err
}

func writeAll(conn net.Conn, b []byte, deadline time.Time) error {
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}

// guarded runs one handshake on conn. It closes conn when ctx ends and after any error, turns a panic into one, and takes the
// deadlines off before it hands a finished connection on.
func guarded(ctx context.Context, conn net.Conn, f func() (*Result, error)) (r *Result, err error) {
	// Closing cannot be undone by a deadline set later, so no order of events loses the end of ctx.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if p := recover(); p != nil {
			err = fail(ReasonPanic, fmt.Errorf("panic: %v", p))
		}
		if !stop() {
			err = fail(ReasonCancelled, ctx.Err())
		}
		if err == nil {
			if e := conn.SetDeadline(time.Time{}); e != nil {
				err = fail(ReasonShort, e)
			}
		}
		if err != nil {
			conn.Close()
			r = nil
		}
	}()
	return f()
}
