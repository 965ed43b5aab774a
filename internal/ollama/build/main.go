// Command build compiles the Ollama server that tests start, unless it is there, and prints its path. The tests do
// it too; before them it does not count against their time.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/persona-gguf/persona-gguf/internal/ollama"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := ollama.Build(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
