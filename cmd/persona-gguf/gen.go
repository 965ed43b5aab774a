package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/gen"
	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/unit"
	"github.com/persona-gguf/persona-gguf/persona"
)

const genHelp = `Gen makes scenes of a profile's paragraphs, dialogues of parsed scenes, and protective dialogues about what the character
cannot know, through Ollama, a server with OpenAI's API, or a GGUF file in this process. Every wanted scene or dialogue has
a key: a run that was stopped in any way is started again with the same command, on any day, and makes what is missing.
Answers are in result/DATE/journal.jsonl under --root before they count; the files that 'parse' reads are written from it.
While jobs are open the exit status is 1. 'gen status' tells from another terminal how far it is.

OLLAMA_HOST names the server if no --host does; OPENAI_API_KEY is the key for --openai-base-url.`

// genFlags are flags that need more than to be stored.
type genFlags struct {
	data                                     dataFlags
	promptName, language, dataPath, template string
	generic, rebuild                         bool
	hosts, urls                              []string
	openAI, openAIExtra                      string
	engine, file                             string
	keepAlive                                time.Duration
	local                                    engine.LocalOptions
}

func (a *app) gen() *cobra.Command {
	cmd := a.genKind("", "gen --prompt-name gen_scene|gen_dialogue|gen_hallucination", "make scenes and dialogues with a language model")
	cmd.AddCommand(
		a.genKind(prompt.Scene, "scene", "make scenes of the paragraphs of a profile"),
		a.genKind(prompt.Dialogue, "dialogue", "make dialogues of parsed scenes"),
		a.genKind(prompt.Protective, "protective", "make dialogues about what the character cannot know"),
		a.genStatus(),
	)
	return cmd
}

func (a *app) genKind(kind prompt.Kind, use, short string) *cobra.Command {
	o := gen.DefaultOptions()
	g := genFlags{local: engine.DefaultLocalOptions()}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: genHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if kind == "" && len(args) > 0 {
				return badUsage(cmd, fmt.Errorf("what to make: got %q, want scene, dialogue, protective or status", args[0]))
			}
			return arguments(0, 0, "none; everything is a flag")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.generate(cmd, kind, o, g) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	g.define(cmd)
	genOptions(f, &o)
	return cmd
}

func (g *genFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	g.data.define(cmd)
	f.StringVar(&g.promptName, "prompt-name", "", "gen_scene, gen_dialogue or gen_hallucination, in place of a command's name")
	f.StringVar(&g.language, "language", "", "korean or english; must be the card's")
	f.StringVar(&g.dataPath, "data-path", "", "profile for scenes, parsed scenes for dialogues (default: the card's profile, the latest processed/ file)")
	f.StringVar(&g.template, "template", "builtin", "builtin, seed (the character's file in data/seed_data/prompts under --root), or a file")
	f.BoolVar(&g.generic, "generic-template", false, "with --template seed: take the template for all characters if this one has none")
	f.BoolVar(&g.rebuild, "rebuild", false, "only write the file anew from the journal; nobody is asked")
	f.StringArrayVar(&g.hosts, "host", nil, "Ollama server, http://HOST:PORT; may be given several times")
	f.StringArrayVar(&g.urls, "ollama-url", nil, "the same, as older scripts call it")
	f.DurationVar(&g.keepAlive, "keep-alive", 30*time.Minute, "how long Ollama keeps the model loaded; negative: for ever")
	f.StringVar(&g.openAI, "openai-base-url", "", "server with OpenAI's API, up to and with /v1, in place of Ollama")
	f.StringVar(&g.openAIExtra, "openai-extra", "", "JSON object with more fields for every request there, such as {\"top_k\": 40}")
	f.StringVar(&g.engine, "engine", "", "ollama, openai or local (default: as the other flags say)")
	f.StringVarP(&g.file, "model", "m", "", "GGUF file for --engine local")
	f.IntVar(&g.local.Threads, "threads", 0, "threads of --engine local; 0: the physical cores")
	f.IntVar(&g.local.GPULayers, "gpu-layers", -1, "layers on the GPU with --engine local; -1: all")
}

