package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTooLong says that more records are too long than may be.
var ErrTooLong = errors.New("records too long")

// Result is what a run gives. It is empty on machines other than the first of several.
type Result struct {
	OutputDir string        `json:"output_dir"`
	Manifest  Manifest      `json:"training"`
	Resumed   int64         `json:"resumed"` // step that the run went on from
	Duration  time.Duration `json:"duration_ns"`
}

// run is the state of one run.
type run struct {
	o        *Options
	base     *base
	data     *data
	started  started
	resume   string
	gpu      bool
	work     string   // folder for the configuration and the data
	folder   *os.File // the output folder, locked
	log      *os.File
	lines    []logLine
	progress Progress
	begin    event // start
	counted  event // data
	done     *event
	stopped  *event
}

// Run trains: it reads the base and the data, looks at the machine, sets up the environment, and follows the
// trainer. If ctx ends, the trainer saves a checkpoint first, and Run returns the context's error; the same
// options with Resume then go on. Nothing of an unfinished run looks like an adapter.
func Run(ctx context.Context, o Options) (*Result, error) {
	begin := time.Now()
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	r := &run{o: &o}
	r.progress.EvalLoss = math.NaN()
	defer func() { r.folder.Close() }()
	for _, step := range []func(context.Context) error{r.openBase, r.openData, r.openOutput, r.look, r.follow} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	return r.result(begin), nil
}

// openBase resolves the base model and reads it, before any other work.
func (r *run) openBase(ctx context.Context) error {
	name, dir := r.o.BaseModel, r.o.BaseModel
	if isHubName(name) {
		for _, what := range []string{"config", "all"} {
			var err error
			if dir, err = r.fetch(ctx, name, what); err != nil {
				return err
			}
			if _, err := openBase(name, dir, false); err != nil {
				return err
			}
		}
	}
	var err error
	if r.base, err = openBase(name, dir, true); err != nil {
		return err
	}
	if n := r.base.maxLength; n > 0 && r.o.MaxLength > n {
		return fmt.Errorf("max_length: got %d tokens, want at most the %d of %s", r.o.MaxLength, n, name)
	}
	r.started.BaseModel = name
	r.started.BaseSHA256, err = r.base.sha256Files()
	return err
}

