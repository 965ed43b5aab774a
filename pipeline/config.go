package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/internal/strictyaml"
	"github.com/persona-gguf/persona-gguf/quant"
	"github.com/persona-gguf/persona-gguf/train"
)

// ConfigName is the settings' name beside the card.
const ConfigName = "run.yaml"

// Config says how to make a model of a card: run.yaml. Paths are relative to the file's folder.
type Config struct {
	Version   int       `yaml:"version"`    // 1
	BaseModel string    `yaml:"base_model"` // folder of a Hugging Face model
	Generator Generator `yaml:"generator"`
	MinYield  float64   `yaml:"min_yield"` // least share of the generator's jobs with an answer
	Prepare   Prepare   `yaml:"prepare"`
	Train     Train     `yaml:"train"`
	Types     []string  `yaml:"types"`    // of the GGUF files; the last one is served
	Name      string    `yaml:"name"`     // at the Ollama server; default: the card's id
	Client    string    `yaml:"client"`   // chat or fork
	Register  string    `yaml:"register"` // auto, always or never
	Eval      Eval      `yaml:"eval"`
	VTuber    VTuber    `yaml:"vtuber"`
	// Gates replace those of the card, for the records.
	Gates map[string]float64 `yaml:"gates"`
}

// Generator says who writes scenes and dialogues.
type Generator struct {
	Engine   string   `yaml:"engine"` // auto, ollama, openai or local
	Model    string   `yaml:"model"`  // tag; none: the base model itself
	Hosts    []string `yaml:"hosts"`  // of Ollama
	BaseURL  string   `yaml:"base_url"`
	File     string   `yaml:"file"` // GGUF file of the local engine; none: the base model itself
	Type     string   `yaml:"type"` // of the base model's GGUF file
	Template string   `yaml:"template"`
	Format   string   `yaml:"format"` // json or text

	CountScenes     int     `yaml:"count_scenes"` // 0: the card's
	CountDialogues  int     `yaml:"count_dialogues"`
	CountProtective int     `yaml:"count_protective"` // protective dialogues of a paragraph besides those among the dialogues
	Batch           int     `yaml:"batch"`
	MinTurns        int     `yaml:"min_turns"`
	MaxTurns        int     `yaml:"max_turns"`
	MaxChars        int     `yaml:"max_chars"`
	Parallel        int     `yaml:"parallel"`
	Temperature     float64 `yaml:"temperature"`
	TopP            float64 `yaml:"top_p"`
	TopK            int     `yaml:"top_k"`
	RepeatPenalty   float64 `yaml:"repeat_penalty"`
	NumPredict      int     `yaml:"num_predict"` // 0: by what is made
	NumCtx          int     `yaml:"num_ctx"`
	Seed            int     `yaml:"seed"`
	Tries           int     `yaml:"tries"`
	Similarity      float64 `yaml:"similarity"`
	MaxDuplicates   float64 `yaml:"max_duplicates"`
	MinBackground   int     `yaml:"min_background"`
	Threads         int     `yaml:"threads"`
}

// Prepare says how records are made of dialogues.
type Prepare struct {
	EvalSplit     float64 `yaml:"eval_split"`
	NearDuplicate float64 `yaml:"near_duplicate"` // 0 keeps all
	Seed          int     `yaml:"seed"`
}

// Train says how the adapter is trained.
type Train struct {
	Epochs        float64 `yaml:"epochs"`
	LearningRate  float64 `yaml:"learning_rate"`
	BatchSize     int     `yaml:"batch_size"`
	GradAccum     int     `yaml:"grad_accum"`
	MaxLength     int     `yaml:"max_length"`
	Rank          int     `yaml:"rank"`
	Alpha         float64 `yaml:"alpha"`
	Dropout       float64 `yaml:"dropout"`
	RSLora        bool    `yaml:"rslora"`
	DoRA          bool    `yaml:"dora"`
	No4Bit        bool    `yaml:"no_4bit"`
	WarmupRatio   float64 `yaml:"warmup_ratio"`
	WeightDecay   float64 `yaml:"weight_decay"`
	EarlyStopping int     `yaml:"early_stopping"`
	SaveSteps     int     `yaml:"save_steps"`
	Seed          int     `yaml:"seed"`
	CPU           bool    `yaml:"cpu"`
	Threads       int     `yaml:"threads"`
}

// Eval says how the model is interviewed.
type Eval struct {
	Off    bool `yaml:"off"`
	NoGate bool `yaml:"no_gate"` // a lost persona is told, and does not end the run
	// Gates replace those of the card, for the interview.
	Gates   map[string]float64 `yaml:"gates"`
	Samples int                `yaml:"samples"` // further interviews with the card's sampling
	Seed    int                `yaml:"seed"`
	Threads int                `yaml:"threads"`
	// Parallel are the conversations at the same time. With 1 no reply depends, where two tokens are nearly as likely,
	// on what is computed beside it.
	Parallel int `yaml:"parallel"`
}

// VTuber says where a character is set up; without a folder none is.
type VTuber struct {
	Dir     string `yaml:"dir"`
	BaseURL string `yaml:"base_url"`
	Conf    bool   `yaml:"conf"` // conf.yaml too
	Label   string `yaml:"label"`
	Live2D  string `yaml:"live2d"`
	Avatar  string `yaml:"avatar"`
}

