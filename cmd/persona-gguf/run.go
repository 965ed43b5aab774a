package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/internal/unit"
	"github.com/persona-gguf/persona-gguf/persona"
	"github.com/persona-gguf/persona-gguf/pipeline"
)

const runHelp = `Run goes the whole way from a persona card to a model that answers: scenes and dialogues by a generator, their parsing, SFT
records, gates on them, training, GGUF files, an interview with gates, Modelfile, registration at Ollama and, with --vtuber,
Open-LLM-VTuber. run.json in the root says what every step read, made and was set to. A step whose inputs and settings are
as they were, and whose outputs are there, is not done again; a run that ended in any way is taken up by the same command.

Settings are in run.yaml beside the card, if it is there; flags come before them. Without a generator's name the base model
itself writes, at the Ollama server if one answers (OLLAMA_HOST), else in this process.`

// runFlags are flags that need more than to be stored.
type runFlags struct {
	config, root, only, host string
	c                        pipeline.Config // what the flags say
}

func (a *app) run() *cobra.Command {
	var r runFlags
	r.c = pipeline.DefaultConfig()
	var o pipeline.Options
	cmd := &cobra.Command{
		Use: "run CARD", Short: "go the whole way from a persona card to a registered model", Long: runHelp,
		Args: arguments(1, 1, "the persona CARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.read(cmd, args[0], &o); err != nil {
				return err
			}
			return a.runWay(cmd, o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&r.root, "root", "", "folder of everything that is made (default: ID.run in this folder)")
	f.StringVar(&r.config, "config", "", "settings (default: run.yaml beside the card)")
	f.StringVar(&o.From, "from", "", "first step to do; those before it are taken as they are")
	f.StringVar(&o.To, "to", "", "last step to do")
	f.StringVar(&r.only, "only", "", "the one step to do")
	f.BoolVar(&o.Force, "force", false, "do the steps of the range even if nothing has changed")
	f.BoolVar(&o.DryRun, "dry-run", false, "show what would be done and why, and do nothing")
	f.StringVar(&r.host, "host", "", "address of the Ollama server (default: OLLAMA_HOST)")
	f.StringVar(&o.CacheDir, "cache-dir", "", "folder for the trainer's environment")
	f.StringVar(&o.Python, "python", "", "Python interpreter that has the trainer's packages")
	runConfigFlags(f, &r.c)
	cmd.AddCommand(a.runCompare())
	return cmd
}

// runConfigFlags are the flags that stand before run.yaml.
func runConfigFlags(f *pflag.FlagSet, c *pipeline.Config) {
	f.StringVar(&c.BaseModel, "base-model", "", "folder of the base model (default: base beside the card)")
	f.StringVar(&c.Generator.Engine, "engine", c.Generator.Engine, "who generates: auto, ollama, openai or local")
	f.StringVar(&c.Generator.Model, "model-name", "", "tag of the generator's model (default: the base model itself)")
	f.StringVar(&c.Generator.BaseURL, "openai-base-url", "", "server with OpenAI's API")
	f.StringVarP(&c.Generator.File, "model", "m", "", "GGUF file of the generator for --engine local")
	f.IntVar(&c.Generator.CountScenes, "count-scenes", 0, "scenes of a paragraph; 0: the card's")
	f.IntVar(&c.Generator.CountDialogues, "count-dialogues", 0, "dialogues of a scene; 0: the card's")
	f.IntVar(&c.Generator.Parallel, "parallel", 0, "calls at the same time; 0: found out while running")
	f.Float64Var(&c.Generator.Temperature, "temperature", c.Generator.Temperature, "of the generator")
	f.IntVar(&c.Generator.NumPredict, "num-predict", 0, "tokens of one answer of the generator; 0: by what is made")
	f.IntVar(&c.Generator.Seed, "seed", c.Generator.Seed, "first seed of the generator")
	f.Float64Var(&c.MinYield, "min-yield", c.MinYield, "least share of the generator's jobs that must have an answer")
	f.Float64Var(&c.Train.Epochs, "epochs", c.Train.Epochs, "times that every record is seen")
	f.Float64Var(&c.Train.LearningRate, "learning-rate", c.Train.LearningRate, "peak of the learning rate")
	f.IntVar(&c.Train.BatchSize, "batch-size", c.Train.BatchSize, "records at a time")
	f.IntVar(&c.Train.GradAccum, "grad-accum", c.Train.GradAccum, "batches whose gradients make one step")
	f.IntVar(&c.Train.MaxLength, "max-length", c.Train.MaxLength, "most tokens of a record")
	f.IntVar(&c.Train.Rank, "lora-r", c.Train.Rank, "rank of the adapter")
	f.BoolVar(&c.Train.No4Bit, "no-4bit", false, "keep the base in 16 bits (32 on a CPU) instead of NF4")
	f.BoolVar(&c.Train.CPU, "cpu", false, "train on the CPU")
	f.IntVarP(&c.Train.Threads, "threads", "t", 0, "CPU threads of PyTorch")
	f.StringSliceVar(&c.Types, "types", c.Types, "types of the GGUF files; the last one is served")
	f.StringVar(&c.Name, "name", "", "name of the model at the Ollama server (default: the card's id)")
	f.StringVar(&c.Register, "register", c.Register, "auto: if a server answers; always; never")
	f.StringVar(&c.VTuber.Dir, "vtuber", "", "folder of Open-LLM-VTuber to set the character up in")
	f.BoolVar(&c.VTuber.Conf, "vtuber-conf", false, "set conf.yaml there too")
}

// setters put the flags that are given into the settings.
var setters = map[string]func(to, from *pipeline.Config){
	"base-model":      func(to, from *pipeline.Config) { to.BaseModel = from.BaseModel },
	"engine":          func(to, from *pipeline.Config) { to.Generator.Engine = from.Generator.Engine },
	"model-name":      func(to, from *pipeline.Config) { to.Generator.Model = from.Generator.Model },
	"openai-base-url": func(to, from *pipeline.Config) { to.Generator.BaseURL = from.Generator.BaseURL },
	"model":           func(to, from *pipeline.Config) { to.Generator.File = from.Generator.File },
	"count-scenes":    func(to, from *pipeline.Config) { to.Generator.CountScenes = from.Generator.CountScenes },
	"count-dialogues": func(to, from *pipeline.Config) { to.Generator.CountDialogues = from.Generator.CountDialogues },
	"parallel":        func(to, from *pipeline.Config) { to.Generator.Parallel = from.Generator.Parallel },
	"temperature":     func(to, from *pipeline.Config) { to.Generator.Temperature = from.Generator.Temperature },
	"num-predict":     func(to, from *pipeline.Config) { to.Generator.NumPredict = from.Generator.NumPredict },
	"seed":            func(to, from *pipeline.Config) { to.Generator.Seed = from.Generator.Seed },
	"min-yield":       func(to, from *pipeline.Config) { to.MinYield = from.MinYield },
	"epochs":          func(to, from *pipeline.Config) { to.Train.Epochs = from.Train.Epochs },
	"learning-rate":   func(to, from *pipeline.Config) { to.Train.LearningRate = from.Train.LearningRate },
	"batch-size":      func(to, from *pipeline.Config) { to.Train.BatchSize = from.Train.BatchSize },
	"grad-accum":      func(to, from *pipeline.Config) { to.Train.GradAccum = from.Train.GradAccum },
	"max-length":      func(to, from *pipeline.Config) { to.Train.MaxLength = from.Train.MaxLength },
	"lora-r":          func(to, from *pipeline.Config) { to.Train.Rank = from.Train.Rank },
	"no-4bit":         func(to, from *pipeline.Config) { to.Train.No4Bit = from.Train.No4Bit },
	"cpu":             func(to, from *pipeline.Config) { to.Train.CPU = from.Train.CPU },
	"threads":         func(to, from *pipeline.Config) { to.Train.Threads = from.Train.Threads },
	"types":           func(to, from *pipeline.Config) { to.Types = from.Types },
	"name":            func(to, from *pipeline.Config) { to.Name = from.Name },
	"register":        func(to, from *pipeline.Config) { to.Register = from.Register },
	"vtuber":          func(to, from *pipeline.Config) { to.VTuber.Dir = from.VTuber.Dir },
	"vtuber-conf":     func(to, from *pipeline.Config) { to.VTuber.Conf = from.VTuber.Conf },
}

// read reads card and settings, and puts the flags over them.
func (r *runFlags) read(cmd *cobra.Command, card string, o *pipeline.Options) error {
	if r.only != "" {
		if o.From != "" || o.To != "" {
			return badUsage(cmd, errors.New("only: got --from or --to too, want one of them"))
		}
		o.From, o.To = r.only, r.only
	}
	var err error
	if o.Card, err = persona.Read(card); err != nil {
		return err
	}
	if r.config != "" {
		o.Config, err = pipeline.ReadConfig(r.config)
	} else {
		o.Config, err = pipeline.FindConfig(card)
	}
	if err != nil {
		return err
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if set := setters[f.Name]; set != nil {
			set(&o.Config, &r.c)
		}
	})
	if err := o.Config.Check(); err != nil {
		return badUsage(cmd, err)
	}
	o.CardPath, o.Root = card, r.root
	if o.Root == "" {
		o.Root = o.Card.ID + ".run"
	}
	if o.Server, err = serverOf(r.host); err != nil {
		return badUsage(cmd, err)
	}
	o.Models, o.OpenAIKey, o.Env, o.Version = modelFolder(o.Server), os.Getenv("OPENAI_API_KEY"), os.Environ(), version
	o.Command = again(os.Args)
	return nil
}

