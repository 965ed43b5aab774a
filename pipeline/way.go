package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
)

// The steps, in their order.
const (
	stepGenerator       = "generator"
	stepScenes          = "scenes"
	stepParseScenes     = "parse-scenes"
	stepDialogues       = "dialogues"
	stepParseDialogues  = "parse-dialogues"
	stepProtective      = "protective"
	stepParseProtective = "parse-protective"
	stepPrepare         = "prepare"
	stepCheck           = "check"
	stepTrain           = "train"
	stepConvert         = "convert"
	stepEval            = "eval"
	stepProvenance      = "provenance"
	stepModelfile       = "modelfile"
	stepRegister        = "register"
	stepVTuber          = "vtuber"
)

// way is all steps of a run.
type way struct {
	*Options
}

// StepNames are the names of all steps, in their order.
func StepNames() []string {
	return []string{
		stepGenerator, stepScenes, stepParseScenes, stepDialogues, stepParseDialogues, stepProtective, stepParseProtective, stepPrepare,
		stepCheck, stepTrain, stepConvert, stepEval, stepProvenance, stepModelfile, stepRegister, stepVTuber,
	}
}

// steps lays out the way.
func (w *way) steps(ctx context.Context) []step {
	protective := w.Config.Generator.CountProtective > 0 || w.Card.Shares.Protective == 0 && len(w.Card.ProtectiveTopics) > 0
	extra := "" // why there are no protective dialogues besides those among the others
	switch {
	case len(w.Card.ProtectiveTopics) == 0:
		protective, extra = false, "the card has no protective_topics"
	case !protective:
		extra = "the dialogues have their share of them"
	}
	absent := func(s step, why string) step {
		s.absent = why
		return s
	}
	return []step{
		w.generator(),
		w.generate(stepScenes, prompt.Scene, nil, notForScenes),
		w.parseStep(stepParseScenes, stepScenes, "", parse.Scenes),
		w.generate(stepDialogues, prompt.Dialogue, []string{stepParseScenes}, notForDialogues),
		w.parseStep(stepParseDialogues, stepDialogues, "", parse.Dialogues),
		absent(w.generate(stepProtective, prompt.Protective, nil, notForTopics), extra),
		absent(w.parseStep(stepParseProtective, stepProtective, "protective", parse.Dialogues), extra),
		w.prepare(protective),
		w.check(),
		w.train(),
		w.convert(),
		w.eval(),
		w.provenance(),
		w.modelfile(),
		w.register(ctx),
		w.vtuber(),
	}
}

// below is a path under the root.
func (w *way) below(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(w.Root, filepath.FromSlash(path))
}

func makeParent(path string) error { return os.MkdirAll(filepath.Dir(path), 0o777) }

// baseFiles are the files of the base model that something is made of.
func (w *way) baseFiles() ([]File, error) {
	return w.filesOfBase(".json", ".safetensors", ".txt", ".model", ".jinja", ".md")
}

// tokenizerFiles are the files of the base model without its weights.
func (w *way) tokenizerFiles() ([]File, error) {
	return w.filesOfBase(".json", ".txt", ".model", ".jinja")
}

func (w *way) filesOfBase(endings ...string) ([]File, error) {
	dir := w.Config.BaseModel
	if dir == "" {
		return nil, fmt.Errorf("%w: got none, want a folder with config.json", ErrBaseModel)
	}
	if !exists(filepath.Join(dir, "config.json")) {
		return nil, fmt.Errorf("%w %s: got no config.json there, want a Hugging Face folder", ErrBaseModel, dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBaseModel, err)
	}
	var files []File
	for _, e := range entries {
		if slices.Contains(endings, filepath.Ext(e.Name())) && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, File{Path: filepath.Join(dir, e.Name())})
		}
	}
	return files, nil
}

// hosts are the Ollama servers that generate.
func (w *way) hosts() []string {
	if hosts := w.Config.Generator.Hosts; len(hosts) > 0 {
		return hosts
	}
	if w.Server == nil {
		return nil
	}
	return []string{w.Server.String()}
}

// askTimeout is how long a look at a server may take.
const askTimeout = 5 * time.Second

// answers tells whether an Ollama server answers there.
func answers(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	e, err := engine.NewOllama(host, "", 0)
	if err != nil {
		return false
	}
	defer e.Close()
	return e.Alive(ctx) == nil
}
