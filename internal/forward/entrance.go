package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Entrance serves one listener of this machine: each connection that Allow lets in is joined to a new stream.
type Entrance struct {
	// Allow judges a connection before anything else happens to it; an error refuses it. It must be set: an entrance without
	// a check would speak for this node to everybody.
	Allow func(net.Conn) error
	// Open makes the stream for one connection. first reads what the client has sent already, without waiting; what Open takes by it
	// goes out ahead of everything else.
	Open func(ctx context.Context, first func(p []byte) int) (Stream, error)
	// Event is told of each connection's begin and end, from many goroutines. It may be nil.
	Event func(Event)
}

// Event is one step in the life of a connection: Kind is "open", "close" or "refused", Err why it was not served or how it was
// aborted.
type Event struct {
	Kind   string
	From   net.Addr
	Result Result
	Err    error
}

// ErrFull is the reason for refusing a connection beyond MaxActive.
var ErrFull = errors.New("too many connections at this entrance")

// Serve accepts until ctx ends, then closes the listener, aborts what is open, and returns once all of it is over. The error is
// nil after ctx ended, or says why the listener failed.
func (e *Entrance) Serve(ctx context.Context, ln net.Listener) error {
	if e.Allow == nil || e.Open == nil {
		ln.Close()
		return errors.New("entrance without a check or a way out")
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer stop()
	defer ln.Close()
	slots := make(chan struct{}, MaxActive)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors or memory: it passes, or ctx ends.
			if !pause(ctx, acceptPause) {
				return nil
			}
			continue
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				e.serve(ctx, conn)
			})
		default:
			e.event(Event{Kind: "refused", From: conn.RemoteAddr(), Err: ErrFull})
			Abort(conn)
		}
	}
}

// serve carries one connection from its check to its end.
func (e *Entrance) serve(ctx context.Context, conn net.Conn) {
	from := conn.RemoteAddr()
	refuse := func(err error) {
		// Told before it shows: who sees the reset finds the reason.
		e.event(Event{Kind: "refused", From: from, Err: err})
		Abort(conn)
	}
	local, ok := conn.(Local)
	if !ok {
		refuse(errors.New("connection without half-close"))
		return
	}
	if err := e.Allow(conn); err != nil {
		refuse(err)
		return
	}
	var early int
	var gone error
	stream, err := e.Open(ctx, func(p []byte) int {
		n, err := readNow(conn, p)
		early += n
		if err != nil {
			gone = fmt.Errorf("%w: %w", ErrLocal, err)
		}
		return n
	})
	if err != nil {
		refuse(err)
		return
	}
	e.event(Event{Kind: "open", From: from})
	if gone != nil {
		// The client has gone without a word. The next read would take that for an orderly end.
		stream.Abort()
		stream.Close()
		Abort(conn)
		e.event(Event{Kind: "close", From: from, Result: Result{Err: gone}, Err: gone})
		return
	}
	res := Splice(ctx, local, stream)
	res.Out += int64(early)
	e.event(Event{Kind: "close", From: from, Result: res, Err: res.Err})
}

func (e *Entrance) event(ev Event) {
	if e.Event != nil {
		e.Event(ev)
	}
}

// pause waits and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
