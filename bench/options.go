package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// usageError is what the caller wrote wrong.
type usageError string

func (e usageError) Error() string { return string(e) }

// options are what the caller asked for, and the durations that follow from it.
type options struct {
	quick  bool
	strict bool
	rounds int
	only   []string
	json   string
	doc    string
	dir    string
	prof   string

	t times
}

// times are how long each measurement of one turn lasts.
type times struct {
	Warm    time.Duration `json:"warm"`    // unmeasured bulk that ends every client's start
	Bulk    time.Duration `json:"bulk"`    // each of 1 and 4 streams
	Ping    time.Duration `json:"ping"`    // each of alone, beside 500 Mbit/s, beside a saturating stream
	Settle  time.Duration `json:"settle"`  // how long the load beside a ping runs before the ping counts
	Open    time.Duration `json:"open"`    // new streams, one after the other
	Idle    time.Duration `json:"idle"`    // once, all contestants at the same time
	Slow    time.Duration `json:"slow"`    // once for each contestant
	Streams int           `json:"streams"` // slow ones
}

// minRounds is how many rounds a median over rounds is worth being called one.
const minRounds = 5

var fullTimes = times{
	Warm: 500 * time.Millisecond, Bulk: 4 * time.Second, Ping: 3 * time.Second, Settle: 500 * time.Millisecond, Open: 3 * time.Second,
	Idle: 120 * time.Second, Slow: 10 * time.Second, Streams: 1000,
}

var quickTimes = times{
	Warm: 100 * time.Millisecond, Bulk: 500 * time.Millisecond, Ping: 300 * time.Millisecond, Settle: 100 * time.Millisecond,
	Open: 300 * time.Millisecond, Idle: 5 * time.Second, Slow: 2 * time.Second, Streams: 1000,
}

func parseOptions(args []string, words io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(words)
	f.Usage = func() {
		fmt.Fprintln(words, "go run ./bench [options]    measure meshkey beside what it is compared with\n"+
			"go run ./bench long NAME    take one of the figures that take long; without NAME they are listed\n\noptions:")
		f.PrintDefaults()
		fmt.Fprintf(words, "\ncontestants: %s\n", strings.Join(names(), ", "))
	}
	f.BoolVar(&o.quick, "quick", false, "3 short rounds: to see that all works, not to quote")
	f.BoolVar(&o.strict, "strict", false, "fail if anything could not be measured")
	f.IntVar(&o.rounds, "rounds", 0, "how many `rounds` (7, or 3 with --quick)")
	only := f.String("only", "", "measure only these contestants, `names` with commas between")
	f.StringVar(&o.json, "json", "", "write everything measured to this `file`")
	f.StringVar(&o.doc, "doc", "", "write the report to this `file`: docs/performance.md")
	f.StringVar(&o.dir, "dir", "", "keep the state of the daemons, audit logs included, below this `folder`, on the file system to measure on")
	f.StringVar(&o.prof, "profile", "", "write profiles of the daemons while they carry one stream, and while they open many, to this `folder`; figures taken then are not to quote")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, usageError(err.Error())
	}
	if f.NArg() > 0 {
		return nil, usageError(fmt.Sprintf("what is %q? see go run ./bench -h", f.Arg(0)))
	}
	o.t = fullTimes
	if o.quick {
		o.t = quickTimes
	}
	given := false
	f.Visit(func(f *flag.Flag) { given = given || f.Name == "rounds" })
	switch {
	case given && (o.rounds < 1 || o.rounds > 100):
		return nil, usageError("--rounds: 1 to 100")
	case !given && o.quick:
		o.rounds = 3
	case !given:
		o.rounds = 7
	}
	if o.doc != "" && (o.quick || o.rounds < minRounds) {
		return nil, usageError(fmt.Sprintf("--doc is for a full run: not with --quick, and at least %d rounds", minRounds))
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
		for _, n := range o.only {
			if !slices.Contains(names(), n) {
				return nil, usageError(fmt.Sprintf("--only: no contestant %q; there are %s", n, strings.Join(names(), ", ")))
			}
		}
	}
	if o.doc != "" && o.prof != "" {
		return nil, usageError("--doc is for a full run: not with --profile")
	}
	if o.doc != "" && o.only != nil {
		return nil, usageError("--doc is for a full run: not with --only")
	}
	return o, nil
}

// wants says whether a contestant takes part.
func (o *options) wants(name string) bool { return o.only == nil || slices.Contains(o.only, name) }
