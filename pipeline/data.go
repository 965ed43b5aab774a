package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/persona-gguf/persona-gguf/gen"
	"github.com/persona-gguf/persona-gguf/gen/check"
	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/gen/sft"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrOpen says that too many jobs of the generator are left without an answer.
var ErrOpen = errors.New("too many jobs are open")

// Keys of a card that the steps of the data do not look at.
var (
	notForScenes    = []string{"sampling", "gates", "facts", "forbidden", "honorific_endings", "format", "dialogues_per_scene", "identity_questions", "protective_topics", "shares", "profile", "unknown_speakers"}
	notForDialogues = []string{"sampling", "gates", "facts", "forbidden", "honorific_endings", "format", "scenes_per_paragraph", "profile", "unknown_speakers"}
	notForTopics    = append([]string{"dialogues_per_scene", "identity_questions", "shares", "scene_types"}, notForDialogues...)
	notForRecords   = []string{"sampling", "gates", "facts", "forbidden", "honorific_endings", "scenes_per_paragraph", "dialogues_per_scene", "identity_questions", "protective_topics", "shares", "profile"}
	notForCheck     = []string{"sampling", "scenes_per_paragraph", "dialogues_per_scene", "profile"}
)

// profile is the file of the card's profile, or that of the seed's layout under the root.
func (w *way) profile() string {
	if path := w.Card.ProfilePath(); path != "" {
		return path
	}
	return persona.SeedProfile(w.Root, w.Card.ID, w.Card.Language)
}

// generate is a step that asks the generator for a kind.
func (w *way) generate(name string, kind prompt.Kind, needs []string, without []string) step {
	return step{name: name, needs: append([]string{stepGenerator}, needs...), plan: func(s *state) (*task, error) {
		chosen, err := w.chosen(s)
		if err != nil {
			return nil, err
		}
		settings, err := cardWithout(w.Card, without...)
		if err != nil {
			return nil, err
		}
		g := w.Config.Generator
		g.Engine, g.Model, g.Hosts, g.File, g.Type, g.Parallel, g.Threads, g.BaseURL = "", "", nil, "", "", 0, 0, "" // the generator's own step says who, and how does not matter
		o, err := w.genOptions(kind)
		if err != nil {
			return nil, err
		}
		switch input := w.profile(); {
		case kind == prompt.Dialogue:
			if o.Scenes, err = s.first(stepParseScenes); err != nil {
				return nil, err
			}
			g.CountScenes, g.CountProtective, g.Batch, g.MinBackground = 0, 0, 0, 0
		default:
			if o.Profile = input; kind == prompt.Scene {
				g.CountDialogues, g.CountProtective, g.MinTurns, g.MaxTurns = 0, 0, 0, 0
			} else {
				g.CountScenes, g.CountDialogues, g.Batch, g.MinBackground = 0, 0, 0, 0
			}
		}
		input := o.Profile + o.Scenes
		choice, err := s.first(stepGenerator)
		if err != nil {
			return nil, err
		}
		return &task{
			inputs: []File{{Path: choice}, {Path: input}}, seeds: map[string]int{"first": g.Seed},
			settings: map[string]any{"card": settings, "generator": byKey(g), "template": o.Template.SHA256, "min_yield": w.Config.MinYield},
			run:      func(ctx context.Context, k *work) error { return w.ask(ctx, k, chosen, o) },
		}, nil
	}}
}

// genOptions are the options of package gen, without engines and input.
func (w *way) genOptions(kind prompt.Kind) (gen.Options, error) {
	g := w.Config.Generator
	o := gen.DefaultOptions()
	o.Root, o.Kind, o.Card, o.CardPath, o.Own = w.Root, kind, w.Card, w.CardPath, w.below("raw/"+string(kind))
	o.Format, o.Batch, o.MinTurns, o.MaxTurns, o.MaxChars = g.Format, g.Batch, g.MinTurns, g.MaxTurns, g.MaxChars
	o.Sampling.Temperature, o.Sampling.TopP, o.Sampling.TopK, o.Sampling.RepeatPenalty = g.Temperature, g.TopP, g.TopK, g.RepeatPenalty
	o.Sampling.NumPredict, o.Sampling.NumCtx, o.Sampling.Seed = g.NumPredict, g.NumCtx, g.Seed
	o.Parallel, o.Tries, o.Similarity, o.MaxDuplicates, o.MinBackground = g.Parallel, g.Tries, g.Similarity, g.MaxDuplicates, g.MinBackground
	o.Count = map[prompt.Kind]int{prompt.Scene: g.CountScenes, prompt.Dialogue: g.CountDialogues, prompt.Protective: g.CountProtective}[kind]
	o.Info, o.Warn, o.Now = w.Info, w.Warn, w.Now
	var err error
	switch g.Template {
	case "builtin":
		o.Template, err = prompt.Builtin(kind, w.Card.Language)
	case "seed":
		o.Template, err = prompt.Seed(w.Root, kind, w.Card.ID, w.Card.Language, false)
	default:
		o.Template, err = prompt.Read(g.Template, kind)
	}
	return o, err
}

