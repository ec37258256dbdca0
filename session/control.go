package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// RecordType is the first byte inside a control record.
type RecordType uint8

// The types of control records. Others below 128 end the session; from 128 on they are ignored and counted.
const (
	// RecordControl carries a control body.
	RecordControl RecordType = 1
	// RecordRekey carries a message of the in-band rekey.
	RecordRekey RecordType = 2
	// RecordHeartbeat carries a heartbeat, or padding.
	RecordHeartbeat RecordType = 3
	// RecordClose carries [code] and is the last record of its direction.
	RecordClose RecordType = 4
)

// Control is the record layer of a control session: it seals, orders and frames, and knows nothing of what the records mean. Any
// goroutine may send; one receives. While nothing is on its way it holds no buffer.
type Control struct {
	// immutable
	conn  net.Conn
	began time.Time
	role  keys.Role

	// owned by the goroutine that calls Receive
	in       half
	header   [headerSize]byte
	begun    bool    // header has been read, or headErr says why not
	headErr  error   //
	lent     *buffer // holds the body returned last
	lentSize int     // bytes of it in use
	peerEnd  error   // what follows the peer's CLOSE
	rxFailed error

	// guarded by sendMu
	sendMu  sync.Mutex
	out     half
	sendErr error // first failure; final

	// atomic
	closing                          atomic.Bool
	parting                          atomic.Uint32 // code CLOSE is to be said with, 0 none
	sentBytes, sentRecords           atomic.Uint64 // under the current key
	receivedBytes, receivedRecords   atomic.Uint64 // under the current key
	allSent, allReceived, notHeartbs atomic.Uint64
	ignored                          atomic.Uint64
	keyed                            atomic.Int64 // nanoseconds after began at which the current keys were installed
}

// NewControl makes the record layer over a connection whose handshake is done. k.K1 protects dialer → acceptor, k.K2 the way back.
func NewControl(conn net.Conn, k keys.Session, role keys.Role) *Control {
	send, receive := k.K1, k.K2
	if role == keys.RoleAcceptor {
		send, receive = receive, send
	}
	return &Control{
		conn: conn, began: time.Now(), role: role,
		in: newBriefHalf(k.Suite, receive), out: newBriefHalf(k.Suite, send),
	}
}

// Role returns which side of the session this is.
func (c *Control) Role() keys.Role { return c.role }

// Conn returns the connection, for its addresses.
func (c *Control) Conn() net.Conn { return c.conn }

// Send seals and writes one record. Calls are ordered; each waits at most writeTimeout for the peer to take the bytes. The first
// error is final: a record may be half written, so the session cannot go on, and every later call returns the same error.
// What the peer said before can still be received: a CLOSE that crossed the write is why it failed.
func (c *Control) Send(t RecordType, body []byte) error {
	c.sendMu.Lock()
	defer c.unlockSend()
	return c.sendLocked(t, body, writeTimeout)
}

// SendBody encodes a control body and sends it.
func (c *Control) SendBody(b Body) error {
	body, err := Encode(b)
	if err != nil {
		return err
	}
	return c.Send(RecordControl, body)
}

// SendAndSwitch sends the last record under the current sending key and switches to the next: no record of another sender can come
// between.
func (c *Control) SendAndSwitch(t RecordType, body []byte, next keys.TrafficKey) error {
	c.sendMu.Lock()
	defer c.unlockSend()
	if err := c.sendLocked(t, body, writeTimeout); err != nil {
		return err
	}
	c.out.rekey(next)
	c.sentBytes.Store(0)
	c.sentRecords.Store(0)
	c.keyed.Store(int64(time.Since(c.began)))
	return nil
}

// unlockSend ends a turn of sending. If the session was closed meanwhile, this side says so now.
func (c *Control) unlockSend() {
	c.sendMu.Unlock()
	c.part()
}

