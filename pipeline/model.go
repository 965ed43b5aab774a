package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/eval"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/persona"
	"github.com/persona-gguf/persona-gguf/train"
)

// buildInfo is the version and the commit of llama.cpp.
func buildInfo() (version, commit string) { return llama.BuildInfo() }

// The files of an adapter that a run depends on.
const (
	adapterConfig   = "adapter_config.json"
	adapterWeights  = "adapter_model.safetensors"
	adapterManifest = "training.json"
	unfinished      = "run.json" // while it is trained
)

// train makes the adapter. Its folder is named by everything that it depends on: other settings never touch it, and
// going back to earlier ones finds it again.
func (w *way) train() step {
	return step{name: stepTrain, needs: []string{stepPrepare, stepCheck}, plan: func(s *state) (*task, error) {
		records, err := s.first(stepPrepare)
		if err != nil {
			return nil, err
		}
		if _, err := s.out(stepCheck); err != nil {
			return nil, err
		}
		base, err := w.baseFiles()
		if err != nil {
			return nil, err
		}
		t := w.Config.Train
		t.Threads, t.SaveSteps = 0, 0
		return &task{
			inputs: append([]File{{Path: records}}, base...), settings: map[string]any{"train": byKey(t)}, seeds: map[string]int{"train": t.Seed},
			run: func(ctx context.Context, k *work) error { return w.runTrain(ctx, k, records) },
		}, nil
	}}
}

