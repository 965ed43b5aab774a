package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/internal/unit"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// adapterFlags are the flags of a merge that convert has too.
type adapterFlags struct {
	adapters         []string
	baseQuant, dtype string
	doubleQuant      bool
}

func (m *adapterFlags) define(f *pflag.FlagSet) {
	f.StringArrayVar(&m.adapters, "adapter", nil, "LoRA adapter folder to merge, DIR or DIR=WEIGHT (repeatable)")
	f.StringVar(&m.baseQuant, "base-quant", "auto", "weights to merge into: none for those in the files, nf4 for what QLoRA trained on, auto for what training.json says")
	f.BoolVar(&m.doubleQuant, "double-quant", false, "with nf4: the absmax values are quantized too, as QLoRA usually has them (training.json counts first)")
	f.StringVar(&m.dtype, "dtype", "", "dtype of the merged weights: f32, f16 or bf16 (default: the base's)")
}

// splitWeight splits PATH=WEIGHT. What follows the last = belongs to the path unless it is a number.
func splitWeight(s string) (path string, weight float64) {
	if i := strings.LastIndexByte(s, '='); i >= 0 {
		if w, err := strconv.ParseFloat(s[i+1:], 64); err == nil {
			return s[:i], w
		}
	}
	return s, 1
}

// dtypes are the names that --dtype takes.
var dtypes = map[string]safetensors.DType{
	"": "", "f32": safetensors.F32, "f16": safetensors.F16, "bf16": safetensors.BF16,
	"float32": safetensors.F32, "float16": safetensors.F16, "bfloat16": safetensors.BF16,
}

// options reads the flags.
func (m *adapterFlags) options() ([]lora.Source, lora.Options, error) {
	var o lora.Options
	var sources []lora.Source
	for _, s := range m.adapters {
		dir, weight := splitWeight(s)
		if dir == "" || math.IsNaN(weight) || math.IsInf(weight, 0) {
			return nil, o, fmt.Errorf("adapter: got %q, want DIR or DIR=WEIGHT", s)
		}
		sources = append(sources, lora.Source{Dir: dir, Weight: weight})
	}
	switch m.baseQuant {
	case "auto", "":
		o.BaseQuant = lora.QuantAuto
	case lora.QuantNone, lora.QuantNF4:
		o.BaseQuant = m.baseQuant
	default:
		return nil, o, fmt.Errorf("base-quant: got %q, want auto, none or nf4", m.baseQuant)
	}
	var ok bool
	if o.DType, ok = dtypes[strings.ToLower(m.dtype)]; !ok {
		return nil, o, fmt.Errorf("dtype: got %q, want f32, f16 or bf16", m.dtype)
	}
	switch {
	case m.doubleQuant && o.BaseQuant != lora.QuantNF4:
		return nil, o, errors.New("double-quant: got it without --base-quant nf4, want both")
	case len(sources) == 0 && (o.BaseQuant != lora.QuantAuto || o.DType != ""):
		return nil, o, errors.New("base-quant and dtype: got no --adapter, want one: they say how to merge")
	}
	o.DoubleQuant = m.doubleQuant
	return sources, o, nil
}

func (a *app) merge() *cobra.Command {
	var m adapterFlags
	var base, out string
	var threads int
	cmd := &cobra.Command{
		Use: "merge --base DIR --adapter DIR --out DIR", Short: "merge LoRA adapters into a Hugging Face model folder",
		Long: "Merge adds PEFT LoRA adapters to a base model in float32, rounds once, and writes a folder that transformers loads.\n" +
			"It needs no Python, no GPU, and memory for a few rows only. convert --adapter makes a GGUF file without the folder.",
		Args: arguments(0, 0, "none; the folders come with --base, --adapter and --out"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			sources, o, err := m.options()
			for _, folder := range []struct{ flag, value string }{{"base", base}, {"adapter", strings.Join(m.adapters, "")}, {"out", out}} {
				if folder.value == "" && err == nil {
					err = fmt.Errorf("%s: got none, want a folder with --%s", folder.flag, folder.flag)
				}
			}
			if threads < 0 && err == nil {
				err = fmt.Errorf("threads: got %d, want 1 or more, or 0 for one per CPU", threads)
			}
			if err != nil {
				return badUsage(cmd, err)
			}
			o.Warn = func(msg string) { slog.Warn(msg) }
			merge, err := lora.Open(cmd.Context(), base, sources, o)
			if err != nil {
				return err
			}
			defer merge.Close()
			a.sayBase(merge.BaseQuant, merge.Recorded)
			set, stop := a.stderr.progress("merge")
			defer stop()
			result, err := merge.Write(cmd.Context(), out, lora.WriteOptions{Threads: threads, Progress: set})
			if err != nil {
				return err
			}
			stop()
			return a.printMerged(result, merge.BaseQuant)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&base, "base", "", "folder of the base model (also --base_model; --adapter_path and --output_path for the others)")
	m.define(f)
	f.StringVar(&out, "out", "", "folder to write, new or empty")
	f.IntVarP(&threads, "threads", "t", 0, "tensors' pieces merged at once (default: one per CPU)")
	f.StringVar(&base, "base-model", "", "") // the names of an earlier script
	f.StringArrayVar(&m.adapters, "adapter-path", nil, "")
	f.StringVar(&out, "output-path", "", "")
	for _, name := range []string{"base-model", "adapter-path", "output-path"} {
		f.Lookup(name).Hidden = true
	}
	return cmd
}

// sayBase tells which weights adapters are merged into.
func (a *app) sayBase(quant string, recorded bool) {
	switch {
	case quant == lora.QuantNF4 && recorded:
		slog.Info("merging into the base's NF4 weights, which the adapter was trained on (training.json); --base-quant none takes those in the files")
	case quant == lora.QuantNF4:
		slog.Info("merging into the base's NF4 weights")
	case quant == lora.QuantNone:
		slog.Info("merging into the base's weights as they lie in its files")
	}
}

func (a *app) printMerged(r *lora.Result, baseQuant string) error {
	if a.json {
		return a.printJSON(struct {
			Path      string        `json:"path"`
			Size      int64         `json:"size"`
			Tensors   int           `json:"tensors"`
			Changed   int           `json:"changed"`
			Shards    int           `json:"shards"`
			BaseQuant string        `json:"base_quant"`
			Duration  time.Duration `json:"duration_ns"`
		}{r.Dir, r.Bytes, r.Tensors, r.Changed, r.Shards, baseQuant, r.Duration})
	}
	_, err := fmt.Fprintf(a.stdout, "%s\n%d tensors, %d merged, %d files, %s in %s, %.0f MB/s\n",
		r.Dir, r.Tensors, r.Changed, r.Shards, unit.Bytes(r.Bytes), unit.Duration(r.Duration), float64(r.Bytes)/1e6/max(r.Duration.Seconds(), 1e-9))
	return err
}
