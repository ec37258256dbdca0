package handshake

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// never and always decide the early drop.
func never() float64  { return 0.999999 }
func always() float64 { return 0 }

// enterN enters n connections from sources that next names and returns how many got a place and how to give them back.
func enterN(b *Budget, n int, known, full bool, next func(i int) netip.Addr) (in int, release func()) {
	var fs []func()
	for i := range n {
		if f, ok := b.Enter(next(i), known, full); ok {
			fs = append(fs, f)
		}
	}
	return len(fs), func() {
		for _, f := range fs {
			f()
		}
	}
}

// spread gives every connection a site of its own.
func spread(i int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1}) }

func TestBudgetPerSource(t *testing.T) {
	for name, c := range map[string]struct {
		next func(i int) netip.Addr
		want int
	}{
		"one IPv4 address":        {func(int) netip.Addr { return addr("192.0.2.1") }, budgetPerSource},
		"the same, mapped":        {func(i int) netip.Addr { return addr([]string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2]) }, budgetPerSource},
		"one IPv6 /64":            {func(i int) netip.Addr { return addr(fmt.Sprintf("2001:db8::%x", i+1)) }, budgetPerSource},
		"one IPv4 /24":            {func(i int) netip.Addr { return addr(fmt.Sprintf("192.0.2.%d", i)) }, budgetPerNetwork},
		"one IPv6 /48":            {func(i int) netip.Addr { return addr(fmt.Sprintf("2001:db8:0:%x::1", i)) }, budgetPerNetwork},
		"one link-local address":  {func(int) netip.Addr { return addr("fe80::1%eth0") }, budgetPerSource},
		"link-local, two links":   {func(i int) netip.Addr { return addr(fmt.Sprintf("fe80::1%%eth%d", i%2)) }, budgetPerSource},
		"many link-local":         {func(i int) netip.Addr { return addr(fmt.Sprintf("fe80::%x", i+1)) }, budgetPerNetwork},
		"everywhere":              {spread, budgetTotal * (100 - budgetKept) / 100},
		"an address that is none": {func(int) netip.Addr { return netip.Addr{} }, budgetPerSource},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBudget(BudgetLimits{Random: never})
			for range 3 { // what is given back can be had again
				in, release := enterN(b, 200, false, false, c.next)
				if in != c.want {
					t.Errorf("%d connections, want %d", in, c.want)
				}
				release()
				release()
				if s, k, m := b.Held(); s != 0 || k != 0 || m != 0 || len(b.bySource) != 0 || len(b.byNetwork) != 0 {
					t.Errorf("after release %d %d %d are held, %v %v", s, k, m, b.bySource, b.byNetwork)
				}
			}
		})
	}
}

// TestBudgetKeepsPlaces: strangers fill half; addresses of the peer table get in all the same, up to the total.
func TestBudgetKeepsPlaces(t *testing.T) {
	b := NewBudget(BudgetLimits{Random: never})
	strangers, _ := enterN(b, 1000, false, false, spread)
	known, _ := enterN(b, 1000, true, false, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{12, 0, byte(i >> 8), byte(i)}) })
	if strangers != 128 || known != 128 {
		t.Errorf("%d strangers and %d known, want 128 each", strangers, known)
	}
	if _, ok := b.Enter(addr("13.0.0.1"), true, false); ok {
		t.Error("more than the total")
	}
	c := b.Counts()
	if c.Early != 1000-128 || c.Total != 1000-128+1 {
		t.Errorf("counts %+v", c)
	}
}

// TestBudgetKnownPerSource: one known address cannot take all that is kept.
func TestBudgetKnownPerSource(t *testing.T) {
	b := NewBudget(BudgetLimits{Random: never})
	if in, _ := enterN(b, 100, true, false, func(int) netip.Addr { return addr("192.0.2.1") }); in != budgetPerSource {
		t.Errorf("%d connections of one known address", in)
	}
	// Many known hosts share a site: a LAN.
	if in, _ := enterN(b, 100, true, false, func(i int) netip.Addr { return addr(fmt.Sprintf("192.0.2.%d", 100+i)) }); in != 100 {
		t.Errorf("%d known neighbours", in)
	}
}

