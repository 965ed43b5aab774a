// Command persona-gguf makes, looks at, measures and talks to GGUF models: one binary with llama.cpp
// inside. This package is flags, messages and exit codes; the work is done by the packages it calls.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	llama "github.com/go-skynet/go-llama.cpp"
)

// The exit codes.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell reports a program that SIGINT ended
)

// version is set when the program is linked.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	if err := llama.UseKernels(os.Getenv("PERSONA_GGUF_CPU")); err != nil {
		os.Exit(a.exit(ctx, fmt.Errorf("PERSONA_GGUF_CPU: %w", err)))
	}
	root := a.root()
	root.SetArgs(expandShort(os.Args[1:]))
	os.Exit(a.exit(ctx, root.ExecuteContext(ctx)))
}

// usageError is a mistake on the command line.
type usageError struct {
	err     error
	command string // whose help tells more
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exit reports err, if there is one, and gives the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		fmt.Fprintln(a.stderr, "persona-gguf: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(a.stderr, "persona-gguf: error: %s\n", printable(err.Error()))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", hint)
	}
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}
