package main

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/internal/unit"
	"github.com/persona-gguf/persona-gguf/persona"
	"github.com/persona-gguf/persona-gguf/train"
)

const trainHelp = `Train makes a LoRA adapter (QLoRA unless --no-4bit) of a base model and SFT records. It starts a PyTorch trainer, whose
environment it sets up by itself the first time: uv from PATH, or installed into the cache, never into the system's Python.
Only the character's turns are learned, each with its end token; nothing is cut, and nothing is added to the text.

HF_TOKEN in the environment is used for models of the hub; with WANDB_API_KEY the run is reported to Weights & Biases.
Ctrl-C saves a checkpoint; --resume goes on from the last one.`

func (a *app) train() *cobra.Command {
	o := train.DefaultOptions()
	var character, card string
	cmd := &cobra.Command{
		Use: "train --base-model DIR --data-path FILE --output-dir DIR", Short: "train an adapter with PyTorch", Long: trainHelp,
		Args: arguments(0, 0, "none; everything is a flag"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readCard(&o, character, card); err != nil {
				return err
			}
			if err := o.Check(); err != nil {
				return badUsage(cmd, err)
			}
			o.Env = os.Environ()
			o.Info, o.Warn = func(s string) { slog.Info(s) }, func(s string) { slog.Warn(s) }
			set, stop := a.stderr.steps("train")
			defer stop()
			o.Progress = func(p train.Progress) { set(p.Step, p.Steps, describe(p)) }
			result, err := train.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			stop()
			return a.printTrained(result)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&character, "character", "", "slug of the character: sets --data-path and --output-dir to training_data/NAME/training_data.jsonl and checkpoints/NAME")
	f.StringVar(&card, "card", "", "persona card, to render records without spans anew")
	trainFlags(f, &o)
	return cmd
}

func trainFlags(f *pflag.FlagSet, o *train.Options) {
	f.StringVar(&o.BaseModel, "base-model", "", "folder of the base model, or its name on the hub")
	f.StringVar(&o.DataPath, "data-path", "", "JSONL file of SFT records")
	f.StringVar(&o.OutputDir, "output-dir", "", "folder for the adapter")
	f.Float64Var(&o.Epochs, "epochs", o.Epochs, "times that every record is seen")
	f.Float64Var(&o.LearningRate, "learning-rate", o.LearningRate, "peak of the learning rate, after the warm-up; cosine to zero")
	f.IntVar(&o.BatchSize, "batch-size", o.BatchSize, "records at a time, per process")
	f.IntVar(&o.GradAccum, "grad-accum", o.GradAccum, "batches whose gradients make one step")
	f.IntVar(&o.MaxLength, "max-length", o.MaxLength, "most tokens of a record; none is cut")
	f.Float64Var(&o.MaxTruncated, "max-truncated", o.MaxTruncated, "share of the records that may be longer, and are left out then; more is an error")
	f.IntVar(&o.LoraR, "lora-r", o.LoraR, "rank of the adapter")
	f.Float64Var(&o.LoraAlpha, "lora-alpha", o.LoraAlpha, "its scale is alpha / r")
	f.Float64Var(&o.LoraDropout, "lora-dropout", o.LoraDropout, "dropout in front of it")
	f.BoolVar(&o.RSLora, "rslora", false, "scale alpha / sqrt(r)")
	f.BoolVar(&o.DoRA, "dora", false, "learn a magnitude for each row too (DoRA)")
	f.BoolVar(&o.No4Bit, "no-4bit", false, "keep the base in 16 bits (32 on a CPU) instead of NF4")
	f.Float64Var(&o.WarmupRatio, "warmup-ratio", o.WarmupRatio, "share of the steps in which the learning rate rises")
	f.Float64Var(&o.WeightDecay, "weight-decay", o.WeightDecay, "weight decay of AdamW")
	f.Float64Var(&o.EvalSplit, "eval-split", o.EvalSplit, "share held out by source, for records that have no split (default 0.02)")
	f.Lookup("eval-split").DefValue = "0"
	f.IntVar(&o.EarlyStopping, "early-stopping", o.EarlyStopping, "end after so many evaluations (one per epoch) without a better loss; 0 never")
	f.IntVar(&o.SaveSteps, "save-steps", o.SaveSteps, "a checkpoint every so many steps, besides one per epoch; 0 for those only")
	f.IntVar(&o.LoggingSteps, "logging-steps", o.LoggingSteps, "steps between two reports of the loss")
	f.IntVar(&o.Seed, "seed", o.Seed, "seed of everything random")
	f.BoolVar(&o.Resume, "resume", false, "go on from the last checkpoint in the output folder")
	f.BoolVar(&o.Strict, "strict", false, "refuse records without spans, and damaged files")
	f.BoolVar(&o.CPU, "cpu", false, "leave GPUs alone")
	f.IntVarP(&o.Threads, "threads", "t", 0, "CPU threads of PyTorch (default: its own choice)")
	f.StringVar(&o.Launcher, "launcher", "", "start several processes with torchrun or accelerate")
	f.IntVar(&o.NProc, "nproc", o.NProc, "processes on this machine")
	f.IntVar(&o.NNodes, "nnodes", o.NNodes, "machines; the command runs on each")
	f.IntVar(&o.NodeRank, "node-rank", 0, "which machine this is, from 0")
	f.StringVar(&o.MasterAddr, "master-addr", o.MasterAddr, "address of machine 0")
	f.IntVar(&o.MasterPort, "master-port", o.MasterPort, "port there")
	f.BoolVar(&o.UnloadOllama, "unload-ollama", false, "unload the models that Ollama holds in memory")
	f.BoolVar(&o.NoMemoryCheck, "no-memory-check", false, "start even if the estimated memory is not free")
	f.StringVar(&o.Python, "python", "", "Python interpreter that has the packages (default: one is set up)")
	f.StringVar(&o.CacheDir, "cache-dir", "", "folder for uv and the environment (default: .cache of the checkout, or the user's cache)")
}

// readCard reads the card, and fills in what the character's slug gives.
func readCard(o *train.Options, character, card string) error {
	if card != "" {
		c, err := persona.Read(card)
		if err != nil {
			return err
		}
		if character != "" && c.ID != character {
			return fmt.Errorf("card %s: id: got %s, want %s as --character says", card, c.ID, character)
		}
		o.Card = c
	}
	if character != "" && o.DataPath == "" {
		o.DataPath = filepath.Join("training_data", character, "training_data.jsonl")
	}
	if character != "" && o.OutputDir == "" {
		o.OutputDir = filepath.Join("checkpoints", character)
	}
	return nil
}

// describe is what stands beside the bar.
func describe(p train.Progress) string {
	if p.TokensPerSecond == 0 {
		return "starting"
	}
	text := fmt.Sprintf("loss %.4f", p.Loss)
	if !math.IsNaN(p.EvalLoss) {
		text += fmt.Sprintf(", eval loss %.4f", p.EvalLoss)
	}
	return text + fmt.Sprintf(", %.0f tokens/s", p.TokensPerSecond)
}

func (a *app) printTrained(r *train.Result) error {
	if a.json {
		return a.printJSON(r)
	}
	m := r.Manifest.Result
	if m.Steps == 0 {
		return nil // not the first of several machines
	}
	text := fmt.Sprintf("%s\nLoRA r %d, %s weights, %d steps in %s", r.OutputDir, r.Manifest.Hyperparameters.LoraR,
		unit.Count(m.Trainable), m.Steps, unit.Duration(r.Duration))
	if m.TrainLoss != nil {
		text += fmt.Sprintf(", mean loss %.4f", *m.TrainLoss)
	}
	if m.BestEvalLoss != nil {
		text += fmt.Sprintf(", held out %.4f at step %d", *m.BestEvalLoss, *m.BestStep)
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}