func (c *Control) sendLocked(t RecordType, body []byte, timeout time.Duration) error {
	if c.sendErr != nil {
		return c.sendErr
	}
	if c.closing.Load() && t != RecordClose {
		return ErrEnded
	}
	if len(body) > MaxBody {
		return fmt.Errorf("control body of %d bytes does not fit a record", len(body))
	}
	b := getBuffer(headerSize + 1 + len(body) + tagSize)
	defer putBuffer(b)
	b.b[headerSize] = byte(t)
	copy(b.b[headerSize+1:], body)
	n, err := c.out.seal(b.b, b.b[headerSize:headerSize+1+len(body)])
	if err == nil {
		err = c.conn.SetWriteDeadline(time.Now().Add(timeout))
	}
	if err == nil && c.closing.Load() { // which Close may have begun since
		err = c.conn.SetWriteDeadline(soon())
	}
	if err == nil {
		_, err = c.conn.Write(b.b[:n])
	}
	if err != nil {
		c.sendErr = fmt.Errorf("sending control record: %w", c.ended(err))
		return c.sendErr
	}
	c.sentBytes.Add(uint64(n))
	c.sentRecords.Add(1)
	c.allSent.Add(uint64(n))
	if t != RecordHeartbeat {
		c.notHeartbs.Add(1)
	}
	return nil
}

// ended says ErrEnded where the error is only that this side has closed the connection.
func (c *Control) ended(err error) error {
	if c.closing.Load() || errors.Is(err, net.ErrClosed) {
		return ErrEnded
	}
	return err
}

// Receive reads the next record. The body is valid until the next call; the owner calls until it fails, or calls Release. Records of
// unknown types ≥ 128 are passed over and counted. After RecordClose has been returned, and on every failure, each further call returns the same error.
//
// [ErrTruncated] means that the connection ended without CLOSE, [ErrRecord] that a record did not authenticate, [ErrEnded] that
// this side closed. On a record that does not authenticate or is malformed the connection is closed before Receive returns.
func (c *Control) Receive() (RecordType, []byte, error) {
	c.returnLent()
	if c.rxFailed != nil {
		return 0, nil, c.rxFailed
	}
	for {
		t, body, err := c.receive()
		if err != nil {
			c.returnLent()
			c.rxFailed = err
			return 0, nil, err
		}
		if t >= firstIgnored {
			c.returnLent()
			c.ignored.Add(1)
			continue
		}
		return t, body, nil
	}
}

// Await waits until the next Receive has something to do: a record that begins, or the end. It needs hardly any stack, so that
// a goroutine that does nothing else is as small as one can be. The body returned last is not valid any more. The goroutine that receives
// may call it, or leave it to Receive.
func (c *Control) Await() {
	c.returnLent()
	if c.rxFailed == nil && c.peerEnd == nil {
		c.await()
	}
}

func (c *Control) await() {
	if !c.begun {
		_, c.headErr = io.ReadFull(c.conn, c.header[:])
		c.begun = true
	}
}

// Release gives back the body that Receive returned last. The goroutine that receives calls it when it will not receive again: a buffer that
// nobody returns counts for ever as one in use.
func (c *Control) Release() { c.returnLent() }

func (c *Control) returnLent() {
	if c.lent != nil {
		clear(c.lent.b[:c.lentSize]) // bodies may hold secrets
		putBuffer(c.lent)
		c.lent = nil
	}
}

func (c *Control) receive() (RecordType, []byte, error) {
	if c.peerEnd != nil {
		return 0, nil, c.peerEnd
	}
	c.await()
	c.begun = false
	if c.headErr != nil {
		return 0, nil, c.readError(c.headErr)
	}
	size := int(binary.BigEndian.Uint16(c.header[:]))
	if size < minRecord {
		c.Reset()
		return 0, nil, protocolError("control record of %d bytes", size)
	}
	c.lent, c.lentSize = getBuffer(headerSize+size), headerSize+size
	record := c.lent.b[:headerSize+size]
	copy(record, c.header[:])
	if _, err := io.ReadFull(c.conn, record[headerSize:]); err != nil {
		return 0, nil, c.readError(err)
	}
	plain, err := c.in.open(record[headerSize:headerSize], record)
	if err != nil {
		c.Reset()
		return 0, nil, err
	}
	c.receivedBytes.Add(uint64(len(record)))
	c.receivedRecords.Add(1)
	c.allReceived.Add(uint64(len(record)))
	t, body := RecordType(plain[0]), plain[1:]
	switch {
	case t == RecordHeartbeat:
	case t == RecordClose:
		code, err := parseClose(body)
		if err != nil {
			c.Reset()
			return 0, nil, err
		}
		c.peerEnd = &ClosedError{code}
	case t == 0 || t > RecordClose && t < firstIgnored:
		c.Reset()
		return 0, nil, protocolError("control record of type %d", t)
	default:
		c.notHeartbs.Add(1)
	}
	return t, body, nil
}

