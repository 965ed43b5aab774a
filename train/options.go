// Package train starts and follows the PyTorch trainer: a LoRA or QLoRA adapter from a base model and the
// records of persona. The trainer (trainer.py) is embedded; this package sets up its environment, looks at the
// base, the data and the machine first, shows what the trainer reports, and writes down what was done.
package train

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/persona"
)

//go:embed trainer.py
var trainerSource string

// projections are the linear layers of a transformer block that get an adapter.
var projections = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// Launchers are what may start more than one process.
var Launchers = []string{"torchrun", "accelerate"}

// Options say what to train and how. Start from DefaultOptions.
type Options struct {
	BaseModel string // folder of a Hugging Face model, or its name on the hub
	DataPath  string // SFT records, persona.Record
	OutputDir string // becomes the adapter's folder

	Epochs                   float64
	LearningRate             float64
	BatchSize, GradAccum     int     // records per step and process; steps whose gradients are added up
	MaxLength                int     // tokens; longer records are never cut
	MaxTruncated             float64 // share of records that may be longer, and are then left out
	LoraR                    int
	LoraAlpha, LoraDropout   float64
	RSLora, DoRA, No4Bit     bool
	WarmupRatio, WeightDecay float64
	// EvalSplit is the share that is held out by source where the records have no split; negative is 0.02.
	// It is an error to set it for records that have one.
	EvalSplit     float64
	EarlyStopping int // evaluations without a better loss before the run ends; 0 is never
	SaveSteps     int // a checkpoint at least this often, besides one per epoch; 0 is per epoch only
	LoggingSteps  int
	Seed          int
	Resume        bool // go on from the last checkpoint in OutputDir
	CPU           bool // leave GPUs alone
	Threads       int  // of PyTorch on the CPU; 0 is its own choice

	Card   *persona.Card // renders records without spans anew; nil refuses them
	Strict bool          // refuse such records and damaged files in any case

	Launcher      string // "", "torchrun" or "accelerate"
	NProc, NNodes int    // processes on this machine; machines
	NodeRank      int
	MasterAddr    string
	MasterPort    int
	UnloadOllama  bool           // unload the models that Ollama holds
	NoMemoryCheck bool           // start even if the estimate exceeds the memory that is free
	Python        string         // an interpreter with the packages; "" sets one up in CacheDir
	CacheDir      string         // for uv and the environment
	Env           []string       // environment of the trainer, as os.Environ gives it
	Progress      func(Progress) // may be nil; called from one goroutine
	Info, Warn    func(string)   // one line each; may be nil
}

// Progress is how far the run is.
type Progress struct {
	Step, Steps     int64
	Loss            float64 // mean over the tokens under the loss, in nats
	EvalLoss        float64 // NaN before the first evaluation
	TokensPerSecond float64 // all tokens, those without loss too
}

// DefaultOptions are the defaults of the flags.
func DefaultOptions() Options {
	return Options{
		Epochs: 3, LearningRate: 2e-4, BatchSize: 4, GradAccum: 4, MaxLength: 2048, LoraR: 16, LoraAlpha: 32, LoraDropout: 0.05,
		WarmupRatio: 0.03, EvalSplit: -1, EarlyStopping: 2, SaveSteps: 200, LoggingSteps: 1, Seed: 42,
		NProc: 1, NNodes: 1, MasterAddr: "127.0.0.1", MasterPort: 29500,
	}
}

