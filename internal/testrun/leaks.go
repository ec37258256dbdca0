package testrun

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// patience is how long goroutines have to end when the tests have.
const patience = 5 * time.Second

// Leaks runs tests and then wants every goroutine gone that is, or was started, in code of one of the places, each a part of a function's
// name as stacks have it. It is what TestMain runs, itself or through netns.Main.
type Leaks struct {
	Tests interface{ Run() int }
	Of    []string
}

// Run returns the exit code: that of the tests, or 1 if a goroutine is left.
func (l Leaks) Run() int {
	code := l.Tests.Run()
	if code != 0 {
		return code // what failed may well have left something
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(patience); ; <-tick.C {
		left := l.left()
		if left == "" {
			return 0
		}
		if time.Now().After(late) {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			return 1
		}
	}
}

// left is the stacks of the goroutines that should be gone, but for the one that looks.
func (l Leaks) left() string {
	buf := make([]byte, 1<<22)
	var out []string
	for i, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i == 0 {
			continue // this one
		}
		for _, of := range l.Of {
			if strings.Contains(stack, of) {
				out = append(out, stack)
				break
			}
		}
	}
	return strings.Join(out, "\n\n")
}