// TestBudgetEarlyDrop: nobody is dropped below half of the strangers' part, everybody at its end, linearly between.
func TestBudgetEarlyDrop(t *testing.T) {
	b := NewBudget(BudgetLimits{Random: always})
	if in, _ := enterN(b, 1000, false, false, spread); in != 65 { // at 65 held the probability is first above 0
		t.Errorf("%d connections before the first drop, want 65", in)
	}
	for _, c := range []struct {
		held int
		want float64
	}{{0, -1}, {64, 0}, {80, 0.25}, {96, 0.5}, {112, 0.75}, {128, 1}} {
		b.strangers = c.held
		if got := b.dropLocked(); got != c.want {
			t.Errorf("at %d held, probability %v, want %v", c.held, got, c.want)
		}
	}
}

// TestBudgetMembers: an address with a FULL session has its own budget, untouched by strangers and not touching theirs.
func TestBudgetMembers(t *testing.T) {
	b := NewBudget(BudgetLimits{Random: never})
	enterN(b, 1000, false, false, spread)
	one := func(int) netip.Addr { return addr("192.0.2.1") }
	in, release := enterN(b, 2000, false, true, one)
	if in != budgetPerMember {
		t.Errorf("%d connections of one member, want %d", in, budgetPerMember)
	}
	release()
	in, _ = enterN(b, 40_000, true, true, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{12, 0, byte(i >> 8), byte(i)}) })
	if in != budgetMembers {
		t.Errorf("%d connections of all members, want %d", in, budgetMembers)
	}
	if c := b.Counts(); c.Member != 2000-budgetPerMember+40_000-budgetMembers {
		t.Errorf("counts %+v", c)
	}
}

// TestBudgetHandshakes: 20/s, burst 5, per source.
func TestBudgetHandshakes(t *testing.T) {
	b := NewBudget(BudgetLimits{})
	start := time.Now()
	count := func(src string, now time.Time) (n int) {
		for range 1000 {
			if b.Handshake(addr(src), now) {
				n++
			}
		}
		return n
	}
	if n := count("192.0.2.1", start); n != 5 {
		t.Errorf("burst %d", n)
	}
	if n := count("192.0.2.2", start); n != 5 {
		t.Errorf("burst of another source %d", n)
	}
	if n := count("192.0.2.1", start.Add(100*time.Millisecond)); n != 2 {
		t.Errorf("%d in the next 100 ms", n)
	}
	if n := count("192.0.2.1", start.Add(time.Hour)); n != 5 {
		t.Errorf("%d after an hour", n)
	}
	if n := count("192.0.2.1", start); n != 0 {
		t.Errorf("%d when the clock goes back", n)
	}
}

// TestSourceTableIsBounded: a flood of sources forgets the one unseen longest, and grows nothing.
func TestSourceTableIsBounded(t *testing.T) {
	var tab sourceTable[int]
	first := sourceOf(addr("9.9.9.9"))
	*tab.get(first) = 7
	for i := range 3 * sourceEntries {
		*tab.get(sourceOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})))++
		if i%1000 == 0 && *tab.get(first) != 7 {
			t.Fatal("a source in use is forgotten")
		}
		if len(tab.byKey) > sourceEntries || tab.order.Len() != len(tab.byKey) {
			t.Fatal("table grows")
		}
	}
	for i := range sourceEntries {
		tab.get(sourceOf(netip.AddrFrom4([4]byte{14, byte(i >> 16), byte(i >> 8), byte(i)})))
	}
	if *tab.get(first) != 0 {
		t.Error("the source unseen longest is still there")
	}
}

// TestBudgetConcurrent is for the race detector.
func TestBudgetConcurrent(t *testing.T) {
	b := NewBudget(BudgetLimits{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				if f, ok := b.Enter(spread(g*500+i), g%2 == 0, g%3 == 0); ok {
					b.Handshake(spread(i), time.Now())
					f()
				}
			}
		})
	}
	wg.Wait()
	if s, k, m := b.Held(); s+k+m != 0 {
		t.Errorf("%d %d %d are held", s, k, m)
	}
}
