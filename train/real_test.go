package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/persona"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// realOptions are options of a run with the real trainer on the example's base and some of its dialogues. The first
// such run sets up the environment in the checkout's cache.
func realOptions(t *testing.T, format persona.Format, dialogues int) (Options, *messages) {
	t.Helper()
	said := &messages{}
	o := DefaultOptions()
	o.BaseModel, o.OutputDir, o.CacheDir = exampleBase, filepath.Join(t.TempDir(), "out"), cacheDir
	o.DataPath = filepath.Join(t.TempDir(), "sft.jsonl")
	o.BatchSize, o.GradAccum, o.LearningRate, o.Epochs, o.Threads, o.CPU, o.Seed = 8, 1, 2e-3, 2, 1, true, 1
	o.Env, o.Info, o.Warn = append(os.Environ(), "HF_TOKEN="+secret, "HF_HUB_OFFLINE=1"), said.add, said.add
	card, err := persona.Read("../examples/snow_white/persona.yaml")
	if err != nil {
		t.Fatal(err)
	}
	renderer, err := persona.NewRenderer(card, persona.Options{Format: format, End: "<|im_end|>"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../examples/snow_white/data/persona.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var records []persona.Record
	for line := range strings.Lines(string(text)) {
		var d struct {
			Messages []struct{ Role, Content string }
		}
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		var turns []persona.Turn
		for _, m := range d.Messages {
			if m.Role != "system" {
				turns = append(turns, persona.Turn{Role: map[string]string{"user": card.User.Name, "assistant": card.Name}[m.Role], Content: m.Content})
			}
		}
		r, err := renderer.Record(turns)
		if err != nil {
			t.Fatal(err)
		}
		if r.Split = "train"; len(records)%8 == 7 {
			r.Split = "eval"
		}
		if records = append(records, r); len(records) == dialogues {
			break
		}
	}
	var b bytes.Buffer
	if err := persona.WriteRecords(&b, records); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.DataPath, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return o, said
}

// losses gives the values of train_log.jsonl.
func losses(t *testing.T, dir string) (train, eval []float64, steps []int64) {
	t.Helper()
	lines, err := readLog(filepath.Join(dir, logFile), math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if l.Loss != nil {
			train, steps = append(train, *l.Loss), append(steps, l.Step)
		}
		if l.EvalLoss != nil {
			eval = append(eval, *l.EvalLoss)
		}
	}
	return train, eval, steps
}

// TestTrainer is QLoRA with the default flags but for size: the loss falls, and the folder is as a merge wants it.
func TestTrainer(t *testing.T) {
	o, said := realOptions(t, persona.ChatML, 48)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	train, eval, steps := losses(t, o.OutputDir)
	if len(steps) != 12 || len(eval) != 2 || eval[1] >= eval[0] || train[11] > train[0]/2 {
		t.Errorf("losses: got %v, held out %v, want them to fall", train, eval)
	}
	m := r.Manifest
	var quant struct {
		Type        string             `json:"type"`
		DoubleQuant bool               `json:"double_quant"`
		BlockSize   int                `json:"block_size"`
		Offsets     map[string]float64 `json:"offsets"`
	}
	if err := json.Unmarshal(m.BaseQuant, &quant); err != nil || quant.Type != "nf4" || !quant.DoubleQuant || quant.BlockSize != 64 || len(quant.Offsets) != 28 {
		t.Errorf("base_quant: got %s, %v", m.BaseQuant, err)
	}
	for name, offset := range quant.Offsets {
		if !strings.HasPrefix(name, "model.layers.") || offset < 0.01 || offset > 1 || float64(float32(offset)) == 0 {
			t.Errorf("offset of %s: got %v", name, offset)
		}
	}
	if m.Result.Optimizer != "adamw_torch" || m.Result.Records != 42 || m.Result.EvalRecords != 6 || *m.Result.BestEvalLoss != eval[1] ||
		string(m.Tokens.EOS) != "2502" || string(m.Tokens.Pad) != "2500" || m.Tokens.End["<|im_end|>"] != 2502 || m.Versions["trl"] != "1.16.0" {
		t.Errorf("training.json: got %+v", m)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		got, err := os.ReadFile(filepath.Join(o.OutputDir, name))
		want, err2 := os.ReadFile(filepath.Join(exampleBase, name))
		if err != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: differs from the base's (%v, %v)", name, err, err2)
		}
	}
	checkAdapter(t, o, 0)
	if found := grep(t, o.OutputDir, secret); len(found) > 0 || said.has(secret) {
		t.Errorf("the secret is in %s", found)
	}
}

// checkAdapter wants PEFT's configuration with our settings, and tensors of the right shapes, none of them zero.
func checkAdapter(t *testing.T, o Options, magnitudes int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.OutputDir, "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Base    string   `json:"base_model_name_or_path"`
		Type    string   `json:"peft_type"`
		R       int      `json:"r"`
		Alpha   float64  `json:"lora_alpha"`
		RSLora  bool     `json:"use_rslora"`
		DoRA    bool     `json:"use_dora"`
		Targets []string `json:"target_modules"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if c.Base != o.BaseModel || c.Type != "LORA" || c.R != o.LoraR || c.Alpha != o.LoraAlpha || c.RSLora != o.RSLora || c.DoRA != o.DoRA || !slices.Equal(c.Targets, projections) {
		t.Errorf("adapter_config.json: got %s", text)
	}
	f, err := safetensors.Open(filepath.Join(o.OutputDir, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := map[string]bool{}
	for _, tensor := range f.Tensors {
		data := make([]byte, tensor.Bytes())
		if err := tensor.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(data, make([]byte, len(data))) {
			t.Errorf("%s: got zeros, want what was learned", tensor.Name)
		}
		b[tensor.Name] = true
	}
	if len(b) != 4*7*2+magnitudes || !b["base_model.model.model.layers.3.mlp.down_proj.lora_B.weight"] {
		t.Errorf("got %d tensors, want %d", len(b), 4*7*2+magnitudes)
	}
}

// TestInterruptedTrainer stops a run in its first epoch and in its last, and goes on with it.
func TestInterruptedTrainer(t *testing.T) {
	o, said := realOptions(t, persona.ChatML, 32)
	o.No4Bit, o.DoRA, o.RSLora, o.LoraR, o.SaveSteps = true, true, true, 4, 4
	m := interrupted(t, o)
	if !said.has("--resume goes on from there") || !said.has("in full precision (float32)") {
		t.Errorf("got %q", said.text)
	}
	if string(m.BaseQuant) != "null" || m.Result.Compute != "float32" {
		t.Errorf("base_quant: got %s, want null", m.BaseQuant)
	}
	checkAdapter(t, o, 28)
}

// TestInterruptedQLoRA does the same with an NF4 base, which an evaluation must leave as it is. (With AVX-512 and bfloat16
// bitsandbytes packs it anew for that, with scales rounded to bfloat16, and not all comes back.)
func TestInterruptedQLoRA(t *testing.T) {
	o, _ := realOptions(t, persona.ChatML, 32)
	o.LoraR, o.SaveSteps = 4, 4
	if m := interrupted(t, o); !strings.Contains(string(m.BaseQuant), `"nf4"`) {
		t.Errorf("base_quant: got %s, want nf4", m.BaseQuant)
	}
}

// interrupted stops a run twice and goes on: the steps, the evaluations and the adapter are those of a run that did not stop.
func interrupted(t *testing.T, o Options) Manifest {
	t.Helper()
	whole := o
	whole.OutputDir = filepath.Join(t.TempDir(), "whole")
	if _, err := Run(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for _, step := range []int64{2, 5} {
		ctx, cancel := context.WithCancel(t.Context())
		o.Progress = func(p Progress) {
			if p.Step == step {
				cancel()
			}
		}
		if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped after step %d: got %v, want the context's error", step, err)
		}
		o.Resume = true
	}
	if exists(filepath.Join(o.OutputDir, "adapter_config.json")) {
		t.Error("got an adapter from a run that was stopped")
	}
	o.Progress = nil
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	train, eval, steps := losses(t, o.OutputDir)
	wantTrain, wantEval, _ := losses(t, whole.OutputDir)
	if r.Resumed < 5 || !slices.Equal(steps, []int64{1, 2, 3, 4, 5, 6, 7, 8}) || !slices.Equal(train, wantTrain) || !slices.Equal(eval, wantEval) || train[7] > train[0]/2 {
		t.Errorf("resumed at %d: got steps %v, losses %v, held out %v, want %v, %v", r.Resumed, steps, train, eval, wantTrain, wantEval)
	}
	var adapters [2][]byte
	for i, dir := range []string{o.OutputDir, whole.OutputDir} {
		if adapters[i], err = os.ReadFile(filepath.Join(dir, "adapter_model.safetensors")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(adapters[0], adapters[1]) {
		t.Error("adapter_model.safetensors: got other bytes than those of a run that did not stop")
	}
	return r.Manifest
}

// TestTwoProcesses trains on the CPU with two processes that talk through gloo, and the other format.
func TestTwoProcesses(t *testing.T) {
	o, said := realOptions(t, persona.TrainableAgents, 32)
	o.Launcher, o.NProc, o.Epochs = "torchrun", 2, 3
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	train, _, steps := losses(t, o.OutputDir)
	if len(steps) != 6 || train[5] >= train[0] || !said.has("cpu, 2 processes") || r.Manifest.PromptFormat != "trainable-agents" || r.Manifest.Hyperparameters.Processes != 2 {
		t.Errorf("got losses %v, %q", train, said.text)
	}
	checkAdapter(t, o, 0)
}

// TestLabels has the trainer tokenize, and stop there since every record is too long: labels equal the ids inside the
// spans and -100 elsewhere, and the ids stand for the whole text.
func TestLabels(t *testing.T) {
	o, _ := realOptions(t, persona.ChatML, 16)
	r := &run{o: &o}
	for _, step := range []func(context.Context) error{r.openBase, r.openData, r.openOutput} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e, err := prepare(t.Context(), &o)
	if err != nil {
		t.Fatal(err)
	}
	r.work = t.TempDir()
	path, err := r.writeConfig()
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(path)
	if err == nil {
		config = bytes.Replace(config, []byte(`"max_length": 2048`), []byte(`"max_length": 4`), 1)
		config = bytes.Replace(config, []byte(`"max_truncated": 0`), []byte(`"max_truncated": 0.99`), 1)
		err = os.WriteFile(path, config, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	var events []event
	p := process{scrub: newScrubber(nil), log: discard{}, handle: func(e event) error { events = append(events, e); return nil }}
	if err := p.run(t.Context(), []string{e.python, e.script, path}, o.Env); !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), "got 16 of 16 records longer than 4 tokens") {
		t.Errorf("got %v, want an error about length", err)
	}
	if len(events) != 2 || events[0].Event != "sample" || events[1].TooLong != 16 {
		t.Fatalf("got %+v", events)
	}
	checkSample(t, events[0], r.data.records[0])
}

func checkSample(t *testing.T, s event, want persona.Record) {
	t.Helper()
	if s.Text != want.Text() || len(s.IDs) != len(s.Labels) {
		t.Errorf("sample: got %q with %d ids and %d labels, want %q", s.Text, len(s.IDs), len(s.Labels), want.Text())
	}
	learned, ends := 0, 0
	for i, label := range s.Labels {
		if label == -100 {
			continue
		}
		learned++
		if label != s.IDs[i] {
			t.Errorf("label %d: got %d, want the id %d", i, label, s.IDs[i])
		}
		if label == 2502 {
			ends++
		}
	}
	if ends != len(want.Spans) || learned < 5 || learned > len(s.IDs)/2 || s.Labels[0] != -100 {
		t.Errorf("got %d of %d tokens under the loss, %d ends, want %d ends", learned, len(s.IDs), ends, len(want.Spans))
	}
}

// TestEndToken wants an end that is not one token to be refused.
func TestEndToken(t *testing.T) {
	o, _ := realOptions(t, persona.ChatML, 16)
	text, err := os.ReadFile(o.DataPath)
	if err != nil {
		t.Fatal(err)
	}
	var records []persona.Record
	for line := range strings.Lines(strings.ReplaceAll(string(text), "<|im_end|>", "<|finish|>")) { // of the same length
		var r persona.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	var b bytes.Buffer
	if err := persona.WriteRecords(&b, records); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.DataPath, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "end token <|finish|>: got") {
		t.Errorf("got %v, want an error about the end token", err)
	}
}
