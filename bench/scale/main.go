// Command scale measures conversion, quantization and merging at the size of a real model, each step a process of its
// own, beside the reference tools on the same files in the same run, and prints a Markdown table.
//
//	go run ./bench/scale -dir /big/disk/scale -shape 4b
//	go run ./bench/scale -dir /big/disk/scale -python .venv/bin/python   # also PEFT and convert_hf_to_gguf.py
//	go run ./bench/scale -dir /big/disk/scale -cold                      # the input not in the page cache
//	go run ./bench/scale -dir /big/disk/scale -cold -throttle 200        # and a disk that reads 200 MB a second (root)
//
// The Python needs torch, transformers, peft, sentencepiece and protobuf.
//
// It is a benchmark, not a test: nothing in the test run calls it. The model and the adapter in the folder are kept, so
// that a second run measures with the same; remove them yourself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "folder for the model and the outputs (a 4b shape needs about 45 GB)")
	flag.StringVar(&o.shape, "shape", "4b", "shape of the model: 0.6b, 1.7b, 4b or 8b")
	flag.StringVar(&o.python, "python", "", "a Python with the reference's requirements; empty: leave PEFT and the converter out")
	flag.StringVar(&o.program, "program", filepath.Join("bin", "persona-gguf"), "the program to measure")
	flag.StringVar(&o.json, "json", "", "also write the figures as JSON to this `file`")
	flag.IntVar(&o.rounds, "rounds", 1, "times each step is run, in turns with those that do the same")
	flag.BoolVar(&o.cold, "cold", false, "drop the input from the page cache before each step; only the steps that read a folder")
	flag.Int64Var(&o.throttle, "throttle", 0, "with -cold: let the disk read at most so many `MB` a second; 0: no limit")
	flag.StringVar(&o.memory, "memory", "/dev/shm", "a folder in memory, for the steps that leave the disk's writing out; empty: leave them out")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale: error:", err)
		os.Exit(1)
	}
}

type options struct {
	dir, shape, python, program, json string
	memory                            string
	rounds                            int
	throttle                          int64 // MB/s
	cold                              bool
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		return errors.New("-dir is missing: a folder on a disk with room for the model four times")
	}
	if o.throttle > 0 && !o.cold {
		return errors.New("-throttle is for input that is read from the disk: add -cold")
	}
	m := models{options: o, model: filepath.Join(o.dir, "qwen3-"+o.shape), adapter: filepath.Join(o.dir, "adapter-"+o.shape)}
	if err := writeModel(filepath.Join(m.model, "config.json"), "-shape", o.shape, m.model); err != nil {
		return err
	}
	if err := writeModel(filepath.Join(m.adapter, "adapter_model.safetensors"), "-adapter", m.model, m.adapter); err != nil {
		return err
	}
	var all []figure.Step
	fmt.Println("| step | wall s (min–max) | user s | system s | faults | MB/s of input | peak RSS MB |\n|---|---|---|---|---|---|---|")
	groups, finish, err := m.groups()
	if err != nil {
		return err
	}
	defer finish()
	for _, g := range groups {
		steps, err := g.measure(ctx, o)
		if err != nil {
			return err
		}
		for _, s := range steps {
			printStep(s)
		}
		all = append(all, steps...)
	}
	return figure.Write(o.json, all)
}

// writeModel makes a folder unless it is there.
func writeModel(there, kind, of, dir string) error {
	if _, err := os.Stat(there); err == nil {
		return nil
	}
	fmt.Fprintf(os.Stderr, "writing %s\n", dir)
	cmd := exec.Command("go", "run", "./internal/testmodel/write", kind, of, dir)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

func printStep(s figure.Step) {
	wall := s.Of(figure.Wall)
	fmt.Printf("| %s | %.1f (%.1f–%.1f) | %.1f | %.1f | %.0f | %.0f | %.0f |\n", s.Name, wall.Median, wall.Min, wall.Max,
		s.Of(func(c figure.Cost) float64 { return c.User }).Median, s.Of(func(c figure.Cost) float64 { return c.System }).Median,
		s.Of(func(c figure.Cost) float64 { return float64(c.MinorFaults + c.MajorFaults) }).Median,
		float64(s.Input)/1e6/wall.Median, s.Of(func(c figure.Cost) float64 { return float64(c.PeakRSS) }).Max/1e6)
}