// DefaultConfig has the defaults of the commands.
func DefaultConfig() Config {
	t := train.DefaultOptions()
	return Config{
		Version: 1, MinYield: 0.95, Types: []string{"f16", "q4_0"}, Client: "chat", Register: "auto",
		Generator: Generator{
			Engine: "auto", Type: "f16", Template: "builtin", Format: "json", Batch: 5, MinTurns: 2, MaxTurns: 24, Temperature: 0.7, TopP: 0.95,
			TopK: 40, RepeatPenalty: 1.1, Seed: 42, Tries: 4, Similarity: 0.8, MaxDuplicates: 0.5,
		},
		Prepare: Prepare{EvalSplit: 0.02, NearDuplicate: 0.8, Seed: 42},
		Train: Train{
			Epochs: t.Epochs, LearningRate: t.LearningRate, BatchSize: t.BatchSize, GradAccum: t.GradAccum, MaxLength: t.MaxLength, Rank: t.LoraR,
			Alpha: t.LoraAlpha, Dropout: t.LoraDropout, WarmupRatio: t.WarmupRatio, WeightDecay: t.WeightDecay, EarlyStopping: t.EarlyStopping,
			SaveSteps: t.SaveSteps, Seed: t.Seed,
		},
		Eval: Eval{Seed: 42, Parallel: 8},
	}
}

// ReadConfig reads run.yaml over the defaults. An error names the file, the line and the key.
func ReadConfig(path string) (Config, error) {
	c := DefaultConfig()
	data, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read settings: %w", err)
	}
	lines := map[string]int{}
	if err := strictyaml.Decode(data, &c, lines); err != nil {
		return c, fmt.Errorf("settings %s: %w", path, err)
	}
	if err := c.Check(); err != nil {
		key, _, _ := strings.Cut(err.Error(), ":")
		if line := lines[key]; line > 0 {
			err = fmt.Errorf("line %d: %w", line, err)
		}
		return c, fmt.Errorf("settings %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&c.BaseModel, &c.Generator.File, &c.VTuber.Dir} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if t := c.Generator.Template; t != "builtin" && t != "seed" && !filepath.IsAbs(t) {
		c.Generator.Template = filepath.Join(dir, t)
	}
	return c, nil
}

// FindConfig reads the settings beside a card; without such a file they are the defaults. A folder base beside the
// card is the base model if none is named.
func FindConfig(card string) (Config, error) {
	dir := filepath.Dir(card)
	c, err := ReadConfig(filepath.Join(dir, ConfigName))
	if errors.Is(err, fs.ErrNotExist) {
		c, err = DefaultConfig(), nil
	}
	if base := filepath.Join(dir, "base"); err == nil && c.BaseModel == "" && exists(filepath.Join(base, "config.json")) {
		c.BaseModel = base
	}
	return c, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Check finds values that no run can have. It reads no file.
func (c *Config) Check() error {
	for _, choice := range []struct {
		key, got string
		want     []string
	}{
		{"generator.engine", c.Generator.Engine, []string{"auto", "ollama", "openai", "local"}},
		{"generator.format", c.Generator.Format, []string{"json", "text"}},
		{"client", c.Client, []string{"chat", "fork"}},
		{"register", c.Register, []string{"auto", "always", "never"}},
	} {
		if !slices.Contains(choice.want, choice.got) {
			return fmt.Errorf("%s: got %q, want one of %s", choice.key, choice.got, strings.Join(choice.want, ", "))
		}
	}
	for i, t := range append([]string{c.Generator.Type}, c.Types...) {
		if _, err := quant.CanonicalFType(t); err != nil {
			key := "generator.type"
			if i > 0 {
				key = fmt.Sprintf("types[%d]", i-1)
			}
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	switch g := c.Generator; {
	case c.Version != 1:
		return fmt.Errorf("version: got %d, want 1", c.Version)
	case len(c.Types) == 0:
		return errors.New("types: got none, want at least one, such as q4_0")
	case !(c.MinYield >= 0 && c.MinYield <= 1):
		return fmt.Errorf("min_yield: got %v, want 0 to 1", c.MinYield)
	case !(c.Prepare.EvalSplit >= 0 && c.Prepare.EvalSplit < 1):
		return fmt.Errorf("prepare.eval_split: got %v, want 0 to less than 1", c.Prepare.EvalSplit)
	case !(c.Prepare.NearDuplicate >= 0 && c.Prepare.NearDuplicate <= 1):
		return fmt.Errorf("prepare.near_duplicate: got %v, want 0 to 1", c.Prepare.NearDuplicate)
	case g.Engine == "openai" && (g.BaseURL == "" || g.Model == ""):
		return errors.New("generator.base_url: got openai without a server or a model, want base_url and model")
	case g.Engine != "openai" && g.BaseURL != "":
		return fmt.Errorf("generator.base_url: got one with engine %s, want engine openai", g.Engine)
	case g.Engine == "ollama" && g.File != "" || g.Engine == "openai" && g.File != "":
		return fmt.Errorf("generator.file: got one with engine %s, want engine local", g.Engine)
	case g.CountProtective < 0:
		return fmt.Errorf("generator.count_protective: got %d, want 0 or more", g.CountProtective)
	case c.Eval.Parallel < 1 || c.Eval.Parallel > llama.MaxSequences():
		return fmt.Errorf("eval.parallel: got %d, want 1 to %d", c.Eval.Parallel, llama.MaxSequences())
	case c.Eval.Samples < 0 || c.Eval.Seed < 0:
		return fmt.Errorf("eval.samples: got %d with seed %d, want 0 or more", c.Eval.Samples, c.Eval.Seed)
	}
	return nil
}

// byKey gives a part of the settings by the keys of run.yaml.
func byKey(part any) map[string]any {
	out := map[string]any{}
	v := reflect.ValueOf(part)
	for i := range v.NumField() {
		out[v.Type().Field(i).Tag.Get("yaml")] = v.Field(i).Interface()
	}
	return out
}