// readError turns the end of the connection into what it means for a session.
func (c *Control) readError(err error) error {
	switch {
	case c.closing.Load():
		return ErrEnded
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	}
	return fmt.Errorf("%w: %w", ErrTruncated, err)
}

// SwitchReceive installs the next receiving key. The goroutine that receives calls it between the peer's last record under the
// old key and the first under the new.
func (c *Control) SwitchReceive(next keys.TrafficKey) {
	c.in.rekey(next)
	c.receivedBytes.Store(0)
	c.receivedRecords.Store(0)
	c.keyed.Store(int64(time.Since(c.began)))
}

// SetReadDeadline bounds Receive. A deadline that passes in the middle of a record ends the session, as every failure does: it is
// for a peer that is given up.
func (c *Control) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Usage is what a session has moved and how old its keys are.
type Usage struct {
	// Sent and Received count bytes since the session began, records' framing included.
	Sent, Received uint64
	// KeyBytes and KeyRecords count, for the busier direction, what its current key has protected.
	KeyBytes, KeyRecords uint64
	// KeyAge is how long the current keys have been in use.
	KeyAge time.Duration
	// Busy is true once anything but heartbeats has moved.
	Busy bool
	// Ignored counts records of types this version does not know.
	Ignored uint64
}

// Limits returns the session's usage at now.
func (c *Control) Limits(now time.Time) Usage {
	return Usage{
		Sent: c.allSent.Load(), Received: c.allReceived.Load(),
		KeyBytes:   max(c.sentBytes.Load(), c.receivedBytes.Load()),
		KeyRecords: max(c.sentRecords.Load(), c.receivedRecords.Load()),
		KeyAge:     now.Sub(c.began.Add(time.Duration(c.keyed.Load()))),
		Busy:       c.notHeartbs.Load() > 0,
		Ignored:    c.ignored.Load(),
	}
}

// Due reports whether the keys should be replaced now: by an in-band rekey, or by a new session, make-before-break. streamsBusy
// says that the session's streams moved data; jitter in [0, 1) is fixed per session.
func (u Usage) Due(streamsBusy bool, jitter float64) bool {
	part := 1 - rekeyJitter*jitter
	age := rekeyIdle
	if u.Busy || streamsBusy {
		age = rekeyBusy
	}
	return u.KeyAge >= time.Duration(float64(age)*part) ||
		u.KeyBytes >= uint64(float64(rekeyBytes)*part) || u.KeyRecords >= uint64(float64(rekeyRecords)*part)
}

// Overdue reports whether the session must be closed: it was due rekeyGrace ago, or has moved twice what one key should.
func (u Usage) Overdue(sinceDue time.Duration) bool {
	return sinceDue >= rekeyGrace || u.KeyBytes >= maxKeyBytes || u.KeyRecords >= maxKeyRecords
}

// closeBody is the body of CLOSE and of every other record that is only a code: [code].
type closeBody struct {
	_    struct{} `cbor:",toarray"`
	Code Code
}

func parseClose(body []byte) (Code, error) {
	var v closeBody
	if len(body) > maxStreamBody {
		return 0, protocolError("CLOSE of %d bytes", len(body))
	}
	if err := wire.Unmarshal(body, &v); err != nil {
		return 0, protocolError("CLOSE: %v", err)
	}
	if v.Code == 0 {
		return 0, protocolError("CLOSE without a code")
	}
	return v.Code, nil
}

// ParseClose reads the body of a CLOSE record.
func ParseClose(body []byte) (Code, error) { return parseClose(body) }
