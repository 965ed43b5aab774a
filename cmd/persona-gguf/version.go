package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	llama "github.com/go-skynet/go-llama.cpp"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the versions of the program and of llama.cpp", Args: arguments(0, 0, "none"),
		RunE: func(*cobra.Command, []string) error {
			llamaVersion, commit := llama.BuildInfo()
			if a.json {
				return a.printJSON(map[string]string{"version": version, "llama_cpp": llamaVersion, "llama_cpp_commit": commit, "go": runtime.Version()})
			}
			_, err := fmt.Fprintf(a.stdout, "persona-gguf %s (llama.cpp %s %.9s, %s)\n", version, llamaVersion, commit, runtime.Version())
			return err
		},
	}
}
