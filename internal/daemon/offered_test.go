package daemon_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
)

// listening connects until the daemon listens, and returns its first event.
func (h *host) listening(target string) (*control.ConnectEvent, error) {
	h.t.Helper()
	var first *control.ConnectEvent
	done := errors.New("seen")
	err := h.client.Connect(h.t.Context(), &control.ConnectRequest{Target: target, Listen: "127.0.0.1:0", AnyUser: true}, func(ev *control.ConnectEvent) error {
		first = ev
		return done
	})
	if errors.Is(err, done) {
		err = nil
	}
	return first, err
}

func warned(list []control.Warning, code string) bool {
	return slices.ContainsFunc(list, func(w control.Warning) bool { return w.Code == code })
}

// checkOffers names services that are not there, or are down: gpu1 offers echo, which laptop may use; nas issues.
func checkOffers(t *testing.T, nas, gpu, laptop *host) {
	t.Helper()
	grant := func(who, what string) *control.GrantResult {
		t.Helper()
		g, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: who, What: what, WaitMS: 20_000})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, c := range []struct {
		who, what, offered string
		warns              bool
	}{
		{"laptop", "gpu1/none", "unknown", false}, // nas is not told of what it may not use
		{"laptop", "nas/none", "no", true},
		{"nas", "gpu1/none", "no", true},
		{"nas", "gpu1/echo", "yes", false},
		{"laptop", "gpu1/*", "", false},
	} {
		g := grant(c.who, c.what)
		if g.Offered != c.offered || warned(g.Warnings, "not-offered") != c.warns {
			t.Errorf("%s -> %s: offered %q, %+v", c.who, c.what, g.Offered, g.Warnings)
		}
		if g.Grant.ID == "" {
			t.Errorf("%s -> %s: no grant", c.who, c.what)
		}
	}
	if g := grant("any", "none"); g.Offered != "no" || !strings.Contains(g.Warnings[0].Text, "nobody offers") {
		t.Errorf("a service of nobody: %q, %+v", g.Offered, g.Warnings)
	}

	// laptop may use gpu1/none, which is not there.
	eventually(t, "laptop is told that there is no such service", patience, func() bool {
		_, err := laptop.listening("gpu1/none")
		e := control.AsError(err)
		return e != nil && e.Code == control.NotFound && strings.Contains(e.Message, `no service "none"`) && strings.Contains(e.Message, "echo")
	})
	if _, err := laptop.client.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/none"}); control.AsError(err).Code != control.NotFound {
		t.Errorf("a stream to it: %v", err)
	}
	if ev, err := laptop.listening("gpu1/echo"); err != nil || len(ev.Warnings) > 0 {
		t.Errorf("one that is up: %+v, %v", ev, err)
	}

	// One that is down.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	ln.Close()
	x, err := gpu.client.Expose(t.Context(), &control.ExposeRequest{Name: "dead", Target: at})
	if err != nil {
		t.Fatal(err)
	}
	if x.Service.State != "down" || !warned(x.Warnings, "target-silent") || !strings.Contains(x.Warnings[0].Text, "nothing answers on "+at) {
		t.Errorf("exposed, and nothing is there: %+v", x)
	}
	eventually(t, "laptop is told that it is down", patience, func() bool {
		ev, err := laptop.listening("gpu1/dead")
		return err == nil && warned(ev.Warnings, "service-down")
	})

	// Nobody can know what a machine offers that is off.
	gpu.stop()
	eventually(t, "laptop says that it does not know", patience, func() bool {
		ev, err := laptop.listening("gpu1/echo")
		return err == nil && warned(ev.Warnings, "service-unknown")
	})
	gpu.start()
	eventually(t, "gpu1 is back", patience, func() bool { return laptop.peerState("gpu1") == "up/full" && nas.peerState("gpu1") == "up/full" })
}
