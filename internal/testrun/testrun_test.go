package testrun

import (
	"flag"
	"testing"
)

func TestWholeRunLeavesNothingOut(t *testing.T) {
	t.Setenv(wholeEnv, "1")
	if !Whole() || Stride(5) != 1 || Cases(100, 10) != 100 {
		t.Fatal(Whole(), Stride(5), Cases(100, 10))
	}
	inner := &skipper{TB: t}
	if Scenario(inner); inner.why != "" {
		t.Fatal("a scenario was left out: " + inner.why)
	}
}

func TestShorterRuns(t *testing.T) {
	t.Setenv(wholeEnv, "")
	stride, cases := 5, 24
	if Race {
		stride, cases = 41, 3
	}
	if Whole() || Stride(5) != stride || Cases(100, 24) != cases || Cases(100, 1) != 1 {
		t.Fatal(Whole(), Stride(5), Cases(100, 24), Cases(100, 1))
	}
	inner := &skipper{TB: t}
	if Scenario(inner); inner.why == "" {
		t.Fatal("a scenario was not left out")
	}
}

// skipper notes that a test would have been skipped.
type skipper struct {
	testing.TB
	why string
}

func (s *skipper) Skip(args ...any) { s.why = args[0].(string) }

func TestAtOnce(t *testing.T) {
	f := flag.Lookup("test.parallel")
	was := f.Value.String()
	t.Cleanup(func() { f.Value.Set(was) })
	AtOnce(7)
	if got := f.Value.String(); got != "7" {
		t.Fatal(got)
	}
}
