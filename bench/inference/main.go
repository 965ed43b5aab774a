// Command inference puts this program's tokens per second beside llama-bench's and llama-batched-bench's, in turns, on
// the same files, and prints a Markdown table.
//
//	go run ./bench/inference -m 0.6b=build/bench/qwen3-0.6b-q4_0.gguf
//
// pp and tg come from `persona-gguf bench` and llama-bench. For N dialogues at once llama-batched-bench decodes random
// tokens; ours are whole answers: sampled with the default chain, turned into text, and sent back, each call a
// goroutine of its own. prompt, decode and whole are rates of the same tokens as llama-batched-bench's S_PP, S_TG and
// S; "shared" are prompts that begin alike, in one cache (-pps -kvu there).
//
// It is a benchmark, not a test: nothing in the test run calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

type options struct {
	models                        []string
	program, bench, batched, json string
	rounds, prompt, gen, npp, ntg int
	threads, gpuLayers, batch     int
	parallel                      []int
}

func main() {
	var o options
	models := flag.String("m", "", "`NAME=FILE[,NAME=FILE]`: GGUF files and their names in the tables")
	parallel := flag.String("npl", "1,4,8,16", "dialogues at once")
	flag.StringVar(&o.program, "program", "bin/persona-gguf", "the program to measure")
	flag.StringVar(&o.bench, "llama-bench", "bin/llama-bench", "the reference; empty: none")
	flag.StringVar(&o.batched, "llama-batched-bench", "bin/llama-batched-bench", "the reference for several dialogues; empty: none")
	flag.StringVar(&o.json, "json", "", "also write the figures as JSON to this `file`")
	flag.IntVar(&o.rounds, "rounds", 3, "times that everything is measured")
	flag.IntVar(&o.prompt, "p", 512, "tokens of pp; 0: leave pp and tg out")
	flag.IntVar(&o.gen, "n", 128, "tokens of tg")
	flag.IntVar(&o.npp, "npp", 128, "tokens of a dialogue's prompt")
	flag.IntVar(&o.ntg, "ntg", 64, "tokens of a dialogue's answer")
	flag.IntVar(&o.threads, "t", 0, "threads; 0: the physical cores")
	flag.IntVar(&o.gpuLayers, "ngl", -1, "layers on the GPU; -1: all")
	flag.IntVar(&o.batch, "b", 512, "tokens of a batch with several dialogues")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, *models, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "inference: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, models, parallel string) error {
	for s := range strings.SplitSeq(parallel, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-npl: got %q, want numbers from 1 on", s)
		}
		o.parallel = append(o.parallel, n)
	}
	var all rates
	for s := range strings.SplitSeq(models, ",") {
		name, file, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("-m: got %q, want NAME=FILE", s)
		}
		for range o.rounds {
			if err := o.round(ctx, &all, name, file); err != nil {
				return err
			}
		}
	}
	all.print()
	return figure.Write(o.json, all.list)
}

// round measures everything once, in turns.
func (o options) round(ctx context.Context, all *rates, name, file string) error {
	if o.prompt > 0 {
		for _, tool := range [][2]string{{figure.Ours, o.program}, {"llama-bench", o.bench}} {
			if err := o.single(ctx, all, name, file, tool); err != nil {
				return err
			}
		}
		if err := o.callbacks(ctx, all, name, file); err != nil {
			return err
		}
	}
	for _, n := range o.parallel {
		for _, shared := range []bool{false, true} {
			if err := o.together(ctx, all, name, file, n, shared); err != nil {
				return err
			}
			if err := o.reference(ctx, all, name, file, n, shared); err != nil {
				return err
			}
		}
	}
	return nil
}

// rates collects samples.
type rates struct{ list []figure.Rate }

func (r *rates) add(model, test string, n int, tool string, sample float64) {
	fmt.Fprintf(os.Stderr, "%s %s N=%d %s: %.2f\n", model, test, n, tool, sample)
	i := slices.IndexFunc(r.list, func(f figure.Rate) bool {
		return f.Model == model && f.Test == test && f.N == n && f.Tool == tool
	})
	if i < 0 {
		i = len(r.list)
		r.list = append(r.list, figure.Rate{Model: model, Test: test, N: n, Tool: tool})
	}
	r.list[i].Samples = append(r.list[i].Samples, sample)
}

func (r *rates) print() {
	fmt.Println("| model | test | N | tool | tokens/s (min–max) |\n|---|---|---|---|---|")
	for _, f := range r.list {
		s := figure.Of(f.Samples)
		fmt.Printf("| %s | %s | %d | %s | %.2f (%.2f–%.2f) |\n", f.Model, f.Test, f.N, f.Tool, s.Median, s.Min, s.Max)
	}
}
