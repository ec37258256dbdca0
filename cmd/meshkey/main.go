package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(realMain())
}

// realMain is main with its exit code, for the tests that run this binary as meshkey.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once: whoever presses Ctrl-C twice does not want to wait.
	context.AfterFunc(ctx, stop)
	return execute(ctx, newCLI(), os.Args[1:])
}
