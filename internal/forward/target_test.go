package forward

import (
	"errors"
	"net"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]string{
		"80":                      "127.0.0.1:80",
		"11434":                   "127.0.0.1:11434",
		"localhost:80":            "localhost:80",
		"NAS.local:443":           "nas.local:443",
		"192.168.1.5:443":         "192.168.1.5:443",
		"[::1]:22":                "[::1]:22",
		"[2001:DB8::0]:22":        "[2001:db8::]:22",
		"unix:/run/postgres/.s.1": "unix:/run/postgres/.s.1",
	} {
		got, err := ParseTarget(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "0", "65536", "-1", "+80", "http", ":80", "host:", "host:http", "::1:22", "0.0.0.0:80", "[::]:80", "[::ffff:1.2.3.4]:80",
		"224.0.0.1:80", "127.1:80", "300.1.1.1:80", "ho st:80", "host:80:90", "host\x00:80", "unix:", "unix:rel", "unix:/", "unix:/a/../b", "unix:/a/",
		"unix:/a\nb", "unix:/" + strings.Repeat("x", maxUnixPath), strings.Repeat("a", 400) + ":80",
	} {
		if got, err := ParseTarget(in); !errors.Is(err, ErrTarget) || !got.IsZero() {
			t.Errorf("%q was accepted as %q (%v)", in, got, err)
		}
	}
}

func TestTargetPort(t *testing.T) {
	for in, want := range map[string]uint16{"80": 80, "[::1]:65535": 65535, "unix:/a": 0} {
		tg, err := ParseTarget(in)
		if err != nil || tg.Port() != want {
			t.Errorf("%q: port %d, %v", in, tg.Port(), err)
		}
	}
}

func TestDialOfNothing(t *testing.T) {
	if _, err := (Target{}).Dial(t.Context()); !errors.Is(err, ErrTarget) {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	tg, err := ParseTarget(addr)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := tg.Dial(t.Context()); err == nil || c != nil {
		t.Fatalf("connected to a closed port: %v", c)
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"80", "localhost:80", "[::1]:22", "unix:/run/x", "[fe80::1%eth0]:22", "a..b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseTarget(s)
		if err != nil {
			if !a.IsZero() {
				t.Fatal("an error and a target")
			}
			return
		}
		b, err := ParseTarget(a.String())
		if err != nil || a != b {
			t.Fatalf("%q -> %q -> %q, %v", s, a, b, err)
		}
	})
}
