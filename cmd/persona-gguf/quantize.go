package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/unit"
	"github.com/persona-gguf/persona-gguf/quant"
)

// quantizeFlags are flags whose values need reading before they are options.
type quantizeFlags struct {
	outputType, embeddingType      string
	rules                          []ruleFlag
	overrides                      []string
	pruneLayers                    []int
	in, out, ftype                 string
	keepSplit, dryRun              bool
	threads, maxBufferMiB          int
	includeWeights, excludeWeights []string
}

func (a *app) quantize() *cobra.Command {
	var o quant.Options
	var q quantizeFlags
	cmd := &cobra.Command{
		Use: "quantize IN.gguf [OUT.gguf] TYPE [THREADS]", Short: "make a smaller GGUF file of a GGUF file",
		Long: "Quantize writes the file that llama-quantize writes for the same input and options, byte for byte.\n" +
			"Without OUT.gguf the file is ggml-model-TYPE.gguf beside the input.\n\nTypes: " + strings.Join(quant.FTypes(), " "),
		Args: arguments(2, 4, "IN.gguf [OUT.gguf] TYPE [THREADS]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(q.positional(args), q.options(&o)); err != nil {
				return badUsage(cmd, err)
			}
			var err error
			if o.TensorTypes, err = q.tensorTypes(); err != nil {
				return err
			}
			return a.runQuantize(cmd.Context(), q, o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.AllowRequantize, "allow-requantize", false, "quantize weights again that are quantized already; quality suffers")
	q.defineTypes(f, &o)
	f.IntSliceVar(&q.pruneLayers, "prune-layers", nil, "numbers of blocks to leave out")
	f.BoolVar(&q.keepSplit, "keep-split", false, "write as many files as the input has")
	f.StringArrayVar(&q.overrides, "override-kv", nil, "KEY=TYPE:VALUE: set a metadata key; TYPE is int, float, bool or str (repeatable)")
	f.BoolVar(&q.dryRun, "dry-run", false, "print the plan (tensors, types, sizes) and write nothing")
	f.IntVar(&q.maxBufferMiB, "max-buffer-size", 0, "MiB of weights in work at most, beside 48 that wait for the disk (default: 512)")
	f.IntVarP(&q.threads, "threads", "t", 0, "encoders at work, the same as THREADS (default: one per CPU)")
	return cmd
}

// defineTypes defines the flags that choose types, which convert has too.
func (q *quantizeFlags) defineTypes(f *pflag.FlagSet, o *quant.Options) {
	f.BoolVar(&o.LeaveOutputTensor, "leave-output-tensor", false, "leave output.weight as it is")
	f.BoolVar(&o.Pure, "pure", false, "the same type for every weight, no mixture")
	f.StringVar(&o.Imatrix, "imatrix", "", "file with an importance matrix")
	f.StringArrayVar(&q.includeWeights, "include-weights", nil, "use the importance matrix for tensors whose name contains this only (repeatable)")
	f.StringArrayVar(&q.excludeWeights, "exclude-weights", nil, "do not use the importance matrix for tensors whose name contains this (repeatable)")
	f.StringVar(&q.outputType, "output-tensor-type", "", "ggml type of output.weight")
	f.StringVar(&q.embeddingType, "token-embedding-type", "", "ggml type of token_embd.weight")
	f.Var(&ruleValue{to: &q.rules}, "tensor-type", "ggml type of the tensors whose name matches; the first match counts (repeatable)")
	f.Var(&ruleValue{to: &q.rules, file: true}, "tensor-type-file", "the same from a file, separated by white space (repeatable)")
}

// positional reads IN [OUT] TYPE [THREADS]: what follows IN is TYPE if it is the name of one, as for
// llama-quantize.
func (q *quantizeFlags) positional(args []string) error {
	q.in, args = args[0], args[1:]
	if _, err := quant.CanonicalFType(args[0]); err != nil {
		if len(args) == 1 {
			return err
		}
		q.out, args = args[0], args[1:]
	}
	q.ftype, args = args[0], args[1:]
	if _, err := quant.CanonicalFType(q.ftype); err != nil {
		return err
	}
	if len(args) > 1 {
		return fmt.Errorf("arguments: got %q after the number of threads, want nothing", args[1])
	}
	if len(args) == 1 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 {
			return fmt.Errorf("threads: got %q, want a number of 1 or more", args[0])
		}
		q.threads = n
	}
	return nil
}

