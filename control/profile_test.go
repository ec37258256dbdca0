package control_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

func code(err error) control.Code {
	if e := control.AsError(err); e != nil {
		return e.Code
	}
	return control.Done
}

// Profiles are of known names, of bounded length, and one at a time: the runtime has one profiler.
func TestProfiles(t *testing.T) {
	c, _, _ := start(t, controltest.New(), nil)
	for _, name := range []string{"heap", "allocs", "goroutine", "threadcreate"} {
		var b bytes.Buffer
		if err := c.Profile(t.Context(), name, 0, &b); err != nil || b.Len() < 100 || b.Bytes()[0] != 0x1f {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
	}
	for name, want := range map[string]control.Code{"block": control.NotFound, "cmdline": control.NotFound, "../status": control.NotFound, "x y": control.NotFound} {
		if err := c.Profile(t.Context(), name, 0, io.Discard); code(err) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := c.Profile(t.Context(), "profile", time.Hour, io.Discard); code(err) != control.Usage {
		t.Error("an hour:", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- c.Profile(ctx, "trace", time.Minute, &announce{began: began}) }()
	<-began
	if err := c.Profile(t.Context(), "heap", 0, io.Discard); code(err) != control.Failed {
		t.Error("a second one:", err)
	}
	cancel() // and a client that goes away ends its own
	<-done
	for deadline := time.Now().Add(patience); ; {
		err := c.Profile(t.Context(), "heap", 0, io.Discard)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the profiler is not given back:", err)
		}
	}
}

// announce tells of the first byte.
type announce struct{ began chan struct{} }

func (a *announce) Write(p []byte) (int, error) {
	if a.began != nil {
		close(a.began)
		a.began = nil
	}
	return len(p), nil
}
