// Command write makes model folders for tests and benchmarks.
//
//	go run ./internal/testmodel/write DIR            every tiny model, each in DIR/NAME
//	go run ./internal/testmodel/write -spec NAME DIR one tiny model, in DIR
//	go run ./internal/testmodel/write -list          kinds, names and pre-tokenizers
//	go run ./internal/testmodel/write -shape 4b DIR  a checkpoint of Qwen3-4B's real shape, about 8 GB
//	go run ./internal/testmodel/write -adapter BASE DIR  a rank-16 LoRA adapter for every linear layer of the folder BASE
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	shape := flag.String("shape", "", "write a Qwen3 of this `size`: tiny, 0.6b, 1.7b, 4b or 8b")
	vocab := flag.String("vocab", "llamacpp/models/ggml-vocab-qwen2.gguf", "vocabulary `file` for -shape")
	base := flag.String("adapter", "", "write a rank-16 LoRA adapter for this model `folder`")
	list := flag.Bool("list", false, "print the tiny models")
	flag.Parse()
	if *list {
		for _, s := range testmodel.Specs() {
			fmt.Println("model", s.Name, s.Pre)
		}
		for _, s := range testmodel.VocabSpecs() {
			fmt.Println("vocabulary", s.Name, s.Pre)
		}
		return nil
	}
	if flag.NArg() != 1 {
		return fmt.Errorf("arguments: got %d, want 1: the folder to write", flag.NArg())
	}
	dir := flag.Arg(0)
	if *base != "" {
		return testmodel.Adapter(dir, *base, testmodel.AdapterSpec{Rank: 16, Alpha: 32, DType: testmodel.BF16})
	}
	if *shape != "" {
		s, err := testmodel.FindShape(*shape)
		if err != nil {
			return err
		}
		start := time.Now()
		if err := testmodel.Qwen3(context.Background(), dir, *vocab, s); err != nil {
			return err
		}
		seconds := time.Since(start).Seconds()
		fmt.Printf("%s: %d bytes of weights in %.1f s, %.0f MB/s\n", dir, s.Bytes(), seconds, float64(s.Bytes())/1e6/seconds)
		return nil
	}
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
