package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Local is a local connection: *net.TCPConn, *net.UnixConn, or one that behaves like them.
type Local interface {
	net.Conn
	CloseWrite() error
}

// Result tells how a splice went.
type Result struct {
	In  int64 // bytes from the stream to the local connection
	Out int64 // bytes from the local connection to the stream
	Err error // the first abort; nil if both directions came to their end
}

// ErrLocal and ErrStream mark on which way the first abort of a splice happened: reading from the named side or writing to the
// other one; ErrAborted is a stream that was aborted from elsewhere. A caller tells them apart for the audit record only.
var (
	ErrLocal   = errors.New("from the local connection")
	ErrStream  = errors.New("from the mesh")
	ErrAborted = errors.New("the mesh ended the stream")
)

// Splice copies both ways until both directions have ended or one was aborted, then closes both connections. When ctx ends,
// both are aborted and Err is its cause. Splice owns both connections from the call on.
func Splice(ctx context.Context, local Local, stream Stream) Result {
	s := &splice{local: local, stream: stream}
	stop := context.AfterFunc(ctx, func() { s.abort(context.Cause(ctx)) })
	var wg sync.WaitGroup
	over := make(chan struct{})
	if w, ok := stream.(Watched); ok {
		wg.Go(func() {
			select {
			case <-w.Done():
				s.abort(ErrAborted)
			case <-over:
			}
		})
	}
	var res Result
	var out sync.WaitGroup
	out.Go(func() {
		n, err := copyAll(stream, local)
		if err == nil {
			err = stream.CloseWrite()
		}
		res.Out = n
		if err != nil {
			s.abort(fmt.Errorf("%w: %w", ErrLocal, err))
		}
	})
	n, err := copyAll(local, stream)
	if err == nil {
		err = local.CloseWrite()
	}
	res.In = n
	if err != nil {
		s.abort(fmt.Errorf("%w: %w", ErrStream, err))
	}
	out.Wait()
	close(over)
	wg.Wait()
	// From here ctx can no longer abort; if it is doing so now, it does it to connections that are done anyway.
	stop()
	s.mu.Lock()
	res.Err = s.err
	s.mu.Unlock()
	local.Close()
	stream.Close()
	return res
}

// splice is the state both directions share.
type splice struct {
	// immutable
	local  Local
	stream Stream

	mu  sync.Mutex
	err error // the first abort
}

// abort ends everything at once. Only the first reason counts: the others are its consequences.
func (s *splice) abort(reason error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = reason
	}
	s.mu.Unlock()
	if first {
		s.stream.Abort()
		Abort(s.local)
	}
}

// Abort closes a local connection so that its peer learns that it was no orderly end: by RST on TCP.
func Abort(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// copyAll copies src to dst until src ends. The stream's own ReadFrom or WriteTo comes first and is handed the other connection
// itself, not a wrapper as io.Copy would: only so can it wait for bytes without a buffer, or use the socket directly. A
// TCP connection's WriteTo and ReadFrom come second; they know how to splice in the kernel.
func copyAll(dst io.Writer, src io.Reader) (int64, error) {
	if s, ok := dst.(Stream); ok {
		if rf, ok := s.(io.ReaderFrom); ok {
			return rf.ReadFrom(src)
		}
	}
	if s, ok := src.(Stream); ok {
		if wt, ok := s.(io.WriterTo); ok {
			return wt.WriteTo(dst)
		}
	}
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(plainWriter{dst}, plainReader{src}, buf[:])
}

// plainWriter and plainReader hide all but Write and Read, so that io.CopyBuffer uses the pooled buffer.
type (
	plainWriter struct{ io.Writer }
	plainReader struct{ io.Reader }
)