// again is the command that goes on, as it is typed.
func again(args []string) string {
	out := []string{filepath.Base(args[0])}
	for _, arg := range args[1:] {
		if strings.ContainsAny(arg, " \t\n'\"\\$`!*?[](){}<>|&;#~") || arg == "" {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		if arg != "--force" { // what was done again is done
			out = append(out, arg)
		}
	}
	return strings.Join(out, " ")
}

// runWay runs, and shows how it goes.
func (a *app) runWay(cmd *cobra.Command, o pipeline.Options) error {
	o.Info, o.Warn = func(s string) { slog.Info(s) }, func(s string) { slog.Warn(s) }
	var mu sync.Mutex // progress may come from several goroutines
	stop := func() {}
	var set func(done, total int64, detail string)
	defer func() { stop() }()
	began := false
	o.Status = func(all []pipeline.StepStatus, at int) {
		mu.Lock()
		defer mu.Unlock()
		stop()
		stop, set = func() {}, nil
		if !began && !o.DryRun {
			began = true
			a.printETA(all)
		}
		fmt.Fprintln(a.stderr, stepLine(&all[at], at, len(all)))
	}
	o.Progress = func(step string, done, total int64, detail string) {
		mu.Lock()
		defer mu.Unlock()
		if set == nil {
			set, stop = a.stderr.steps(step)
		}
		set(done, total, detail)
	}
	result, err := pipeline.Run(cmd.Context(), o)
	stop()
	if result != nil {
		if cmd.Context().Err() != nil {
			slog.Info("what is done is kept, go on with: " + o.Command)
		}
		if e := a.printRun(result, err == nil); err == nil {
			err = e
		}
	}
	return err
}

// printETA says how long the steps took the last time.
func (a *app) printETA(all []pipeline.StepStatus) {
	total, known := 0.0, 0
	for _, s := range all {
		if s.ETA >= 0 {
			total += s.ETA
			known++
		}
	}
	if known > 0 {
		fmt.Fprintf(a.stderr, "persona-gguf: all steps took %s the last time (%d of %d are known)\n", seconds(total), known, len(all))
	}
}

func seconds(s float64) string { return unit.Duration(time.Duration(s * float64(time.Second))) }

// stepLine is a line of the table of steps: number, name, state, time, reason.
func stepLine(s *pipeline.StepStatus, at, of int) string {
	took := ""
	switch {
	case s.State == pipeline.Running && s.ETA >= 0:
		took = "about " + seconds(s.ETA)
	case s.State == pipeline.Running:
		took = "time unknown"
	case s.State == pipeline.Done || s.State == pipeline.Failed:
		took = seconds(s.Seconds)
	case s.ETA >= 0 && (s.State == pipeline.WouldRun || s.State == pipeline.MayRun):
		took = "about " + seconds(s.ETA)
	}
	why := s.Why
	if s.State == pipeline.Done || s.State == pipeline.Failed { // it stood where the step began, or the error tells
		why = ""
	}
	line := fmt.Sprintf("%2d/%d %-16s %-12s %-12s %s", at+1, of, s.Step, s.State, took, why)
	return printable(strings.TrimRight(line, " "))
}

func (a *app) printRun(r *pipeline.Result, whole bool) error {
	if a.json {
		return a.printJSON(r)
	}
	if r.DryRun {
		text := "unknown for some steps"
		if r.ETA >= 0 {
			text = "about " + seconds(r.ETA)
		}
		_, err := fmt.Fprintf(a.stdout, "%s: nothing was done; time of the steps that would or may run: %s\n", printable(r.Root), text)
		return err
	}
	if !whole {
		return nil
	}
	for _, path := range r.Models {
		fmt.Fprintln(a.stdout, printable(path))
	}
	text := "not registered"
	if r.Name != "" {
		text = "registered as " + r.Name + " at " + r.Server
	}
	_, err := fmt.Fprintf(a.stdout, "%s, %s; what was done is in %s\n", text, seconds(r.Seconds), printable(r.Manifest))
	return err
}

func (a *app) runCompare() *cobra.Command {
	return &cobra.Command{
		Use: "compare A B", Short: "show in what two runs differ",
		Long: "Compare lists the settings, inputs, seeds, versions, outputs and figures in which two runs differ, step by step.\n" +
			"A and B are roots of runs, or their run.json.",
		Args: arguments(2, 2, "two roots of runs, or their run.json"),
		RunE: func(_ *cobra.Command, args []string) error {
			var runs [2]*pipeline.Manifest
			for i := range runs {
				var err error
				if runs[i], err = pipeline.ReadManifest(args[i]); err != nil {
					return err
				}
			}
			found := pipeline.Compare(runs[0], runs[1])
			if a.json {
				return a.printJSON(map[string]any{"a": args[0], "b": args[1], "differences": found})
			}
			t := newTable(a.stdout)
			t.row("step", "what", "key", args[0], args[1])
			for _, d := range found {
				t.row(d.Step, d.What, d.Key, shortHash(d.A), shortHash(d.B))
			}
			if len(found) == 0 {
				t.row("no difference")
			}
			return t.Flush()
		},
	}
}
