package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// ErrExists says that the output folder holds another run.
var ErrExists = errors.New("output folder in use")

// ErrResume says that a run cannot be gone on with.
var ErrResume = errors.New("resume")

const (
	runFile      = "run.json"      // while a run is unfinished: what it was started with
	manifestFile = "training.json" // once it is finished
	logFile      = "train_log.jsonl"
	plotFile     = "loss.png"
	outputFile   = "trainer.log"
)

// started is what run.json holds: all that must be the same to go on.
type started struct {
	BaseModel       string          `json:"base_model"`
	BaseSHA256      string          `json:"base_sha256"`
	DataSHA256      string          `json:"data_sha256"`
	TrainerSHA256   string          `json:"trainer_sha256"`
	PromptFormat    string          `json:"prompt_format"`
	Hyperparameters hyperparameters `json:"hyperparameters"`
}

// Manifest is training.json, what an adapter's folder says about how it was made. Merging reads it.
type Manifest struct {
	Version int `json:"version"` // 1
	started
	// BaseQuant is null for a base in 16 or 32 bits, else how it was quantized. Its offsets are those of the
	// double quantization, the mean of a layer's block scales, for every quantized layer by its module path.
	BaseQuant json.RawMessage   `json:"base_quant"`
	Tokens    Tokens            `json:"tokens"`
	Result    Outcome           `json:"result"`
	Versions  map[string]string `json:"versions"`
}

// Tokens are the ids of the special tokens as the trainer used them; an id is a number, a list of numbers, or null.
type Tokens struct {
	End           map[string]int  `json:"end"` // end of an utterance: text to id
	EOS           json.RawMessage `json:"eos_token_id"`
	Pad           json.RawMessage `json:"pad_token_id"`
	GenerationEOS json.RawMessage `json:"generation_eos_token_id"`
}

// Outcome is how the run ended. Losses are means over the tokens under the loss, in nats.
type Outcome struct {
	Steps        int64    `json:"steps"`
	TrainLoss    *float64 `json:"train_loss"`     // mean of all steps
	BestEvalLoss *float64 `json:"best_eval_loss"` // of the adapter that was kept; null without held-out records
	BestStep     *int64   `json:"best_step"`
	Records      int      `json:"records"`
	EvalRecords  int      `json:"eval_records"`
	LeftOut      int      `json:"left_out"` // records longer than max_length
	Device       string   `json:"device"`
	Optimizer    string   `json:"optimizer"`
	Compute      string   `json:"compute"`   // type of the sums
	Trainable    int64    `json:"trainable"` // weights of the adapter
}

// checkpoints lists the complete checkpoints in dir, the oldest first. The trainer writes trainer_state.json last.
func checkpoints(dir string) (paths []string, err error) {
	found, err := filepath.Glob(filepath.Join(dir, "checkpoint-*"))
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		text, err := os.ReadFile(filepath.Join(path, "trainer_state.json"))
		if err == nil && json.Valid(text) && checkpointStep(path) > 0 {
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return int(checkpointStep(a) - checkpointStep(b)) })
	return paths, nil
}

func checkpointStep(path string) int64 {
	step, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(path), "checkpoint-"), 10, 64)
	if err != nil {
		return 0
	}
	return step
}

// openOutput makes the folder for a new run, or finds the checkpoint to go on from ("" if there is none yet).
func openOutput(o *Options, want started) (resume string, err error) {
	dir := o.OutputDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("output folder: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, runFile))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("output folder: %w", err)
	case err != nil && o.Resume:
		return "", fmt.Errorf("%w %s: got no unfinished run there (%s)", ErrResume, dir, runFile)
	case err == nil && !o.Resume:
		return "", fmt.Errorf("%w: %s: it holds a run that is not finished", ErrExists, dir)
	case err != nil:
		for _, name := range []string{manifestFile, "adapter_config.json"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return "", fmt.Errorf("%w: %s: it holds an adapter (%s)", ErrExists, dir, name)
			}
		}
		return "", nil
	}
	var have started
	if err := json.Unmarshal(text, &have); err != nil {
		return "", fmt.Errorf("%w %s: %s: %w", ErrResume, dir, runFile, err)
	}
	if err := sameRun(have, want); err != nil {
		return "", fmt.Errorf("%w %s: %w", ErrResume, dir, err)
	}
	all, err := checkpoints(dir)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return filepath.Abs(all[len(all)-1])
}

// sameRun names everything in which two runs differ.
func sameRun(have, want started) error {
	var differences []string
	var compare func(a, b reflect.Value)
	compare = func(a, b reflect.Value) {
		for i := range a.NumField() {
			name := a.Type().Field(i).Tag.Get("json")
			if a.Field(i).Kind() == reflect.Struct {
				compare(a.Field(i), b.Field(i))
			} else if x, y := fmt.Sprint(a.Field(i)), fmt.Sprint(b.Field(i)); x != y {
				differences = append(differences, fmt.Sprintf("%s: got %s, want %s as in the run to go on with", name, y, x))
			}
		}
	}
	compare(reflect.ValueOf(have), reflect.ValueOf(want))
	if len(differences) > 0 {
		return errors.New(strings.Join(differences, "; "))
	}
	return nil
}

func writeJSON(path string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	return writeFile(path, b.Bytes())
}

// tokenizerFiles are what a folder may have of a tokenizer. They are copied as they are: the adapter's folder says
// what the base's says.
var tokenizerFiles = []string{
	"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
	"tokenizer.model", "chat_template.jinja", "chat_template.json",
}

func copyTokenizer(from, to string) error {
	for _, name := range tokenizerFiles {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = writeFile(filepath.Join(to, name), text)
		}
		if err != nil {
			return fmt.Errorf("copy tokenizer: %w", err)
		}
	}
	return nil
}

// finish turns the folder of a run into that of an adapter: the manifest comes last, then what only a run needs goes.
func finish(dir string, b *base, m Manifest) error {
	if err := copyTokenizer(b.dir, dir); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, manifestFile), m); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "checkpoint-*"))
	if err != nil {
		return err
	}
	for _, path := range append(old, filepath.Join(dir, "README.md"), filepath.Join(dir, runFile)) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// logLine is a line of train_log.jsonl: a step or an evaluation.
type logLine struct {
	Event           string   `json:"event"`
	Time            string   `json:"time"`
	Step            int64    `json:"step"`
	Epoch           float64  `json:"epoch"`
	Loss            *float64 `json:"loss,omitempty"`
	EvalLoss        *float64 `json:"eval_loss,omitempty"`
	LearningRate    float64  `json:"learning_rate,omitempty"`
	GradNorm        *float64 `json:"grad_norm,omitempty"`
	Tokens          float64  `json:"tokens,omitempty"`
	TokensPerSecond float64  `json:"tokens_per_second,omitempty"`
	Memory          int64    `json:"memory,omitempty"`
}

// readLog gives the lines of an earlier part of the run up to a step; the rest was lost with what came after it.
func readLog(path string, step int64) (lines []logLine, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var l logLine
		if json.Unmarshal(line, &l) == nil && l.Step <= step { // a crash may have cut the last line
			lines = append(lines, l)
		}
	}
	return lines, nil
}

// last gives the last value in the log that get finds, NaN if there is none.
func last(lines []logLine, get func(logLine) *float64) float64 {
	for _, l := range slices.Backward(lines) {
		if v := get(l); v != nil {
			return *v
		}
	}
	return math.NaN()
}
