package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Code is the class of an outcome. It is the exit code of the command line and the one table of exit codes there is.
type Code int

const (
	Done        Code = 0   // it happened
	Failed      Code = 1   // it did not, for a reason the message tells
	Usage       Code = 2   // the request makes no sense as given
	NotRunning  Code = 3   // no daemon answers on the socket
	NotFound    Code = 4   // no such peer, service, grant, invite or entry
	Denied      Code = 5   // policy of the mesh says no
	Unverified  Code = 6   // something signed or hashed does not verify
	Unreachable Code = 7   // the peer cannot be reached, or not in time
	Degraded    Code = 8   // works, but something needs attention
	Waiting     Code = 9   // waits for an approval
	InUse       Code = 75  // another process uses the state directory, the socket or the address
	Interrupted Code = 130 // stopped by the user
)

// codes lists every code once, with its word in JSON and the HTTP status that carries it.
var codes = []struct {
	code   Code
	word   string
	status int
}{
	{Done, "done", http.StatusOK},
	{Failed, "failed", http.StatusInternalServerError},
	{Usage, "usage", http.StatusBadRequest},
	{NotRunning, "not-running", http.StatusServiceUnavailable},
	{NotFound, "not-found", http.StatusNotFound},
	{Denied, "denied", http.StatusForbidden},
	{Unverified, "unverified", http.StatusUnprocessableEntity},
	{Unreachable, "unreachable", http.StatusGatewayTimeout},
	{Degraded, "degraded", http.StatusServiceUnavailable},
	{Waiting, "waiting", http.StatusConflict},
	{InUse, "in-use", http.StatusConflict},
	{Interrupted, "interrupted", http.StatusServiceUnavailable},
}

// String returns the code's word.
func (c Code) String() string {
	for _, k := range codes {
		if k.code == c {
			return k.word
		}
	}
	return "failed"
}

// status returns the HTTP status that carries the code.
func (c Code) status() int {
	for _, k := range codes {
		if k.code == c {
			return k.status
		}
	}
	return http.StatusInternalServerError
}

// known reports whether c is a code of the table.
func (c Code) known() bool {
	for _, k := range codes {
		if k.code == c {
			return true
		}
	}
	return false
}

// Error is a failure as a person needs it: what happened, in one sentence, and what to do about it. Backends return it (any
// other error becomes a Failed with its text), the server sends it, the client returns it, the command line prints it.
type Error struct {
	Code    Code    `json:"code"`
	Message string  `json:"message"`
	Next    string  `json:"next,omitempty"`   // a command or an action; empty if there is nothing to do
	Denial  *Denial `json:"denial,omitempty"` // with code Denied: why, and which grant would help
	cause   error
}

// Error returns the message alone: the next step is printed on a line of its own.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what the error was made of, on the side that made it. It does not travel.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an Error. A %w in format keeps the cause.
func Errorf(code Code, next, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Next: next, cause: errors.Unwrap(err)}
}

// Refuse makes the error for an access that policy denies.
func Refuse(d Denial) *Error {
	return &Error{Code: Denied, Message: d.text(), Next: d.Command, Denial: &d}
}

// AsError returns the Error in err's chain; an ended deadline becomes Unreachable, a cancelled context Interrupted, and
// anything else a Failed with its text. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Code: Interrupted, Message: "interrupted", cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: Unreachable, Message: "no answer in time: " + err.Error(), cause: err}
	}
	return &Error{Code: Failed, Message: err.Error(), cause: err}
}

// text is the denial in one line: who may not use what, and why.
func (d Denial) text() string {
	s := fmt.Sprintf("denied: %s may not use %s", d.From, d.Target)
	switch {
	case d.Near != "" && d.Reason != "":
		s += fmt.Sprintf(" (%s; nearest %s)", d.Reason, d.Near)
	case d.Near != "":
		s += fmt.Sprintf(" (nearest %s)", d.Near)
	case d.Reason != "":
		s += fmt.Sprintf(" (%s)", d.Reason)
	}
	return s
}

// Codes returns the table, in order.
func Codes() []Code {
	var out []Code
	for _, k := range codes {
		out = append(out, k.code)
	}
	return out
}

// refused reads the reason that is there in place of a stream.
func refused(ctx context.Context, resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
	if err != nil {
		return lost(ctx, err)
	}
	return readError(resp, data)
}