// options reads what can be wrong without looking at any file.
func (q *quantizeFlags) options(o *quant.Options) error {
	if q.threads < 0 || q.maxBufferMiB < 0 || q.maxBufferMiB > 1<<24 {
		return fmt.Errorf("threads and max-buffer-size: got %d and %d, want positive numbers", q.threads, q.maxBufferMiB)
	}
	o.Threads, o.Budget = q.threads, int64(q.maxBufferMiB)<<20
	o.KeepSplit, o.DryRun, o.PruneLayers = q.keepSplit, q.dryRun, q.pruneLayers
	o.IncludeWeights, o.ExcludeWeights = q.includeWeights, q.excludeWeights
	if len(o.IncludeWeights) > 0 && len(o.ExcludeWeights) > 0 {
		return errors.New("include-weights and exclude-weights: got both, want only one of them")
	}
	for _, t := range []struct {
		name string
		to   **gguf.Type
	}{{q.outputType, &o.OutputTensorType}, {q.embeddingType, &o.TokenEmbeddingType}} {
		if t.name == "" {
			continue
		}
		typ, err := gguf.ParseType(t.name)
		if err != nil {
			return err
		}
		*t.to = &typ
	}
	for _, s := range q.overrides {
		kv, err := quant.ParseKVOverride(s)
		if err != nil {
			return err
		}
		o.OverrideKV = append(o.OverrideKV, kv)
	}
	return nil
}

// ruleFlag is one --tensor-type, or the path of one --tensor-type-file.
type ruleFlag struct {
	rule quant.TensorTypeRule
	path string
}

// ruleValue collects both kinds of flags in one list, because their order counts.
type ruleValue struct {
	to   *[]ruleFlag
	file bool
}

// Set reads one occurrence of the flag.
func (v *ruleValue) Set(s string) error {
	if v.file {
		*v.to = append(*v.to, ruleFlag{path: s})
		return nil
	}
	rule, err := quant.ParseTensorTypeRule(s)
	*v.to = append(*v.to, ruleFlag{rule: rule})
	return err
}

// Type names the value in the help.
func (v *ruleValue) Type() string {
	return map[bool]string{false: "PATTERN=TYPE", true: "FILE"}[v.file]
}

// String gives the default, which is none.
func (v *ruleValue) String() string { return "" }

func (q *quantizeFlags) tensorTypes() ([]quant.TensorTypeRule, error) {
	var all []quant.TensorTypeRule
	for _, flag := range q.rules {
		rules := []quant.TensorTypeRule{flag.rule}
		if flag.path != "" {
			var err error
			if rules, err = quant.ReadTensorTypeRules(flag.path); err != nil {
				return nil, err
			}
		}
		all = append(all, rules...)
	}
	return all, nil
}

func (a *app) runQuantize(ctx context.Context, q quantizeFlags, o quant.Options) error {
	o.Warn = func(msg string) { slog.Warn(msg) }
	set, stop := a.stderr.progress("quantize")
	defer stop()
	o.Progress = set
	plan, err := quant.NewPlan(ctx, q.in, q.out, q.ftype, o)
	if err != nil {
		return err
	}
	defer plan.Close()
	if q.dryRun {
		return a.printQuantizePlan(plan)
	}
	result, err := plan.Write(ctx)
	if err != nil {
		return err
	}
	stop()
	w := written{
		Path: result.Paths[0], Size: result.Bytes, InputSize: result.InputBytes, Tensors: result.Tensors,
		Type: plan.FType, Arch: plan.Arch, Duration: result.Duration,
	}
	if len(result.Paths) > 1 {
		w.Paths = result.Paths
	}
	return a.printWritten(w)
}

// quantizedTensor is one line of a dry run.
type quantizedTensor struct {
	Name      string  `json:"name"`
	From      string  `json:"from"`
	Type      string  `json:"type"`
	NE        []int64 `json:"ne"`
	FromBytes int64   `json:"from_bytes"`
	Bytes     int64   `json:"bytes"`
	Imatrix   bool    `json:"imatrix"`
}

func (a *app) printQuantizePlan(p *quant.Plan) error {
	var elements int64
	tensors := make([]quantizedTensor, len(p.Tensors))
	for i, t := range p.Tensors {
		tensors[i] = quantizedTensor{t.Name, t.SourceType.String(), t.Type.String(), t.NE, t.SourceBytes, t.Bytes, t.Imatrix}
		elements += gguf.TensorInfo{NE: t.NE}.Elements()
	}
	bpw := 8 * float64(p.TensorBytes) / float64(max(elements, 1))
	if a.json {
		return a.printJSON(map[string]any{
			"path": p.Files[0].Path, "arch": p.Arch, "type": p.FType, "size": p.Size, "input_size": p.SourceBytes,
			"bpw": bpw, "tensors": tensors,
		})
	}
	t := newTable(a.stdout)
	for _, tensor := range tensors {
		types, sizes := tensor.Type, unit.Bytes(tensor.Bytes)
		if tensor.From != tensor.Type {
			types, sizes = tensor.From+" → "+types, unit.Bytes(tensor.FromBytes)+" → "+sizes
		}
		t.row(tensor.Name, fmt.Sprint(tensor.NE), types, sizes)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s, %s as %s, %d tensors: %s of %s, %.2f bpw\n",
		p.Files[0].Path, p.Arch, p.FType, len(tensors), unit.Bytes(p.Size), unit.Bytes(p.SourceBytes), bpw)
	return err
}