func genOptions(f *pflag.FlagSet, o *gen.Options) {
	f.StringVar(&o.Model, "model-name", "", "the model's tag")
	f.StringVar(&o.Format, "format", o.Format, "json (by a schema), or text as the templates of older scripts ask for it")
	f.IntVar(&o.Count, "count", 0, "scenes of a paragraph, dialogues of a scene; 0: the card's")
	f.IntVar(&o.Batch, "batch", o.Batch, "scenes of one call")
	f.IntVar(&o.MinTurns, "min-turns", o.MinTurns, "least turns of a dialogue")
	f.IntVar(&o.MaxTurns, "max-turns", o.MaxTurns, "most turns of a dialogue in JSON")
	f.IntVar(&o.MaxChars, "max-chars", 0, "characters of one text in JSON; 0: no limit, which is faster")
	f.Float64Var(&o.Sampling.Temperature, "temperature", o.Sampling.Temperature, "")
	f.Float64Var(&o.Sampling.TopP, "top-p", o.Sampling.TopP, "")
	f.IntVar(&o.Sampling.TopK, "top-k", o.Sampling.TopK, "")
	f.Float64Var(&o.Sampling.RepeatPenalty, "repeat-penalty", o.Sampling.RepeatPenalty, "")
	f.IntVar(&o.Sampling.RepeatLastN, "repeat-last-n", o.Sampling.RepeatLastN, "")
	f.IntVar(&o.Sampling.NumPredict, "num-predict", 0, "tokens of one answer; 0: 2048, for dialogues 3072")
	f.IntVar(&o.Sampling.NumCtx, "num-ctx", 0, "context length; 0: what the longest prompt and the answer need")
	f.IntVar(&o.Sampling.Seed, "seed", o.Sampling.Seed, "the seeds of all calls are made from it")
	f.IntVar(&o.Parallel, "parallel", 0, "calls at the same time; 0: what the servers can use, found out while running")
	f.IntVar(&o.Tries, "tries", o.Tries, "answers of a job that may be bad")
	f.IntVar(&o.ServerTries, "server-tries", o.ServerTries, "calls of a job that may fail")
	f.DurationVar(&o.Timeout, "timeout", o.Timeout, "of a call")
	f.DurationVar(&o.Backoff, "backoff", o.Backoff, "before a failed call is made again; doubled each time")
	f.DurationVar(&o.WaitServer, "wait-server", o.WaitServer, "how long to wait when all servers are gone")
	f.Float64Var(&o.Similarity, "similarity", o.Similarity, "from which on answers are near-duplicates, 0 to 1; 0: none are")
	f.Float64Var(&o.MaxDuplicates, "max-duplicates", o.MaxDuplicates, "share of near-duplicates at which a scene's generation stops")
	f.IntVar(&o.MinBackground, "min-background", 0, "least characters of a scene's background")
}

// promptNames are the values of --prompt-name.
var promptNames = map[string]prompt.Kind{"gen_scene": prompt.Scene, "gen_dialogue": prompt.Dialogue, "gen_hallucination": prompt.Protective}

func (a *app) generate(cmd *cobra.Command, kind prompt.Kind, o gen.Options, g genFlags) error {
	if g.promptName != "" {
		named, ok := promptNames[strings.ReplaceAll(g.promptName, "-", "_")]
		if !ok || kind != "" && kind != named {
			return badUsage(cmd, fmt.Errorf("prompt_name: got %q, want one of %s that fits the command", g.promptName, strings.Join(slices.Sorted(maps.Keys(promptNames)), ", ")))
		}
		kind = named
	}
	if kind == "" {
		return badUsage(cmd, errors.New("what to make: got nothing, want scene, dialogue or protective"))
	}
	o.Kind = kind
	if err := g.chooseEngine(&o); err != nil {
		return badUsage(cmd, err)
	}
	if err := o.Check(); err != nil {
		return badUsage(cmd, err)
	}
	if err := g.read(cmd, &o); err != nil {
		return err
	}
	o.Info, o.Warn = func(s string) { slog.Info(s) }, func(s string) { slog.Warn(s) }
	if g.rebuild {
		report, err := gen.Rebuild(o)
		if err != nil {
			return err
		}
		return a.printGenerated(report)
	}
	closeEngines, err := g.open(&o)
	if err != nil {
		return err
	}
	defer closeEngines()
	set, stop := a.stderr.steps("gen " + string(kind))
	defer stop()
	o.Progress = func(p gen.Progress) {
		set(int64(p.Done), int64(p.Jobs), fmt.Sprintf("%d failed, %d at once", p.Failed, p.Parallel))
	}
	report, err := gen.Run(cmd.Context(), o)
	stop()
	if report != nil {
		if e := a.printGenerated(report); err == nil {
			err = e
		}
	}
	return err
}

