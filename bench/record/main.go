// Command record runs every comparison with the reference tools on this machine and writes docs/benchmarks.md.
//
//	./build.sh bench                                     # builds, makes the reference's Python environment, runs this
//	./build.sh bench -shapes 0.6b -sections inference    # a part of it; the other figures of this machine stay
//	./build.sh bench -render                             # only the page, from the figures of all machines
//
// Figures are kept as JSON in docs/benchmarks/, one file for each machine, and the page and its plots are made of all of
// them. Other work on the machine makes the figures worse.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

// sectionNames are the parts of the record, in the order in which they run.
var sectionNames = []string{"kernels", "convert", "cold", "slow", "inference", "data"}

type options struct {
	shapes, sections []string
	dir, python      string
	docs, readmes    string
	name             string
	rounds           int
	weights          int64
	rows             int
	throttle         int64
	inferenceArgs    string
	render           bool
}

func main() {
	var o options
	shapes := flag.String("shapes", "0.6b,1.7b,4b", "sizes of the models: of 0.6b, 1.7b, 4b, 8b")
	sections := flag.String("sections", "kernels,convert,cold,inference,data", "what to measure, of "+strings.Join(sectionNames, ", "))
	flag.StringVar(&o.dir, "dir", filepath.Join("build", "bench"), "folder for models (a 4b shape needs about 45 GB, 8b about 90)")
	flag.StringVar(&o.python, "python", "", "a Python with the reference's packages; empty: leave PEFT and the converter out")
	flag.StringVar(&o.docs, "docs", "docs", "folder for benchmarks.md and benchmarks/")
	flag.StringVar(&o.readmes, "readme", "README.md,README.ko.md", "files whose tables between the benchmark marks are written anew; empty: none")
	flag.StringVar(&o.name, "name", "", "name of this machine's figures; empty: from its CPU or GPU")
	flag.IntVar(&o.rounds, "rounds", 3, "times that everything is measured")
	flag.Int64Var(&o.weights, "weights", 1<<24, "weights of each type that the row encoders are compared on")
	flag.Int64Var(&o.throttle, "throttle", 200, "section slow, which needs root: MB/s that the disk reads")
	flag.IntVar(&o.rows, "rows", 40_000, "dialogues for the data pipeline")
	flag.StringVar(&o.inferenceArgs, "inference", "", "more arguments for bench/inference, such as \"-npl 1,8,64 -b 2048\"")
	flag.BoolVar(&o.render, "render", false, "measure nothing, write the page")
	flag.Parse()
	o.shapes, o.sections = strings.Split(*shapes, ","), strings.Split(*sections, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "record: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	for _, s := range o.sections {
		if !slices.Contains(sectionNames, s) {
			return fmt.Errorf("-sections: got %q, want of %v", s, sectionNames)
		}
	}
	if !o.render {
		if err := o.measure(ctx); err != nil {
			return err
		}
	}
	records, err := readRecords(o.docs)
	if err != nil {
		return err
	}
	return writePage(o.docs, o.readmes, records)
}

// measure runs the sections, and keeps the figures of each as soon as it is done.
func (o options) measure(ctx context.Context) error {
	m, err := thisMachine(ctx, o.python)
	if err != nil {
		return err
	}
	if o.name == "" {
		o.name = m.slug()
	}
	path := filepath.Join(o.docs, "benchmarks", o.name+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var r record
	if err := figure.Read(path, &r); err != nil && !os.IsNotExist(err) {
		return err
	}
	r.Machine = m
	if r.Stamps == nil {
		r.Stamps = map[string]stamp{}
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	for _, name := range sectionNames {
		if !slices.Contains(o.sections, name) {
			continue
		}
		if err := o.section(ctx, &r, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.Stamps[name] = stamp{time.Now().UTC().Truncate(time.Second), version(ctx)}
		if err := figure.Write(path, r); err != nil {
			return err
		}
	}
	return nil
}

// section runs one of the benchmark programs for every shape and takes over its figures.
func (o options) section(ctx context.Context, r *record, name string) error {
	n := strconv.Itoa
	out := filepath.Join(o.dir, name+".json")
	switch name {
	case "kernels":
		if err := program(ctx, "./bench/kernels", "-weights", strconv.FormatInt(o.weights, 10), "-json", out); err != nil {
			return err
		}
		return figure.Read(out, &r.Kernels)
	case "data":
		if err := program(ctx, "./bench/data", "-n", n(o.rows), "-json", out); err != nil {
			return err
		}
		return figure.Read(out, &r.Stages)
	case "convert", "cold", "slow":
		for _, shape := range o.shapes {
			args := []string{"-dir", o.dir, "-shape", shape, "-rounds", n(o.rounds), "-json", out}
			switch name {
			case "cold":
				args = append(args, "-cold")
			case "slow":
				args = append(args, "-cold", "-throttle", strconv.FormatInt(o.throttle, 10))
			default:
				args = append(args, "-python", o.python)
			}
			if err := program(ctx, "./bench/scale", args...); err != nil {
				return err
			}
			var steps []figure.Step
			if err := figure.Read(out, &steps); err != nil {
				return err
			}
			r.Steps = slices.DeleteFunc(r.Steps, func(s figure.Step) bool { return s.Shape == shape && sectionOf(s) == name })
			r.Steps = append(r.Steps, steps...)
		}
		return nil
	}
	return o.inference(ctx, r, out)
}

// sectionOf is the section that measured a step.
func sectionOf(s figure.Step) string {
	switch {
	case !s.Cold:
		return "convert"
	case strings.Contains(s.Task, ", disk at "):
		return "slow"
	}
	return "cold"
}

func (o options) inference(ctx context.Context, r *record, out string) error {
	for _, shape := range o.shapes {
		file, err := o.quantized(ctx, shape)
		if err != nil {
			return err
		}
		model := shape + " q4_0"
		args := []string{"-m", model + "=" + file, "-rounds", strconv.Itoa(o.rounds), "-json", out}
		if err := program(ctx, "./bench/inference", append(args, strings.Fields(o.inferenceArgs)...)...); err != nil {
			return err
		}
		var rates []figure.Rate
		if err := figure.Read(out, &rates); err != nil {
			return err
		}
		r.Rates = slices.DeleteFunc(r.Rates, func(f figure.Rate) bool { return f.Model == model })
		r.Rates = append(r.Rates, rates...)
	}
	return nil
}

// quantized gives the q4_0 file of a shape, made if it is not there.
func (o options) quantized(ctx context.Context, shape string) (string, error) {
	folder, file := filepath.Join(o.dir, "qwen3-"+shape), filepath.Join(o.dir, "qwen3-"+shape+"-q4_0.gguf")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if _, err := os.Stat(filepath.Join(folder, "config.json")); err != nil {
		if err := program(ctx, "./internal/testmodel/write", "-shape", shape, folder); err != nil {
			return "", err
		}
	}
	return file, command(ctx, filepath.Join("bin", "persona-gguf"), "convert", folder, "--outtype", "q4_0", "--outfile", file)
}

// program runs a Go program of this module.
func program(ctx context.Context, folder string, args ...string) error {
	return command(ctx, "go", append([]string{"run", folder}, args...)...)
}

func command(ctx context.Context, name string, args ...string) error {
	fmt.Fprintf(os.Stderr, "$ %s %s\n", name, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