// ask has the generator answer what is open.
func (w *way) ask(ctx context.Context, k *work, chosen *choice, o gen.Options) error {
	o.Model = chosen.Model
	if err := o.Check(); err != nil {
		return err
	}
	if chosen.Engine == engineOllama && chosen.Base != "" { // somebody may have removed it
		if err := w.serveGenerator(ctx, k, chosen); err != nil {
			return err
		}
	}
	closeEngines, err := w.open(chosen, &o)
	if err != nil {
		return err
	}
	defer closeEngines()
	o.Progress = func(p gen.Progress) {
		k.progress(int64(p.Done), int64(p.Jobs), fmt.Sprintf("%d failed, %d at once", p.Failed, p.Parallel))
	}
	report, err := gen.Run(ctx, o)
	if report != nil {
		k.detail("jobs", report.Jobs)
		k.detail("done", report.Done)
		k.detail("open", report.Open)
		k.detail("near_duplicates", len(report.Duplicates))
	}
	k.Versions["engine"] = chosen.Version
	if err != nil {
		if !errors.Is(err, gen.ErrOpen) {
			return err
		}
		if yield := float64(report.Done) / float64(report.Jobs); yield < w.Config.MinYield {
			return fmt.Errorf("%w: got %d of %d answers, %.3f, want at least %v (min_yield): %w", ErrOpen, report.Done, report.Jobs, yield, w.Config.MinYield, err)
		}
		w.Warn(fmt.Sprintf("%d of %d jobs are without an answer; the run goes on with the others", report.Open, report.Jobs))
	}
	k.wrote(File{Path: report.Own})
	return nil
}

// open makes the engines of a choice.
func (w *way) open(c *choice, o *gen.Options) (closeAll func(), err error) {
	var all []interface{ Close() error }
	closeAll = func() {
		for _, e := range all {
			if err := e.Close(); err != nil {
				w.Warn(err.Error())
			}
		}
	}
	switch c.Engine {
	case engineLocal:
		options := engine.DefaultLocalOptions()
		options.Threads = w.Config.Generator.Threads
		if o.Parallel > 0 {
			options.Parallel = o.Parallel
		}
		e, err := engine.OpenLocal(w.below(c.File), options)
		if err != nil {
			return nil, err
		}
		all, o.Engines = append(all, e), append(o.Engines, e)
	case engineOpenAI:
		e, err := engine.NewOpenAI(w.Config.Generator.BaseURL, c.Model, w.OpenAIKey, nil)
		if err != nil {
			return nil, err
		}
		all, o.Engines = append(all, e), append(o.Engines, e)
	default:
		for _, host := range w.hosts() {
			e, err := engine.NewOllama(host, c.Model, keepAlive)
			if err != nil {
				return nil, err
			}
			all, o.Engines = append(all, e), append(o.Engines, e)
		}
	}
	return closeAll, nil
}

// keepAlive is how long Ollama keeps the generator loaded after a call.
const keepAlive = 5 * time.Minute

// parseStep is a step that parses what the generator wrote.
func (w *way) parseStep(name, of, kind string, run func(context.Context, parse.Options) (*parse.Report, error)) step {
	needs := []string{of}
	if name == stepParseDialogues {
		needs = append(needs, stepParseScenes)
	}
	return step{name: name, needs: needs, plan: func(s *state) (*task, error) {
		raw, err := s.first(of)
		if err != nil {
			return nil, err
		}
		card, err := cardWithout(w.Card, notForRecords...)
		if err != nil {
			return nil, err
		}
		inputs := []File{{Path: raw}}
		if name == stepParseDialogues { // old rows find their scene there
			scenes, err := s.first(stepParseScenes)
			if err != nil {
				return nil, err
			}
			inputs = append(inputs, File{Path: scenes})
		}
		return &task{inputs: inputs, settings: map[string]any{"card": card, "kind": kind}, run: func(ctx context.Context, k *work) error {
			o := parse.Options{Card: w.Card, Root: w.Root, Files: []string{raw}, Kind: kind, Now: s.manifest.Created, Warn: w.Warn}
			o.Progress = func(done, total int64) { k.progress(done, total, "") }
			report, err := run(ctx, o)
			if report != nil {
				k.detail("kept", report.Kept)
				k.detail("of", report.Of)
				k.detail("yield", report.Yield)
			}
			if err != nil {
				return err
			}
			k.wrote(File{Path: report.Output})
			return nil
		}}, nil
	}}
}

