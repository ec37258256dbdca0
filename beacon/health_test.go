package beacon

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// A summary is read as it was signed, at its largest too; with any bit changed, for another mesh, under another label or another name it
// is none.
func TestHealthIsItsNodesWord(t *testing.T) {
	key, other := keys.NewSigningKey(), keys.NewSigningKey()
	mesh := keys.MeshID{1}
	h := Health{Node: key.NodeID(), TimeMS: 1_800_000_000_000, Summary: bytes.Repeat([]byte{7}, MaxSummary)}
	raw, err := h.Sign(mesh, key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseHealth(raw, mesh)
	if err != nil || got.Node != h.Node || got.TimeMS != h.TimeMS || !bytes.Equal(got.Summary, h.Summary) {
		t.Fatalf("%v %v", got, err)
	}
	if len(raw) > MaxEnvelope {
		t.Fatalf("%d bytes", len(raw))
	}
	if _, err := h.Sign(mesh, other); err == nil {
		t.Fatal("signed for another node")
	}
	for _, n := range []int{0, MaxSummary + 1} {
		bad := h
		bad.Summary = make([]byte, n)
		if _, err := bad.Sign(mesh, key); !errors.Is(err, ErrHealth) {
			t.Fatalf("%d bytes of summary: %v", n, err)
		}
		if raw := identity.Seal(keys.LabelHealth, mesh, wire.MustMarshal(&bad), key).Encode(); n > 0 {
			if _, err := ParseHealth(raw, mesh); !errors.Is(err, ErrHealth) {
				t.Fatalf("%d bytes of summary were read: %v", n, err)
			}
		}
	}
	refused := map[string][]byte{
		"by another node": identity.Seal(keys.LabelHealth, mesh, wire.MustMarshal(&h), other).Encode(),
		"another label":   identity.Seal(keys.LabelBeacon, mesh, wire.MustMarshal(&h), key).Encode(),
		"another mesh":    identity.Seal(keys.LabelHealth, keys.MeshID{2}, wire.MustMarshal(&h), key).Encode(),
		"nothing":         nil,
		"no summary":      identity.Seal(keys.LabelHealth, mesh, []byte{0xa0}, key).Encode(),
	}
	for what, raw := range refused {
		if _, err := ParseHealth(raw, mesh); !errors.Is(err, ErrHealth) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			if _, err := ParseHealth(bad, mesh); !errors.Is(err, ErrHealth) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

// Neither a summary from the future, which would stay the newest, nor one of yesterday is fresh; no time overflows.
func TestHealthFresh(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, c := range []struct {
		ago  time.Duration
		want bool
	}{{0, true}, {-maxSkew, true}, {-maxSkew - time.Millisecond, false}, {HealthLife, true}, {HealthLife + time.Millisecond, false}} {
		h := Health{TimeMS: uint64(now.Add(-c.ago).UnixMilli())}
		if h.Fresh(now) != c.want {
			t.Errorf("%v ago: %v", c.ago, !c.want)
		}
	}
	for _, ms := range []uint64{0, math.MaxUint64, math.MaxInt64} {
		if (&Health{TimeMS: ms}).Fresh(now) {
			t.Errorf("%d is fresh", ms)
		}
	}
	if (&Health{TimeMS: 1}).Fresh(time.UnixMilli(-5)) != true {
		t.Error("a clock before 1970")
	}
}

// FuzzHealth: what parses encodes to the same bytes and is within its bounds; what does not parse gives nothing.
func FuzzHealth(f *testing.F) {
	key := keys.NewSigningKey()
	for _, n := range []int{1, MaxSummary} {
		h := Health{Node: key.NodeID(), TimeMS: 1_800_000_000_000, Summary: make([]byte, n)}
		raw, err := h.Sign(keys.MeshID{1}, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, e, err := parseHealth(b)
		if err != nil {
			if h != nil || e != nil {
				t.Fatal("a summary beside an error")
			}
			return
		}
		if again := wire.MustMarshal(h); !bytes.Equal(again, e.Payload) || !bytes.Equal(e.Encode(), b) {
			t.Fatalf("parsed %x, encoded %x", e.Payload, again)
		}
		if len(h.Summary) == 0 || len(h.Summary) > MaxSummary {
			t.Fatalf("%d bytes of summary", len(h.Summary))
		}
	})
}
