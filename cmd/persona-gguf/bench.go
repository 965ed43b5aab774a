package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/bench"
)

func (a *app) bench() *cobra.Command {
	p := bench.DefaultParams()
	var models []string
	var pgs []string
	output := "md"
	cmd := &cobra.Command{
		Use: "bench -m FILE[,FILE]", Short: "measure tokens per second as llama-bench does",
		Long: "Bench measures prompt processing (pp) and text generation (tg) by llama-bench's method, and beyond it the time to\n" +
			"the first token, the time to load the model and the peak memory. Numbers may be lists and ranges: 128,512\n" +
			"1-4  0-1024+256  128-1024*2; every combination is a test.",
		Args: arguments(0, 0, "none; the model comes with -m"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, list := range models {
				p.Models = append(p.Models, strings.Split(list, ",")...)
			}
			for _, s := range pgs {
				pg, err := bench.ParsePG(s)
				if err != nil {
					return badUsage(cmd, err)
				}
				p.PG = append(p.PG, pg)
			}
			if err := p.Check(); err != nil {
				return badUsage(cmd, err)
			}
			if a.json {
				return a.benchJSON(cmd, p)
			}
			return a.benchPrint(cmd, p, output)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVarP(&models, "model", "m", nil, "GGUF file, or several with commas (repeatable)")
	f.VarP(ranges(&p.NPrompt), "n-prompt", "p", "tokens of the prompt tests; 0 for none")
	f.VarP(ranges(&p.NGen), "n-gen", "n", "tokens of the generation tests; 0 for none")
	f.StringArrayVar(&pgs, "pg", nil, "`PP,TG`: prompt and generation in one timing (repeatable; also -pg)")
	f.VarP(ranges(&p.NDepth), "n-depth", "d", "tokens in the KV cache before the test")
	f.VarP(ranges(&p.NBatch), "batch-size", "b", "tokens of one decode call")
	f.Var(ranges(&p.NUBatch), "ubatch-size", "tokens computed at once (also -ub)")
	f.VarP(ranges(&p.NThreads), "threads", "t", "CPU threads")
	f.VarP(&rangeValue{to: &p.GPULayers, negative: true}, "gpu-layers", "g", "layers on the GPU, -1 for all (also -ngl)")
	f.IntVarP(&p.Reps, "repetitions", "r", p.Reps, "timed runs of each test")
	f.BoolVar(&p.NoWarmup, "no-warmup", false, "do not run each test once before it is timed")
	f.StringVarP(&output, "output", "o", output, "format: "+strings.Join(bench.Formats(), ", "))
	return cmd
}

func (a *app) benchPrint(cmd *cobra.Command, p bench.Params, output string) error {
	printer, err := bench.NewPrinter(a.stdout, output, p)
	if err != nil {
		return badUsage(cmd, err)
	}
	if err := printer.Header(); err != nil {
		return err
	}
	if err := bench.Run(cmd.Context(), p, printer.Test); err != nil {
		return err
	}
	return printer.Footer()
}

func (a *app) benchJSON(cmd *cobra.Command, p bench.Params) error {
	results := []bench.Result{}
	err := bench.Run(cmd.Context(), p, func(r bench.Result) error {
		results = append(results, r)
		return nil
	})
	if err != nil {
		return err
	}
	return a.printJSON(map[string]any{"results": results})
}

// rangeValue is a flag with a list of numbers and ranges; a repeated flag adds to it.
type rangeValue struct {
	to       *[]int
	negative bool
	set      bool
}

func ranges(to *[]int) *rangeValue { return &rangeValue{to: to} }

// Set reads one occurrence of the flag; the first one replaces the default.
func (v *rangeValue) Set(s string) error {
	list, err := bench.ParseRange(s, v.negative)
	if err != nil {
		return errors.Unwrap(err)
	}
	if !v.set {
		*v.to, v.set = nil, true
	}
	*v.to = append(*v.to, list...)
	return nil
}

// Type names the value in the help.
func (v *rangeValue) Type() string { return "N" }

// String gives the list with commas.
func (v *rangeValue) String() string {
	if v.to == nil {
		return ""
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*v.to), " ", ","), "[]")
}
