// Command write makes model folders for tests and benchmarks.
//
//	go run ./internal/testmodel/write DIR            every tiny model, each in DIR/NAME
//	go run ./internal/testmodel/write -spec NAME DIR one tiny model, in DIR
//	go run ./internal/testmodel/write -list          names, architectures and pre-tokenizers
//	go run ./internal/testmodel/write -shape 4b DIR  a checkpoint of Qwen3-4B's real shape, about 8 GB
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "write: error:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("spec", "", "write only the tiny model of this `name`")
	list := flag.Bool("list", false, "print the tiny models")
	flag.Parse()
	if *list {
		for _, s := range testmodel.Specs() {
			fmt.Println(s.Name, s.HFArch, s.Pre)
		}
		return nil
	}
	if flag.NArg() != 1 {
		return fmt.Errorf("arguments: got %d, want 1: the folder to write", flag.NArg())
	}
	dir := flag.Arg(0)
	if *name != "" {
		s, err := testmodel.Find(*name)
		if err != nil {
			return err
		}
		return testmodel.Write(dir, s)
	}
	for _, s := range testmodel.Specs() {
		if err := testmodel.Write(filepath.Join(dir, s.Name), s); err != nil {
			return err
		}
	}
	return nil
}
