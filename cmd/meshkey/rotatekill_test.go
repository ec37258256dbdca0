package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// kill ends the daemon as the kernel does when memory is out: nothing is written, nobody is told.
func (m *machine) kill() {
	m.cmd.Process.Kill()
	<-m.done
	m.cmd = nil
}

func (m *machine) client() *control.Client {
	return control.NewClient(filepath.Join(m.dir, "meshkey.sock"))
}

func (m *machine) holds(pattern string) int {
	l, _ := filepath.Glob(filepath.Join(m.dir, pattern)) // the pattern is from here
	return len(l)
}

// killPoints are the moments of a rotation that can be seen from outside, in their order: before anything is written, with the new key, with
// the issuer's invite, with the old key aside, and with the log of the new one.
var killPoints = []string{"", "node-next.age", "rotation", "node-old-*.age", "audit/*"}

// kills is one mesh in which daemons are killed while a key is rotated.
type kills struct {
	*operator
	rotated map[string]int // by machine: how often its key has changed
}

// found makes the mesh, and a service that pi4 may use.
func (k *kills) found() {
	t := k.t
	k.mesh()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	k.must("nas", "expose", "echo", ln.Addr().String())
	k.must("nas", "grant", "pi4", "nas/echo", "--wait", "0s")
	k.whole("at first")
}

// echoes reports whether pi4 can use nas's service.
func (k *kills) echoes() bool {
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Second)
	defer cancel()
	s, err := k.at["pi4"].client().Stream(ctx, &control.ConnectRequest{Target: "nas/echo"})
	if err != nil {
		return false
	}
	defer s.Close()
	_, _ = s.Write([]byte("ping"))
	var b [4]byte
	_, err = io.ReadFull(s, b[:])
	return err == nil && string(b[:]) == "ping"
}

// whole waits until both machines work as who they are, with what they were granted, and wants their logs to verify back to their first keys.
func (k *kills) whole(when string) {
	k.t.Helper()
	ids := map[string]string{}
	k.eventually("each is the one the other has a session with, "+when, func() bool {
		for name, other := range map[string]string{"nas": "pi4", "pi4": "nas"} {
			s, err := k.at[name].client().Status(k.t.Context())
			if err != nil || k.at[name].holds("rotation") > 0 {
				return false
			}
			p, err := k.at[other].client().Peers(k.t.Context())
			if err != nil {
				return false
			}
			is := false
			for _, x := range p.Peers {
				is = is || x.ID == s.Node.ID && x.Name == name && x.Session == "full"
				if x.ID != s.Node.ID && x.Name == name && x.State != "revoked" {
					return false // two keys of one machine
				}
			}
			if !is {
				return false
			}
			ids[name] = s.Node.ID
		}
		return true
	})
	k.eventually("pi4 uses what it was granted, "+when, k.echoes)
	for name, m := range k.at {
		if ids[name] == "" {
			continue
		}
		r, err := m.client().AuditVerify(k.t.Context())
		if err != nil || !r.OK || !strings.Contains(r.Log, ids[name]) {
			k.t.Fatalf("%s: the audit log of %s: %+v, %v", when, name, r, err)
		}
		for _, b := range r.Before {
			if !b.OK || b.State != "" {
				k.t.Fatalf("%s: an earlier audit log of %s: %+v", when, name, b)
			}
		}
		if old := m.holds("node-old-*.age"); len(r.Before) != old || old < k.rotated[name] {
			k.t.Fatalf("%s: %s has %d keys before this one, and %d logs of them", when, name, old, len(r.Before))
		}
		k.rotated[name] = m.holds("node-old-*.age")
	}
}

// round kills a daemon in the middle of a rotation: when a file shows how far that is, and a moment later.
func (k *kills) round(victim, who, point string, later time.Duration) {
	k.t.Helper()
	m := k.at[who]
	before := 0
	if point != "" {
		before = m.holds(point)
	}
	over := make(chan error, 1)
	go func() {
		_, err := m.client().RotateNode(k.t.Context(), &control.RotateNodeRequest{})
		over <- err
	}()
	for end := time.Now().Add(patience); point != "" && m.holds(point) <= before; {
		if time.Now().After(end) {
			k.t.Fatalf("no %s", point)
		}
		if k.rotatedSince(who) {
			break // it was there and is gone
		}
	}
	<-time.After(later)
	k.at[victim].kill()
	at := fmt.Sprintf("%s rotates, %s is killed %v after %q", who, victim, later, point)
	left := []string{}
	for _, f := range []string{"node-next.age", "rotation"} {
		if m.holds(f) > 0 {
			left = append(left, f)
		}
	}
	if err := k.at[victim].start(); err != nil {
		k.t.Fatalf("%s: %v", at, err)
	}
	err := <-over
	was := k.rotated[who]
	k.whole("when " + at)
	k.t.Logf("%s: left %v, %d rotation made; %v", at, left, k.rotated[who]-was, err)
}

func (k *kills) rotatedSince(who string) bool {
	return k.at[who].holds("node-old-*.age") > k.rotated[who] && k.at[who].holds("rotation") == 0
}

// A daemon that is killed at any moment of its key's rotation, and an issuer that is killed while it rotates another's, come back: each
// machine is a member with its old key or its new one, has what it was granted, and its audit logs verify.
func TestRotationKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts daemons")
	}
	t.Parallel()
	if !testrun.Whole() {
		k := &kills{operator: &operator{t: t}, rotated: map[string]int{}}
		defer k.end()
		k.found()
		k.round("pi4", "pi4", "rotation", 0)
		k.round("pi4", "pi4", "node-old-*.age", 0)
		k.round("nas", "pi4", "rotation", 0)
		return
	}
	for mesh := range 8 {
		t.Run(fmt.Sprint(mesh), func(t *testing.T) {
			k := &kills{operator: &operator{t: t}, rotated: map[string]int{}}
			defer k.end()
			k.found()
			for i := range 6 { // a day has eight rotations of one member
				later := time.Duration(rand.Int64N(int64(time.Millisecond) << rand.IntN(8)))
				point := killPoints[(mesh+i)%len(killPoints)]
				switch {
				case i < 4:
					k.round("pi4", "pi4", point, later)
				case i == 4:
					k.round("nas", "pi4", point, later)
				default:
					k.round("nas", "nas", point, later)
				}
			}
		})
	}
}