// chooseEngine sees which engine the flags mean, and how the model is called.
func (g *genFlags) chooseEngine(o *gen.Options) error {
	g.hosts = append(g.hosts, g.urls...)
	if g.engine == "" {
		switch {
		case g.openAI != "":
			g.engine = "openai"
		case g.file != "":
			g.engine = "local"
		default:
			g.engine = "ollama"
		}
	}
	if !slices.Contains([]string{"ollama", "openai", "local"}, g.engine) {
		return fmt.Errorf("engine: got %q, want ollama, openai or local", g.engine)
	}
	if (g.engine == "openai") != (g.openAI != "") || (g.engine == "local") != (g.file != "") || g.engine != "ollama" && len(g.hosts) > 0 {
		return fmt.Errorf("engine: got %s with flags of another, want --host for ollama, --openai-base-url for openai, -m for local", g.engine)
	}
	if g.engine == "local" {
		if o.Model == "" {
			o.Model = strings.TrimSuffix(filepath.Base(g.file), ".gguf")
		}
		if o.Parallel > 0 {
			g.local.Parallel = o.Parallel
		}
	}
	return nil
}

// read reads the card and the template, and finds the input.
func (g *genFlags) read(cmd *cobra.Command, o *gen.Options) error {
	card, err := g.data.read(cmd)
	if err != nil {
		return err
	}
	if g.language != "" && g.language != card.Language {
		return fmt.Errorf("persona card %s: language: got %s, want %s as --language says", g.data.card, card.Language, g.language)
	}
	o.Card, o.CardPath, o.Root = card, g.data.card, g.data.root
	switch g.template {
	case "builtin":
		o.Template, err = prompt.Builtin(o.Kind, card.Language)
	case "seed":
		o.Template, err = prompt.Seed(o.Root, o.Kind, card.ID, card.Language, g.generic)
	default:
		o.Template, err = prompt.Read(g.template, o.Kind)
	}
	if err != nil {
		return err
	}
	if o.Kind == prompt.Dialogue {
		o.Scenes = g.dataPath
		if o.Scenes == "" {
			o.Scenes, err = gen.FindScenes(o.Root, card)
		}
		return err
	}
	o.Profile = g.dataPath
	if o.Profile == "" {
		o.Profile = card.ProfilePath()
	}
	if o.Profile == "" {
		o.Profile = persona.SeedProfile(o.Root, card.ID, card.Language)
	}
	return nil
}

// open makes the engines.
func (g *genFlags) open(o *gen.Options) (closeAll func(), err error) {
	var all []interface{ Close() error }
	closeAll = func() {
		for _, e := range all {
			if err := e.Close(); err != nil {
				slog.Warn(err.Error())
			}
		}
	}
	switch g.engine {
	case "local":
		e, err := engine.OpenLocal(g.file, g.local)
		if err != nil {
			return nil, err
		}
		all, o.Engines = append(all, e), append(o.Engines, e)
	case "openai":
		var extra map[string]any
		if g.openAIExtra != "" {
			if err := json.Unmarshal([]byte(g.openAIExtra), &extra); err != nil {
				return nil, fmt.Errorf("openai_extra: %w: want a JSON object", err)
			}
		}
		e, err := engine.NewOpenAI(g.openAI, o.Model, os.Getenv("OPENAI_API_KEY"), extra)
		if err != nil {
			return nil, err
		}
		all, o.Engines = append(all, e), append(o.Engines, e)
	default:
		if len(g.hosts) == 0 {
			g.hosts = []string{ollamaHost(os.Getenv("OLLAMA_HOST"))}
		}
		for _, host := range g.hosts {
			e, err := engine.NewOllama(host, o.Model, g.keepAlive)
			if err != nil {
				return nil, err
			}
			all, o.Engines = append(all, e), append(o.Engines, e)
		}
	}
	return closeAll, nil
}

