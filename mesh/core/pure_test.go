package core

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/trust"
)

// storm is a mesh in which everything happens: loss, freezes, restarts, sleep, partitions, revocations.
func storm(t testing.TB, seed uint64) string {
	s := newSim(t, newFixture(t, 6), seed)
	s.trace = sha256.New()
	s.loss = 0.1
	for _, n := range s.nodes {
		s.in(s.between(0, 2*second), n.start)
	}
	for range 40 {
		s.runFor(s.between(0, 5*second))
		n := s.nodes[s.rng.IntN(5)] // the sixth is to be revoked
		if !n.up || n.frozen || n.asleep {
			continue
		}
		switch s.rng.IntN(7) {
		case 0:
			n.kill()
			s.runFor(s.between(0, second))
			n.start()
		case 1:
			n.freeze()
			s.runFor(s.between(0, 25*second))
			n.thaw()
		case 2:
			n.suspend(s.between(second, 40*second))
		case 3:
			s.block(n, s.nodes[s.rng.IntN(6)])
		case 4:
			s.blocked = func(_, _ *simNode) bool { return false }
		case 5:
			n.step(NetChange{})
		case 6:
			n.wall += s.between(-10*second, 10*second)
		}
	}
	s.blocked = func(_, _ *simNode) bool { return false }
	s.nodes[0].runIfAsleep()
	s.runFor(60 * second)
	for _, n := range s.nodes {
		n.runIfAsleep()
	}
	s.runFor(90 * second)
	s.wantAllSessions()
	s.nodes[1].publish(s.f.revocation(5))
	s.runFor(200 * time.Millisecond)
	if !s.synced() {
		t.Fatalf("seed %d: views differ", seed)
	}
	return hex.EncodeToString(s.trace.Sum(nil))
}

func (n *simNode) runIfAsleep() {
	if n.up && !n.asleep && !n.frozen {
		n.step(Timer{})
	}
}

// The same seed gives the same effects, to the byte; another seed gives others. All storms end in a whole mesh with one view.
func TestSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(8) {
		a, b := storm(t, seed), storm(t, seed)
		if a != b {
			t.Fatalf("seed %d gives two traces", seed)
		}
		seen[a] = true
	}
	if len(seen) != 8 {
		t.Fatal("different seeds give the same trace")
	}
}

func TestStorms(t *testing.T) {
	t.Parallel()
	n := uint64(testrun.Cases(100, 10))
	for seed := range n {
		storm(t, 1000+seed)
	}
}

// impure lists what a file does that a pure state machine must not: read a clock, start or talk to goroutines, use the global generator,
// or walk a map in its random order (but in functions that sort what they gathered, named sorted…).
func impure(fset *token.FileSet, files []*ast.File) (out []string) {
	maps := map[string]bool{} // fields, variables and parameters of map type, by name
	isMap := func(e ast.Expr) bool { _, ok := e.(*ast.MapType); return ok }
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				for _, name := range n.Names {
					maps[name.Name] = maps[name.Name] || isMap(n.Type)
				}
			case *ast.ValueSpec:
				for _, name := range n.Names {
					maps[name.Name] = maps[name.Name] || n.Type != nil && isMap(n.Type)
				}
			case *ast.AssignStmt:
				for i, r := range n.Rhs {
					made := false
					switch r := r.(type) {
					case *ast.CompositeLit:
						made = isMap(r.Type)
					case *ast.CallExpr:
						f, ok := r.Fun.(*ast.Ident)
						made = ok && f.Name == "make" && isMap(r.Args[0])
					}
					if id, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok && made {
						maps[id.Name] = true
					}
				}
			}
			return true
		})
	}
	for _, f := range files {
		for _, d := range f.Decls {
			fn, _ := d.(*ast.FuncDecl)
			sorted := fn != nil && strings.HasPrefix(fn.Name.Name, "sorted")
			ast.Inspect(d, func(n ast.Node) bool {
				bad := ""
				switch n := n.(type) {
				case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
					bad = "concurrency"
				case *ast.SelectorExpr:
					pkg, _ := n.X.(*ast.Ident)
					if pkg == nil {
						break
					}
					switch pkg.Name + "." + n.Sel.Name {
					case "time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker",
						"time.Tick":
						bad = "a clock"
					case "maps.Keys", "maps.Values", "maps.All":
						bad = "map order"
					}
					if pkg.Name == "rand" && n.Sel.Name != "New" && n.Sel.Name != "NewChaCha8" && n.Sel.Name != "Rand" {
						bad = "the global generator"
					}
				case *ast.RangeStmt:
					name := ""
					switch x := n.X.(type) {
					case *ast.Ident:
						name = x.Name
					case *ast.SelectorExpr:
						name = x.Sel.Name
					}
					if maps[name] && !sorted {
						bad = "map order"
					}
				}
				if bad != "" {
					out = append(out, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), bad))
				}
				return true
			})
		}
	}
	return out
}

