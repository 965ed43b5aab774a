package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

// convertFlags are flags whose values need reading before they are options.
type convertFlags struct {
	adapters    adapterFlags
	quant       quantizeFlags
	dryRun      bool
	adapterOnly string
	base        string
	origin      originFlags
}

func (a *app) convert() *cobra.Command {
	var o convert.Options
	var c convertFlags
	cmd := &cobra.Command{
		Use: "convert MODEL_DIR", Short: "make a GGUF file of a Hugging Face model folder",
		Long: "Convert writes the GGUF file that llama.cpp's convert_hf_to_gguf.py writes for the same folder, byte for byte.\n" +
			"With --adapter it merges LoRA adapters on the way, and with a quantized --outtype it quantizes: one pass over the\n" +
			"base, no file in between, and the bytes of merge, convert to f16 and quantize.\n" +
			"With --adapter-only DIR --base MODEL_DIR it writes the adapter alone, for chat --lora.",
		Args: arguments(0, 1, "MODEL_DIR, or --adapter-only DIR with --base MODEL_DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.options(args, &o); err != nil {
				return badUsage(cmd, err)
			}
			o.Warn = func(msg string) { slog.Warn(msg) }
			return a.runConvert(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.OutFile, "outfile", "", "file to write, or a folder for the default name; {ftype} in it becomes the type (default: a name made of the model's, in MODEL_DIR)")
	f.StringVar(&o.OutType, "outtype", "auto", "type of the weights: f32, f16, bf16, q8_0, auto for the 16-bit type of the source, or any type of quantize")
	c.adapters.define(f)
	f.StringVar(&c.adapterOnly, "adapter-only", "", "adapter folder to convert by itself; the type is f32 unless --outtype says another")
	f.StringVar(&c.base, "base", "", "MODEL_DIR, for --adapter-only")
	f.BoolVar(&c.dryRun, "dry-run", false, "print the plan (tensors, types, size, free disk) and write nothing")
	f.IntVarP(&o.Threads, "threads", "t", 0, "encoders at work (default: one per CPU)")
	f.StringVar(&o.Metadata, "metadata", "", "JSON file whose general.* keys replace what is found")
	f.StringVar(&o.ModelName, "model-name", "", "name of the model (general.name)")
	f.StringVar(&o.PreTokenizer, "pre", "", "llama.cpp's name of the pre-tokenizer, for a tokenizer that is not recognised")
	f.BoolVar(&o.FixKeys, "fix-keys", false, "add keys that llama.cpp needs and the reference converter leaves out (EXAONE 3.5)")
	f.StringVar(&c.origin.from, "provenance", "", "write persona.* keys: from a JSON FILE, or auto for what the adapter's training.json tells; the file then differs from the reference's")
	c.quant.defineTypes(f, &o.Quant)
	return cmd
}

// options reads what can be wrong without looking at any file.
func (c *convertFlags) options(args []string, o *convert.Options) error {
	if len(args) == 1 {
		if c.base != "" {
			return fmt.Errorf("base: got --base %s and MODEL_DIR %s, want one of them", c.base, args[0])
		}
		c.base = args[0]
	}
	switch {
	case c.base == "":
		return errors.New("arguments: got no MODEL_DIR, want one (or --base MODEL_DIR)")
	case c.adapterOnly != "" && len(c.adapters.adapters) > 0:
		return errors.New("adapter-only: got --adapter too, want one of them")
	case c.adapterOnly != "" && c.origin.from != "":
		return errors.New("adapter-only: got --provenance too, want one of them")
	case o.Threads < 0:
		return fmt.Errorf("threads: got %d, want 1 or more, or 0 for one per CPU", o.Threads)
	}
	var err error
	if o.Adapters, o.Merge, err = c.adapters.options(); err != nil {
		return err
	}
	if err := c.quant.options(&o.Quant); err != nil {
		return err
	}
	o.Quant.DryRun = c.dryRun
	return nil
}

func (a *app) runConvert(ctx context.Context, c convertFlags, o convert.Options) error {
	var err error
	if o.Quant.TensorTypes, err = c.quant.tensorTypes(); err != nil {
		return err
	}
	var adapters []string
	for _, source := range o.Adapters {
		adapters = append(adapters, source.Dir)
	}
	if o.Extra, err = c.origin.keys(adapters); err != nil {
		return err
	}
	var stop func()
	o.Progress, stop = a.stderr.progress("convert")
	defer stop()
	plan, err := newConvertPlan(ctx, c, o)
	if err != nil {
		return err
	}
	defer plan.Close()
	a.sayBase(plan.BaseQuant, plan.Recorded)
	if c.dryRun {
		return a.printConvertPlan(plan)
	}
	result, err := plan.Write(ctx)
	if err != nil {
		return err
	}
	stop()
	return a.printWritten(written{
		Path: result.Path, Size: result.Bytes, InputSize: result.InputBytes, Tensors: result.Tensors,
		Type: plan.OutType, Arch: plan.Arch, Duration: result.Duration, BaseQuant: plan.BaseQuant,
	})
}

func newConvertPlan(ctx context.Context, c convertFlags, o convert.Options) (*convert.Plan, error) {
	if c.adapterOnly != "" {
		return convert.NewAdapterPlan(ctx, c.base, c.adapterOnly, o)
	}
	return convert.NewPlan(ctx, c.base, o)
}

// written is what convert and quantize report; MBPerSecond is of the bytes read.
type written struct {
	Path        string        `json:"path"`
	Paths       []string      `json:"paths,omitempty"` // all, when the output is split
	Size        int64         `json:"size"`
	InputSize   int64         `json:"input_size"`
	Tensors     int           `json:"tensors"`
	Type        string        `json:"type"`
	Arch        string        `json:"arch"`
	Duration    time.Duration `json:"duration_ns"`
	MBPerSecond float64       `json:"mb_per_s"`
	BaseQuant   string        `json:"base_quant,omitempty"` // what adapters were merged into
}

func (a *app) printWritten(w written) error {
	if s := w.Duration.Seconds(); s > 0 {
		w.MBPerSecond = float64(w.InputSize) / 1e6 / s
	}
	if a.json {
		return a.printJSON(w)
	}
	for _, path := range append([]string{w.Path}, w.Paths...) {
		if _, err := fmt.Fprintln(a.stdout, path); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "%s, %s, %d tensors, %s in %s, %.0f MB/s\n",
		w.Arch, w.Type, w.Tensors, unit.Bytes(w.Size), unit.Duration(w.Duration), w.MBPerSecond)
	return err
}

// planTensor is one line of a dry run.
type planTensor struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	NE      []int64  `json:"ne"`
	Bytes   int64    `json:"bytes"`
	Sources []string `json:"sources,omitempty"`
}

func (a *app) printConvertPlan(p *convert.Plan) error {
	tensors := make([]planTensor, len(p.Tensors))
	for i, t := range p.Tensors {
		tensors[i] = planTensor{t.Name, t.Type.String(), t.NE, t.Bytes, t.Sources}
	}
	if a.json {
		return a.printJSON(map[string]any{
			"path": p.OutFile, "arch": p.Arch, "hf_arch": p.HFArch, "type": p.OutType, "size": p.Size,
			"input_size": p.InputBytes, "free_disk": p.FreeDisk, "tensors": tensors,
		})
	}
	t := newTable(a.stdout)
	for _, tensor := range tensors {
		t.row(tensor.Name, tensor.Type, fmt.Sprint(tensor.NE), unit.Bytes(tensor.Bytes), strings.Join(tensor.Sources, " "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s, %s as %s, %d tensors: %s of %s; %s free on the disk\n",
		p.OutFile, p.HFArch, p.OutType, len(tensors), unit.Bytes(p.Size), unit.Bytes(p.InputBytes), unit.Bytes(int64(p.FreeDisk)))
	return err
}