// ollamaHost makes an address of what OLLAMA_HOST says, which may be that of the server itself: all addresses of a
// machine, or no port.
func ollamaHost(host string) string {
	if host = strings.TrimSpace(host); host == "" {
		return "http://127.0.0.1:11434"
	}
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok {
		scheme, rest = "http", host
	}
	rest = strings.TrimSuffix(rest, "/")
	if i := strings.LastIndexByte(rest, ':'); i < 0 || strings.HasSuffix(rest, "]") {
		rest += ":11434"
	}
	return scheme + "://" + strings.Replace(rest, "0.0.0.0:", "127.0.0.1:", 1)
}

func (a *app) printGenerated(r *gen.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	t := newTable(a.stdout)
	t.row("file", r.Output)
	t.row("jobs", fmt.Sprintf("%d, %d done (%d now), %d open, %d failed now", r.Jobs, r.Done, r.Fresh, r.Open, r.Failed))
	if len(r.Kinds) > 1 {
		t.row("kinds", counts(r.Kinds))
	}
	if r.Failed > 0 {
		t.row("failed for", counts(r.Reasons))
	}
	if r.BackgroundMin > 0 {
		t.row("backgrounds", fmt.Sprintf("%.0f characters in the mean, %d at least", r.BackgroundMean, r.BackgroundMin))
	}
	if len(r.UnknownTypes) > 0 {
		t.row("types that are not on the card", counts(r.UnknownTypes))
	}
	for _, d := range r.Duplicates {
		t.row("near-duplicates", fmt.Sprintf("%s: %d of %d answers", d.Group, d.N, d.Of))
	}
	if r.Fresh > 0 {
		t.row("rate", fmt.Sprintf("%.1f a minute, %d at once, num_ctx %d", r.PerMinute, r.Parallel, r.NumCtx))
	}
	const listed = 10
	for i, key := range r.Keys {
		if i == listed {
			t.row("", fmt.Sprintf("and %d more (--json lists all)", len(r.Keys)-listed))
			break
		}
		t.row(map[bool]string{true: "open keys"}[i == 0], key)
	}
	return t.Flush()
}

// counts writes names with their numbers, the largest first.
func counts(m map[string]int) string {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	var out []string
	for _, name := range names {
		out = append(out, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(out, ", ")
}

func (a *app) genStatus() *cobra.Command {
	var root, character string
	cmd := &cobra.Command{
		Use: "status", Short: "how far runs are, also while they run", Args: arguments(0, 0, "none; everything is a flag"),
		Long: "Status reads the manifests and journals under --root: what is done, what failed and why, the rate, and the time left.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := gen.ReadStatus(root, time.Now())
			if err != nil {
				return err
			}
			if character != "" {
				all = slices.DeleteFunc(all, func(s gen.Status) bool { return s.Character != character })
			}
			if a.json {
				return a.printJSON(map[string]any{"runs": all})
			}
			if len(all) == 0 {
				full, _ := filepath.Abs(root) // it is only shown
				return fmt.Errorf("status: got no run below %s, want one", filepath.Join(full, "result"))
			}
			return a.printStatus(all)
		},
	}
	cmd.Flags().StringVar(&root, "root", ".", "folder with result/")
	cmd.Flags().StringVar(&character, "character", "", "only the runs of this character")
	return cmd
}

func (a *app) printStatus(all []gen.Status) error {
	t := newTable(a.stdout)
	t.row("day", "kind", "character", "model", "state", "done", "failed", "a minute", "left")
	for _, s := range all {
		state := "stopped"
		switch {
		case s.Running:
			state = fmt.Sprintf("running (process %d)", s.PID)
		case s.Done >= s.Jobs:
			state = "complete"
		}
		failed, left := fmt.Sprint(s.Failed), "unknown"
		if s.Failed > 0 {
			failed = counts(s.Reasons)
		}
		if s.ETA >= 0 {
			left = unit.Duration(time.Duration(s.ETA * float64(time.Second)).Round(time.Second))
		}
		t.row(s.Day, s.Kind, s.Character, s.Model, state, fmt.Sprintf("%d of %d", s.Done, s.Jobs), failed, fmt.Sprintf("%.1f", s.PerMinute), left)
	}
	return t.Flush()
}
