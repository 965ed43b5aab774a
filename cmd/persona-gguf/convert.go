package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

func (a *app) convert() *cobra.Command {
	var o convert.Options
	var dryRun bool
	cmd := &cobra.Command{
		Use: "convert MODEL_DIR", Short: "make a GGUF file of a Hugging Face model folder",
		Long: "Convert writes the GGUF file that llama.cpp's convert_hf_to_gguf.py writes for the same folder, byte for byte.",
		Args: arguments(1, 1, "MODEL_DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Threads < 0 {
				return badUsage(cmd, fmt.Errorf("threads: got %d, want 1 or more, or 0 for one per CPU", o.Threads))
			}
			o.Warn = func(msg string) { slog.Warn(msg) }
			var stop func()
			o.Progress, stop = a.stderr.progress("convert")
			defer stop()
			plan, err := convert.NewPlan(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			defer plan.Close()
			if dryRun {
				return a.printConvertPlan(plan)
			}
			result, err := plan.Write(cmd.Context())
			if err != nil {
				return err
			}
			stop()
			return a.printWritten(written{
				Path: result.Path, Size: result.Bytes, InputSize: result.InputBytes, Tensors: result.Tensors,
				Type: plan.OutType, Arch: plan.Arch, Duration: result.Duration,
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.OutFile, "outfile", "", "file to write, or a folder for the default name; {ftype} in it becomes the type (default: a name made of the model's, in MODEL_DIR)")
	f.StringVar(&o.OutType, "outtype", "auto", "type of the weights: f32, f16, bf16, q8_0, or auto for the 16-bit type of the source")
	f.BoolVar(&dryRun, "dry-run", false, "print the plan (tensors, types, size, free disk) and write nothing")
	f.IntVarP(&o.Threads, "threads", "t", 0, "encoders at work (default: one per CPU)")
	f.StringVar(&o.Metadata, "metadata", "", "JSON file whose general.* keys replace what is found")
	f.StringVar(&o.ModelName, "model-name", "", "name of the model (general.name)")
	f.StringVar(&o.PreTokenizer, "pre", "", "llama.cpp's name of the pre-tokenizer, for a tokenizer that is not recognised")
	f.BoolVar(&o.FixKeys, "fix-keys", false, "add keys that llama.cpp needs and the reference converter leaves out (EXAONE 3.5)")
	return cmd
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
