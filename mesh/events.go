package mesh

import (
	"context"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// EventKind says what an [Event] is about.
type EventKind string

// The kinds of events.
const (
	EventPeer    EventKind = "peer"    // a peer's presence changed
	EventTrust   EventKind = "trust"   // the trust state changed
	EventStream  EventKind = "stream"  // a stream was opened or closed
	EventDenied  EventKind = "denied"  // a stream was refused here
	EventService EventKind = "service" // a peer's services changed
	EventAlarm   EventKind = "alarm"   // something a person should look at
)

// Event is one change a program may want to know of.
type Event struct {
	Time    time.Time
	Kind    EventKind
	Node    keys.NodeID // the peer concerned, zero if none
	Service string
	Text    string
}

// Subscription is a stream of events.
type Subscription struct {
	C <-chan Event

	hub    *hub
	c      chan Event
	missed uint64 // guarded by hub.mu
}

// Missed returns how many events were dropped because the subscriber was slow, and forgets the number.
func (s *Subscription) Missed() uint64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	m := s.missed
	s.missed = 0
	return m
}

type hub struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
}

// Events subscribes to changes until ctx ends; then the channel is closed.
func (n *Node) Events(ctx context.Context) *Subscription {
	c := make(chan Event, eventBuffer)
	s := &Subscription{C: c, c: c, hub: &n.hub}
	n.hub.mu.Lock()
	if n.hub.subs == nil {
		n.hub.subs = map[*Subscription]struct{}{}
	}
	n.hub.subs[s] = struct{}{}
	n.hub.mu.Unlock()
	context.AfterFunc(ctx, func() {
		n.hub.mu.Lock()
		defer n.hub.mu.Unlock()
		delete(n.hub.subs, s)
		close(c)
	})
	return s
}

// notify tells every subscriber, without waiting for any.
func (n *Node) notify(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	for s := range n.hub.subs {
		select {
		case s.c <- e:
		default:
			select {
			case <-s.c:
				s.missed++
			default:
			}
			select {
			case s.c <- e:
			default:
				s.missed++
			}
		}
	}
}