// prepare makes SFT records in the plain form, which is the one that the model is served with.
func (w *way) prepare(protective bool) step {
	needs := []string{stepParseDialogues}
	if protective {
		needs = append(needs, stepParseProtective)
	}
	return step{name: stepPrepare, needs: needs, plan: func(s *state) (*task, error) {
		var files []string
		var inputs []File
		for _, name := range needs {
			path, err := s.first(name)
			if err != nil {
				return nil, err
			}
			files, inputs = append(files, path), append(inputs, File{Path: path})
		}
		tokenizer, err := w.tokenizerFiles()
		if err != nil {
			return nil, err
		}
		card, err := cardWithout(w.Card, notForRecords...)
		if err != nil {
			return nil, err
		}
		p := w.Config.Prepare
		settings := map[string]any{"card": card, "prepare": byKey(p), "max_length": w.Config.Train.MaxLength}
		return &task{inputs: append(inputs, tokenizer...), settings: settings, seeds: map[string]int{"split": p.Seed}, run: func(ctx context.Context, k *work) error {
			o := sft.DefaultOptions()
			o.Card, o.Root, o.Files, o.Now, o.Warn = w.Card, w.Root, files, s.manifest.Created, w.Warn
			o.EvalShare, o.Threshold, o.Seed, o.MaxLength = p.EvalSplit, p.NearDuplicate, p.Seed, w.Config.Train.MaxLength
			o.Progress = func(done, total int64) { k.progress(done, total, "") }
			var err error
			if o.Model, err = sft.OpenTokenizer(ctx, w.Config.BaseModel); err != nil {
				return err
			}
			defer o.Model.Close()
			if _, err := o.ChooseTemplate("own"); err != nil {
				return err
			}
			report, err := sft.Prepare(ctx, o)
			if err != nil {
				return err
			}
			for key, n := range map[string]int{"records": report.Records, "train": report.Train, "eval": report.Eval} {
				k.detail(key, n)
			}
			k.detail("end", report.End)
			if report.Tokens != nil {
				k.detail("tokens", report.Tokens.Total)
			}
			k.wrote(File{Path: report.Output})
			return nil
		}}, nil
	}}
}

// check measures the records, and ends the run if a gate is not passed.
func (w *way) check() step {
	return step{name: stepCheck, needs: []string{stepPrepare}, plan: func(s *state) (*task, error) {
		records, err := s.first(stepPrepare)
		if err != nil {
			return nil, err
		}
		gated, err := w.Card.WithGates(w.Config.Gates)
		if err != nil {
			return nil, err
		}
		card, err := cardWithout(gated, notForCheck...)
		if err != nil {
			return nil, err
		}
		inputs := []File{{Path: records}}
		if exists(w.profile()) {
			inputs = append(inputs, File{Path: w.profile()})
		}
		settings := map[string]any{"card": card, "near_duplicate": w.Config.Prepare.NearDuplicate, "max_length": w.Config.Train.MaxLength}
		return &task{inputs: inputs, settings: settings, run: func(ctx context.Context, k *work) error { return w.runCheck(ctx, k, gated, records) }}, nil
	}}
}

func (w *way) runCheck(ctx context.Context, k *work, card *persona.Card, path string) error {
	renderer, err := persona.NewRenderer(card, persona.Options{})
	if err != nil {
		return err
	}
	records, _, err := persona.ReadRecords(path, persona.ReadOptions{Renderer: renderer})
	if err != nil {
		return err
	}
	o := check.Options{Card: card, Threshold: w.Config.Prepare.NearDuplicate, MaxLength: w.Config.Train.MaxLength, NoProtective: len(card.ProtectiveTopics) == 0}
	o.Progress = func(done, total int64) { k.progress(done, total, "") }
	if exists(w.profile()) {
		if o.Profile, err = persona.ReadProfile(w.profile()); err != nil {
			return err
		}
	}
	if o.Model, err = sft.OpenTokenizer(ctx, w.Config.BaseModel); err != nil {
		return err
	}
	defer o.Model.Close()
	report, fault := check.Run(ctx, records, o)
	if report == nil {
		return fault
	}
	for _, warning := range report.Warnings {
		w.Info(warning)
	}
	for _, g := range report.Gates {
		k.detail(g.Name, g.Value)
	}
	html, data := w.below("reports/check.html"), w.below("reports/check.json")
	if err := writeReport(data, report); err != nil {
		return err
	}
	if err := atomicfile.WriteFile(html, func(out io.Writer) error { return report.WriteHTML(out, w.Card.Name) }); err != nil {
		return err
	}
	k.wrote(File{Path: data}, File{Path: html})
	if fault == nil {
		fault = report.Passed()
	}
	if fault != nil {
		return fmt.Errorf("%w; %w: %s", fault, ErrReport, html)
	}
	return nil
}

// writeReport writes a value as JSON, in a folder that is made.
func writeReport(path string, v any) error {
	if err := makeParent(path); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, func(out io.Writer) error {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