// fetch gets a model of the hub through the trainer's environment; HF_TOKEN in the environment is used.
func (r *run) fetch(ctx context.Context, name, what string) (dir string, err error) {
	e, err := prepare(ctx, r.o)
	if err != nil {
		return "", err
	}
	r.o.info("base model %s: looking for it on the hub (%s)", name, map[string]string{"config": "configuration", "all": "weights"}[what])
	p := process{scrub: newScrubber(r.o.Env), log: discard{}, handle: func(e event) error {
		if e.Event == "base" {
			dir = e.Path
		}
		return nil
	}}
	if err := p.run(ctx, []string{e.python, "-u", e.script, "fetch", name, what}, r.o.Env); err != nil {
		return "", err
	}
	if dir == "" {
		return "", errors.Join(fmt.Errorf("%w %s: got no folder from the hub", ErrBase, name), ctx.Err())
	}
	return dir, nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (r *run) openData(context.Context) (err error) {
	if r.data, err = readData(r.o); err != nil {
		return err
	}
	r.started.DataSHA256, r.started.PromptFormat = r.data.sha256, string(r.data.format)
	r.started.TrainerSHA256 = sha256Text(trainerSource)
	r.started.Hyperparameters = r.o.hyperparameters(r.base.adapted, r.data.evalShare())
	return nil
}

func (r *run) openOutput(ctx context.Context) (err error) {
	if r.o.NodeRank > 0 {
		return os.MkdirAll(r.o.OutputDir, 0o755)
	}
	if err := r.lock(ctx); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	r.resume, err = openOutput(r.o, r.started)
	return err
}

// lockPoll is how often a locked folder is looked at.
const lockPoll = 100 * time.Millisecond

// lock waits until no trainer works in the output folder. A trainer has the lock from this program and keeps it when
// this program is killed: it then still writes its checkpoint, and removes older ones.
func (r *run) lock(ctx context.Context) (err error) {
	if err := os.MkdirAll(r.o.OutputDir, 0o755); err != nil {
		return err
	}
	if r.folder, err = os.Open(r.o.OutputDir); err != nil {
		return err
	}
	for said := false; ; said = true {
		if err := unix.Flock(int(r.folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !said {
			r.o.info("a trainer still works in %s: waiting for its end", r.o.OutputDir)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

func (r *run) look(ctx context.Context) error {
	r.gpu = findGPU(ctx, r.o) != nil
	settings, err := json.Marshal(r.started.Hyperparameters)
	if err != nil {
		return err
	}
	r.o.info("base: %s, %s, %d blocks; data: %d records to train on, %d held out, %s", r.base.name, r.base.arch, r.base.blocks, r.data.train, r.data.eval, r.data.format)
	r.o.info("settings: %s", strings.NewReplacer(`"`, "", "{", "", "}", "", ",", ", ").Replace(string(settings)))
	return preflight(ctx, r.o, r.base, r.data)
}

// follow runs the trainer to its end, and writes down what it did.
func (r *run) follow(ctx context.Context) (err error) {
	e, err := prepare(ctx, r.o)
	if err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "persona-gguf-train"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	configPath, err := r.writeConfig()
	if err != nil {
		return err
	}
	if r.o.NodeRank == 0 { // from here on the folder holds a run
		if err := writeJSON(r.path(runFile), r.started); err != nil {
			return err
		}
	}
	if err := r.openLog(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.log.Close()) }()
	out, err := os.OpenFile(r.path(outputFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p := process{scrub: newScrubber(r.o.Env), log: &syncWriter{w: out}, handle: r.handle, holds: r.folder}
	failed := p.run(ctx, r.o.trainerCommand(e, r.gpu, configPath), r.trainerEnv())
	if r.o.NodeRank > 0 {
		return errors.Join(failed, ctx.Err())
	}
	if err := writePlot(r.path(plotFile), r.lines); err != nil {
		r.o.warn("%v", err)
	}
	if r.done != nil && failed == nil {
		return finish(r.o.OutputDir, r.base, r.manifest())
	}
	return r.unfinished(ctx, failed)
}

// unfinished says what is kept of a run that did not end, and why it did not.
func (r *run) unfinished(ctx context.Context, failed error) error {
	if all, err := checkpoints(r.o.OutputDir); err == nil && len(all) > 0 {
		r.o.info("the last checkpoint is kept, %s: --resume goes on from there", all[len(all)-1])
	} else if err := os.Remove(r.path(runFile)); err != nil {
		return errors.Join(failed, err)
	}
	if failed == nil {
		if failed = ctx.Err(); failed == nil {
			failed = errors.New("trainer: got its end without a result")
		}
	}
	return failed
}

func (r *run) path(name string) string {
	if r.o.NodeRank > 0 {
		name = fmt.Sprintf("node-%d-%s", r.o.NodeRank, name)
	}
	return filepath.Join(r.o.OutputDir, name)
}

func (r *run) writeConfig() (string, error) {
	records := filepath.Join(r.work, "records.jsonl")
	if err := r.data.write(records); err != nil {
		return "", err
	}
	var dirs [2]string
	for i, dir := range []string{r.base.dir, r.o.OutputDir} {
		var err error
		if dirs[i], err = filepath.Abs(dir); err != nil {
			return "", err
		}
	}
	path := filepath.Join(r.work, "config.json")
	return path, writeJSON(path, config{
		Base: dirs[0], BaseName: r.base.name, Data: records, Output: dirs[1], Resume: r.resume, RunName: filepath.Base(dirs[1]),
		hyperparameters: r.started.Hyperparameters, SaveSteps: r.o.SaveSteps, LoggingSteps: r.o.LoggingSteps, CPU: r.o.CPU,
		Threads: r.o.Threads, WandB: lookEnv(r.o.Env, "WANDB_API_KEY") != "", WatchStdin: true,
	})
}

// trainerEnv is the environment of the trainer: nothing of the machine's Python reaches it, and with several
// processes on a CPU each has its share of the threads.
func (r *run) trainerEnv() []string {
	env := append([]string{}, r.o.Env...)
	env = append(env, "PYTHONNOUSERSITE=1", "TOKENIZERS_PARALLELISM=false", "HF_HUB_DISABLE_TELEMETRY=1", "PYTHONIOENCODING=utf-8")
	if r.o.Threads > 0 {
		env = append(env, fmt.Sprintf("OMP_NUM_THREADS=%d", r.o.Threads))
	}
	return env
}

// openLog opens train_log.jsonl, with the lines of the part that the run goes on from.
func (r *run) openLog() (err error) {
	if r.resume != "" {
		if r.lines, err = readLog(r.path(logFile), checkpointStep(r.resume)); err != nil {
			return err
		}
		r.progress.EvalLoss = last(r.lines, func(l logLine) *float64 { return l.EvalLoss })
	}
	if r.log, err = os.Create(r.path(logFile)); err != nil {
		return err
	}
	for _, l := range r.lines {
		if err := json.NewEncoder(r.log).Encode(l); err != nil {
			return errors.Join(err, r.log.Close())
		}
	}
	return nil
}

// handle takes an event of the trainer.
func (r *run) handle(e event) error {
	switch e.Event {
	case "sample":
		r.showSample(e)
	case "data":
		r.counted = e
		r.o.info("records: %d, %.0f tokens, %d of them under the loss, the longest has %d; %d longer than %d tokens",
			e.Records, e.Tokens, e.Learned, e.Longest, e.TooLong, e.MaxLength)
		if e.TooLong > 0 {
			r.o.warn("%d records longer than %d tokens are left out, none is cut", e.TooLong, e.MaxLength)
		}
	case "start":
		r.begin = e
		r.o.info("trainer: %s, %d processes, %s, optimizer %s", e.Device, e.Processes, e.Compute, e.Optimizer)
	case "begin":
		r.show(e.Step, e.Steps)
	case "step":
		r.progress.TokensPerSecond = e.TokensPerSecond
		if e.Loss != nil {
			r.progress.Loss = *e.Loss
		}
		r.show(e.Step, e.Steps)
		return r.write(logLine{Event: "step", Step: e.Step, Epoch: e.Epoch, Loss: e.Loss, LearningRate: e.LearningRate,
			GradNorm: e.GradNorm, Tokens: e.Tokens, TokensPerSecond: e.TokensPerSecond, Memory: e.Memory})
	case "eval":
		if e.EvalLoss != nil {
			r.progress.EvalLoss = *e.EvalLoss
		}
		r.show(e.Step, r.progress.Steps)
		return r.write(logLine{Event: "eval", Step: e.Step, Epoch: e.Epoch, EvalLoss: e.EvalLoss})
	case "interrupted":
		r.stopped = &e
	case "done":
		r.done = &e
	}
	return nil
}

func (r *run) show(step, steps int64) {
	r.progress.Step, r.progress.Steps = step, steps
	if r.o.Progress != nil {
		r.o.Progress(r.progress)
	}
}

func (r *run) write(l logLine) error {
	l.Time = time.Now().UTC().Format(time.RFC3339)
	r.lines = append(r.lines, l)
	if err := json.NewEncoder(r.log).Encode(l); err != nil {
		return fmt.Errorf("write %s: %w", logFile, err)
	}
	return nil
}

// showSample shows the first record as the trainer has it: what is learned stands between ⟦ and ⟧.
func (r *run) showSample(e event) {
	text := []rune(e.Text)
	var b strings.Builder
	at := 0
	for _, s := range e.Spans {
		if s[0] < at || s[1] < s[0] || s[1] > len(text) {
			return
		}
		b.WriteString(string(text[at:s[0]]) + "⟦" + string(text[s[0]:s[1]]) + "⟧")
		at = s[1]
	}
	b.WriteString(string(text[at:]))
	r.o.info("sample, learned between ⟦ and ⟧: %s", strings.ReplaceAll(b.String(), "\n", "↵"))
}

func (r *run) manifest() Manifest {
	e := r.done
	quant := e.BaseQuant
	if len(quant) == 0 {
		quant = json.RawMessage("null")
	}
	return Manifest{
		Version: 1, started: r.started, BaseQuant: quant,
		Tokens: Tokens{End: e.EndTokens, EOS: e.EOSTokenID, Pad: e.PadTokenID, GenerationEOS: e.GenerationEOSID},
		Result: Outcome{
			Steps: e.Step, TrainLoss: e.TrainLoss, BestEvalLoss: e.BestEvalLoss, BestStep: e.BestStep, Records: r.counted.Train,
			EvalRecords: r.counted.Eval, LeftOut: r.counted.TooLong, Device: r.begin.Device, Optimizer: r.begin.Optimizer,
			Compute: r.begin.Compute, Trainable: e.Trainable,
		},
		Versions: r.begin.Versions,
	}
}

func (r *run) result(begin time.Time) *Result {
	if r.done == nil {
		return &Result{OutputDir: r.o.OutputDir, Duration: time.Since(begin)}
	}
	return &Result{OutputDir: r.o.OutputDir, Manifest: r.manifest(), Resumed: checkpointStep(r.resume), Duration: time.Since(begin)}
}
