package enroll

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// While an enrolment waits for the disk, strangers' handshakes are answered, or not, as ever: they do not pile up behind it.
func TestAnswerableWaitsForNoTransaction(t *testing.T) {
	r := newRig(t)
	id, other := r.invite("gpu1"), r.invite("gpu2")
	inside, free := make(chan struct{}), make(chan struct{})
	spent := make(chan error, 1)
	go func() {
		_, err := r.Spend(id, r.request(keys.NewSigningKey()), func(*identity.SignedCertificate, bool) error {
			close(inside)
			<-free
			return nil
		})
		spent <- err
	}()
	<-inside
	answered := make(chan [3]bool, 1)
	go func() {
		_, known := r.PSK(other)
		_, spending := r.PSK(id)
		_, unknown := r.PSK(identity.NewInviteID())
		answered <- [3]bool{known, spending, unknown}
	}()
	select {
	case got := <-answered:
		if got != [3]bool{true, true, false} {
			t.Error(got)
		}
	case <-time.After(10 * time.Second):
		t.Error("a handshake waits for an enrolment")
	}
	close(free)
	must(t, <-spent)
	if r.members() != 1 {
		t.Fatal(r.members(), "members")
	}
}