func TestCoreIsPure(t *testing.T) {
	fset := token.NewFileSet()
	var files []*ast.File
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if len(files) < 10 {
		t.Fatalf("only %d files", len(files))
	}
	for _, bad := range impure(fset, files) {
		t.Error(bad)
	}
	// The test itself can fail: each line here is one thing it finds.
	lines := []string{
		"go f()", "time.Now()", "time.AfterFunc(1, f)", "rand.IntN(3)", "for range c.sessions { }", "for k := range m { _ = k }",
		"var ch chan int", "select { }", "_ = maps.Keys(m)",
	}
	for _, line := range lines {
		text := "package x\nfunc f(m map[int]int) {\n" + line + "\n}\ntype c struct{ sessions map[int]int }\n"
		f, err := parser.ParseFile(fset, "x.go", text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(impure(fset, []*ast.File{f})) == 0 {
			t.Errorf("not found: %s", line)
		}
	}
}

// Whichever event comes first starts the core.
func TestAnyEventStarts(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	for name, ev := range map[string]Event{"timer": Timer{}, "network": NetChange{}, "unknown session": SessionDown{ID: 3}} {
		c := New(Config{Self: s.nodes[0].id, Ledger: s.f.ledger()})
		var timer bool
		for _, e := range c.Step(s.nodes[0].clock(), ev) {
			_, ok := e.(SetTimer)
			timer = timer || ok
		}
		if !timer || !c.started {
			t.Errorf("%s: not started", name)
		}
	}
}

// Events about what does not exist change nothing.
func TestUnknownIDs(t *testing.T) {
	s := settledMesh(t, 2, 1)
	a := s.nodes[0]
	for _, ev := range []Event{
		DialFailed{ID: 99},
		FrameIn{ID: 99},
		HeartbeatIn{ID: 99},
		SessionDown{ID: 99},
		Want{},
		Replace{ID: 99},
		Retire{ID: 99},
		TrustIn{},
		Want{Peer: a.id},
		AddSeed{Peer: a.id, At: a.at},
		BeaconIn{Node: a.id},
	} {
		if out := a.core.Step(a.clock(), ev); len(out) > 0 {
			t.Errorf("%T: %+v", ev, out)
		}
	}
}

// large is a core that knows n members.
func large(t testing.TB, n int) (*sim, *simNode) {
	s := newSim(t, newFixture(t, n), 1)
	a := s.nodes[0]
	a.start()
	s.runFor(5 * second)
	return s, a
}

// With 2,000 members a step does not walk them: heartbeats, beacons and entries cost the same as with 20.
func TestStepsDoNotWalkAllMembers(t *testing.T) {
	testrun.Scenario(t)
	cost := func(n int) (visits uint64) {
		s, a := large(t, n)
		m := s.nodes[1]
		m.ledger = a.ledger
		a.ends[1] = nil
		delete(a.ends, 1)
		a.step(SessionUp{ID: 1, Peer: m.id, Role: 0, Boot: [16]byte{1}, Certificate: m.cert, RootVersion: 1})
		log := &countingLog{Memory: a.ledger}
		a.core.ledger = log
		before := a.core.swept
		for i := range 50 {
			a.step(HeartbeatIn{ID: 1, Ping: uint64(i)})
			a.step(m.announce())
			a.publish(s.f.write(trust.OpGrant{GID: uint64(i + 1), Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "web"}}))
		}
		if a.core.swept != before {
			t.Fatal("an entry that names nobody made all members be walked")
		}
		return log.current
	}
	if small, big := cost(20), cost(2000); big > small {
		t.Fatalf("%d looks at the log with 2,000 members, %d with 20", big, small)
	}
}

// countingLog counts how often the log is looked at.
type countingLog struct {
	*trust.Memory
	current uint64
}

func (l *countingLog) Current() *trust.State { l.current++; return l.Memory.Current() }

func BenchmarkStep(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		s, a := large(b, n)
		m := s.nodes[1]
		m.ledger = a.ledger
		a.step(SessionUp{ID: 1, Peer: m.id, Role: 0, Boot: [16]byte{1}, Certificate: m.cert, RootVersion: 1})
		now := a.clock()
		b.Run(fmt.Sprintf("heartbeat/%d", n), func(b *testing.B) {
			for b.Loop() {
				a.core.Step(now, HeartbeatIn{ID: 1})
			}
		})
		beacon := m.announce()
		b.Run(fmt.Sprintf("beacon/%d", n), func(b *testing.B) {
			for b.Loop() {
				beacon.Counter++
				a.core.Step(now, beacon)
			}
		})
		b.Run(fmt.Sprintf("entry/%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				ch := s.f.write(trust.OpRevokeNode{Node: keyOf("stranger %d %d", n, s.f.author.Current().Epoch()).NodeID(), Reason: 1})
				own := s.f.apply(a.ledger, ch.Frame)
				b.StartTimer()
				a.core.Step(now, TrustIn{Changes: []trust.Change{own}})
			}
		})
		b.Run(fmt.Sprintf("sweep/%d", n), func(b *testing.B) {
			for b.Loop() {
				a.core.sweep()
			}
		})
	}
}