func (w *way) runTrain(ctx context.Context, k *work, records string) error {
	dir := w.below("adapter/" + k.Key[:12])
	for _, path := range k.damaged {
		if filepath.Dir(path) != dir {
			continue
		}
		for _, name := range []string{adapterConfig, adapterWeights, adapterManifest} { // it is no adapter any more
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if !exists(filepath.Join(dir, adapterManifest)) || !exists(filepath.Join(dir, adapterConfig)) {
		if err := w.trainInto(ctx, k, records, dir); err != nil {
			return err
		}
	}
	m, err := readTraining(dir)
	if err != nil {
		return err
	}
	maps.Copy(k.Versions, m.Versions)
	k.detail("steps", m.Result.Steps)
	if m.Result.TrainLoss != nil {
		k.detail("train_loss", *m.Result.TrainLoss)
	}
	if m.Result.BestEvalLoss != nil {
		k.detail("eval_loss", *m.Result.BestEvalLoss)
	}
	for _, name := range []string{adapterConfig, adapterWeights, adapterManifest} {
		k.wrote(File{Path: filepath.Join(dir, name)})
	}
	return nil
}

// trainInto trains, from the last checkpoint if there is one.
func (w *way) trainInto(ctx context.Context, k *work, records, dir string) error {
	t := w.Config.Train
	o := train.DefaultOptions()
	o.BaseModel, o.DataPath, o.OutputDir = w.Config.BaseModel, records, dir
	o.Epochs, o.LearningRate, o.BatchSize, o.GradAccum, o.MaxLength = t.Epochs, t.LearningRate, t.BatchSize, t.GradAccum, t.MaxLength
	o.LoraR, o.LoraAlpha, o.LoraDropout, o.RSLora, o.DoRA, o.No4Bit = t.Rank, t.Alpha, t.Dropout, t.RSLora, t.DoRA, t.No4Bit
	o.WarmupRatio, o.WeightDecay, o.EarlyStopping, o.SaveSteps, o.Seed = t.WarmupRatio, t.WeightDecay, t.EarlyStopping, t.SaveSteps, t.Seed
	o.CPU, o.Threads, o.Card, o.Env, o.CacheDir, o.Python = t.CPU, t.Threads, w.Card, w.Env, w.CacheDir, w.Python
	o.Info, o.Warn = w.Info, w.Warn
	o.Progress = func(p train.Progress) {
		text := fmt.Sprintf("loss %.4f", p.Loss)
		if !math.IsNaN(p.EvalLoss) {
			text += fmt.Sprintf(", held out %.4f", p.EvalLoss)
		}
		k.progress(p.Step, p.Steps, text)
	}
	o.Resume = exists(filepath.Join(dir, unfinished))
	_, err := train.Run(ctx, o)
	if o.Resume && errors.Is(err, train.ErrResume) { // the trainer itself is another one
		w.Warn(fmt.Sprintf("training starts anew: %v", err))
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		o.Resume = false
		_, err = train.Run(ctx, o)
	}
	return err
}

func readTraining(dir string) (*train.Manifest, error) {
	path := filepath.Join(dir, adapterManifest)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &train.Manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// convert merges the adapter into the base and writes each wanted type, in one pass for each.
func (w *way) convert() step {
	return step{name: stepConvert, needs: []string{stepTrain}, plan: func(s *state) (*task, error) {
		adapter, err := s.out(stepTrain)
		if err != nil {
			return nil, err
		}
		inputs, err := w.baseFiles()
		if err != nil {
			return nil, err
		}
		for _, path := range adapter {
			inputs = append(inputs, File{Path: path})
		}
		settings := map[string]any{"types": w.Config.Types, "name": w.Card.Name}
		return &task{inputs: inputs, settings: settings, run: func(ctx context.Context, k *work) error {
			extra, err := w.origin(s)
			if err != nil {
				return err
			}
			for _, t := range w.Config.Types {
				t = strings.ToLower(t)
				path := w.below("models/" + w.Card.ID + "-" + t + ".gguf")
				if err := makeParent(path); err != nil {
					return err
				}
				o := convert.Options{
					OutFile: path, OutType: t, ModelName: w.Card.Name, Adapters: []lora.Source{{Dir: filepath.Dir(adapter[0]), Weight: 1}},
					Extra: extra, Warn: w.Warn, Progress: func(done, total int64) { k.progress(done, total, t) },
				}
				if err := convertTo(ctx, w.Config.BaseModel, o); err != nil {
					return err
				}
				k.wrote(File{Path: path, Bare: true})
			}
			k.Versions["llama.cpp"] = llamaCommit()
			return nil
		}}, nil
	}}
}

func llamaCommit() string {
	_, commit := buildInfo()
	return commit
}

// bare are the outputs of convert, whose provenance does not count.
func bare(s *state) (paths []string, files []File, err error) {
	paths, err = s.out(stepConvert)
	for _, path := range paths {
		files = append(files, File{Path: path, Bare: true})
	}
	return paths, files, err
}

// end is the token that ends utterances in the records.
func end(s *state) string {
	if r := s.manifest.Find(stepPrepare); r != nil {
		text, _ := r.Details["end"].(string)
		return text
	}
	return ""
}

// eval interviews the models, and ends the run if one has lost the persona.
func (w *way) eval() step {
	absent := ""
	if w.Config.Eval.Off {
		absent = "the settings say so (eval.off)"
	}
	return step{name: stepEval, absent: absent, needs: []string{stepPrepare, stepConvert}, plan: func(s *state) (*task, error) {
		models, inputs, err := bare(s)
		if err != nil {
			return nil, err
		}
		records, err := s.first(stepPrepare)
		if err != nil {
			return nil, err
		}
		gated, err := w.Card.WithGates(w.Config.Eval.Gates)
		if err != nil {
			return nil, err
		}
		card, err := cardWithout(gated, "scenes_per_paragraph", "dialogues_per_scene", "profile", "scene_types", "unknown_speakers")
		if err != nil {
			return nil, err
		}
		e := w.Config.Eval
		o := eval.Options{
			Card: gated, CardPath: w.CardPath, Models: models, DataPath: records, End: end(s), Samples: e.Samples, Seed: uint32(e.Seed),
			Parallel: e.Parallel, GPULayers: -1, Threads: e.Threads,
		}
		settings := map[string]any{"card": card, "samples": e.Samples, "end": o.End, "no_gate": e.NoGate}
		return &task{inputs: append(inputs, File{Path: records}), settings: settings, seeds: map[string]int{"eval": e.Seed}, run: func(ctx context.Context, k *work) error {
			return w.interview(ctx, k, o)
		}}, nil
	}}
}

func (w *way) interview(ctx context.Context, k *work, o eval.Options) error {
	var err error
	if o.Records, _, err = persona.ReadRecords(o.DataPath, persona.ReadOptions{}); err != nil {
		return err
	}
	o.Progress = func(stage string, done, total int64) { k.progress(done, total, stage) }
	report, err := eval.Run(ctx, o)
	if err != nil {
		return err
	}
	for _, f := range report.Files {
		for _, s := range f.Scores {
			k.detail(f.Label+"."+s.Name, s.Share)
		}
	}
	data, html := w.below("reports/eval.json"), w.below("reports/eval.html")
	if err := writeReport(data, report); err != nil {
		return err
	}
	if err := atomicfile.WriteFile(html, report.WriteHTML); err != nil {
		return err
	}
	k.wrote(File{Path: data}, File{Path: html})
	k.Versions["llama.cpp"] = llamaCommit()
	if err := report.Passed(); err != nil {
		if err = fmt.Errorf("%w; %w: %s", err, ErrReport, html); !w.Config.Eval.NoGate {
			return err
		}
		w.Warn(err.Error())
	}
	return nil
}