// Check finds values that no run can have. It reads no file.
func (o *Options) Check() error {
	for _, text := range []struct{ name, got, want string }{
		{"base_model", o.BaseModel, "a model folder or the name of a model"},
		{"data_path", o.DataPath, "a JSONL file of SFT records"},
		{"output_dir", o.OutputDir, "a folder for the adapter"},
	} {
		if text.got == "" {
			return fmt.Errorf("%s: got none, want %s", text.name, text.want)
		}
	}
	whole := math.MaxInt32 * 1.0
	for _, number := range []struct {
		name             string
		got, least, most float64
	}{
		{"epochs", o.Epochs, 1e-3, 1e5}, {"learning_rate", o.LearningRate, 1e-12, 1}, {"batch_size", float64(o.BatchSize), 1, whole},
		{"grad_accum", float64(o.GradAccum), 1, whole}, {"max_length", float64(o.MaxLength), 2, whole}, {"max_truncated", o.MaxTruncated, 0, 1},
		{"lora_r", float64(o.LoraR), 1, 1 << 16}, {"lora_alpha", o.LoraAlpha, 1e-6, 1 << 20}, {"lora_dropout", o.LoraDropout, 0, 0.99},
		{"warmup_ratio", o.WarmupRatio, 0, 0.99}, {"weight_decay", o.WeightDecay, 0, 10}, {"eval_split", o.EvalSplit, -1, 0.9},
		{"early_stopping", float64(o.EarlyStopping), 0, whole}, {"save_steps", float64(o.SaveSteps), 0, whole},
		{"logging_steps", float64(o.LoggingSteps), 1, whole}, {"seed", float64(o.Seed), 0, whole}, {"threads", float64(o.Threads), 0, 1 << 16},
		{"nproc", float64(o.NProc), 1, 1 << 12}, {"nnodes", float64(o.NNodes), 1, 1 << 12}, {"node_rank", float64(o.NodeRank), 0, float64(o.NNodes - 1)},
		{"master_port", float64(o.MasterPort), 1, 65535},
	} {
		if !(number.got >= number.least && number.got <= number.most) {
			return fmt.Errorf("%s: got %v, want %v to %v", number.name, number.got, number.least, number.most)
		}
	}
	if o.Launcher != "" && !slices.Contains(Launchers, o.Launcher) {
		return fmt.Errorf("launcher: got %q, want %s", o.Launcher, strings.Join(Launchers, " or "))
	}
	if o.Launcher == "" && (o.NProc > 1 || o.NNodes > 1) {
		return fmt.Errorf("nproc, nnodes: got %d and %d without a launcher, want --launcher %s", o.NProc, o.NNodes, strings.Join(Launchers, " or "))
	}
	return nil
}

// config is what the trainer reads. Values that change the result are compared when a run is resumed.
type config struct {
	Base     string `json:"base"`
	BaseName string `json:"base_name"`
	Data     string `json:"data"`
	Output   string `json:"output"`
	Resume   string `json:"resume"`
	RunName  string `json:"run_name"`
	hyperparameters
	SaveSteps    int  `json:"save_steps"`
	LoggingSteps int  `json:"logging_steps"`
	CPU          bool `json:"cpu"`
	Threads      int  `json:"threads"`
	WandB        bool `json:"wandb"`
	WatchStdin   bool `json:"watch_stdin"`
}

// hyperparameters are the effective settings that decide what comes out.
type hyperparameters struct {
	Epochs                float64  `json:"epochs"`
	LearningRate          float64  `json:"learning_rate"`
	BatchSize             int      `json:"batch_size"`
	GradAccum             int      `json:"grad_accum"`
	Processes             int      `json:"processes"`
	MaxLength             int      `json:"max_length"`
	MaxTruncated          float64  `json:"max_truncated"`
	LoraR                 int      `json:"lora_r"`
	LoraAlpha             float64  `json:"lora_alpha"`
	LoraDropout           float64  `json:"lora_dropout"`
	TargetModules         []string `json:"target_modules"`
	RSLora                bool     `json:"rslora"`
	DoRA                  bool     `json:"dora"`
	FourBit               bool     `json:"four_bit"`
	Scheduler             string   `json:"scheduler"`
	Warmup                float64  `json:"warmup"`
	WeightDecay           float64  `json:"weight_decay"`
	MaxGradNorm           float64  `json:"max_grad_norm"`
	GradientCheckpointing bool     `json:"gradient_checkpointing"`
	EvalSplit             float64  `json:"eval_split"` // share of the records that is held out
	EarlyStopping         int      `json:"early_stopping"`
	Seed                  int      `json:"seed"`
}

func (o *Options) hyperparameters(targets []string, evalShare float64) hyperparameters {
	return hyperparameters{
		Epochs: o.Epochs, LearningRate: o.LearningRate, BatchSize: o.BatchSize, GradAccum: o.GradAccum, Processes: o.NProc * o.NNodes,
		MaxLength: o.MaxLength, MaxTruncated: o.MaxTruncated, LoraR: o.LoraR, LoraAlpha: o.LoraAlpha, LoraDropout: o.LoraDropout,
		TargetModules: targets, RSLora: o.RSLora, DoRA: o.DoRA, FourBit: !o.No4Bit, Scheduler: "cosine", Warmup: o.WarmupRatio,
		WeightDecay: o.WeightDecay, MaxGradNorm: 1, GradientCheckpointing: true, EvalSplit: evalShare, EarlyStopping: o.EarlyStopping, Seed: o.Seed,
	}
}

func (o *Options) info(format string, args ...any) {
	if o.Info != nil {
		o.Info(fmt.Sprintf(format, args...))
	}
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}
