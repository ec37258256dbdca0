package session

import (
	"fmt"
	"strings"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// The types of stream records. Others below 128 reset the stream; from 128 on they are ignored and counted.
const (
	typeData   = 0
	typeOpen   = 1
	typeAccept = 2
	typeRefuse = 3
	typeEOF    = 4
	typeReset  = 5
	typeRekey  = 6
	typeWarm   = 7
)

// The services of relays. OPEN for one of them carries a node id in the place of the flags.
const (
	// RelayService asks a relay for a connection to Target.
	RelayService = "!relay"
	// RelayInService is the relay's connection to the target, on behalf of Target.
	RelayInService = "!relay-in"
)

// Request is what OPEN asks for.
type Request struct {
	// Service is a service's name, one DNS label, or one of the names beginning with "!" that this package defines.
	Service string
	// Flags are the options of the stream; none is defined in this version, and unknown ones are ignored.
	Flags uint64
	// Target is the other node of a relayed connection: set exactly if Service is a relay's.
	Target keys.NodeID
}

func (r Request) relayed() bool { return r.Service == RelayService || r.Service == RelayInService }

func (r Request) check() error {
	if r.relayed() {
		if r.Target.IsZero() || r.Flags != 0 {
			return fmt.Errorf("%s wants a node id and no flags", r.Service)
		}
		return nil
	}
	if !r.Target.IsZero() {
		return fmt.Errorf("service %s takes no node id", r.Service)
	}
	return checkService(r.Service)
}

type openWire struct {
	_       struct{} `cbor:",toarray"`
	Service string
	Flags   uint64
}

type relayWire struct {
	_       struct{} `cbor:",toarray"`
	Service string
	Target  keys.NodeID
}

type refuseWire struct {
	_     struct{} `cbor:",toarray"`
	Code  Code
	Audit uint64
}

type numberWire struct {
	_ struct{} `cbor:",toarray"`
	N uint64
}

type emptyWire struct {
	_ struct{} `cbor:",toarray"`
}

// encodeOpen is [service, flags], or [relay service, node id bstr32].
func encodeOpen(r Request) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.relayed() {
		return wire.Marshal(relayWire{Service: r.Service, Target: r.Target})
	}
	return wire.Marshal(openWire{Service: r.Service, Flags: r.Flags})
}

func parseOpen(body []byte) (Request, error) {
	var r Request
	// The array of two and the text's header are at most three bytes; a service's name tells which form it is.
	var err error
	if len(body) > 2 && strings.HasPrefix(string(body[2:]), "!") {
		var w relayWire
		err = strictBody(body, &w)
		r = Request{Service: w.Service, Target: w.Target}
		if err == nil && !r.relayed() {
			err = fmt.Errorf("unknown service %q", w.Service)
		}
	} else {
		var w openWire
		err = strictBody(body, &w)
		r = Request{Service: w.Service, Flags: w.Flags}
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return Request{}, protocolError("OPEN: %v", err)
	}
	return r, nil
}

// encodeRefuse is [code, audit index].
func encodeRefuse(e RefusedError) []byte {
	return wire.MustMarshal(refuseWire{Code: e.Code, Audit: e.AuditIndex})
}

func parseRefuse(body []byte) (*RefusedError, error) {
	var w refuseWire
	if err := strictBody(body, &w); err != nil {
		return nil, protocolError("REFUSE: %v", err)
	}
	if w.Code == 0 {
		return nil, protocolError("REFUSE without a code")
	}
	return &RefusedError{Code: w.Code, AuditIndex: w.Audit}, nil
}

// encodeReset is [code].
func encodeReset(c Code) []byte { return wire.MustMarshal(closeBody{Code: c}) }

func parseReset(body []byte) (*ResetError, error) {
	var w closeBody
	if err := strictBody(body, &w); err != nil {
		return nil, protocolError("RESET: %v", err)
	}
	if w.Code == 0 {
		return nil, protocolError("RESET without a code")
	}
	return &ResetError{Code: w.Code}, nil
}

// encodeRekey is [generation].
func encodeRekey(generation uint64) []byte { return wire.MustMarshal(numberWire{N: generation}) }

func parseRekey(body []byte) (uint64, error) {
	var w numberWire
	if err := strictBody(body, &w); err != nil {
		return 0, protocolError("REKEY: %v", err)
	}
	return w.N, nil
}

// encodeWarm is [reverse 0|1].
func encodeWarm(reverse bool) []byte {
	var w numberWire
	if reverse {
		w.N = 1
	}
	return wire.MustMarshal(w)
}

func parseWarm(body []byte) (reverse bool, err error) {
	var w numberWire
	if err := strictBody(body, &w); err != nil {
		return false, protocolError("WARM: %v", err)
	}
	if w.N > 1 {
		return false, protocolError("WARM: %v", errFlag)
	}
	return w.N == 1, nil
}

// emptyBody is [] : the body of ACCEPT and EOF.
var emptyBody = string(wire.MustMarshal(emptyWire{}))

func parseEmpty(name string, body []byte) error {
	if string(body) != emptyBody {
		return protocolError("%s has a body", name)
	}
	return nil
}

func strictBody(body []byte, v any) error {
	if len(body) > maxStreamBody {
		return fmt.Errorf("body of %d bytes", len(body))
	}
	return wire.Unmarshal(body, v)
}
