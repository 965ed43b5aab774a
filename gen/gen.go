// Package gen makes scenes and dialogues with language models. Every wanted scene or dialogue is a job with a key; a
// run asks until each key has its answer or its tries are used up, and can be stopped in any way and taken up again
// on any day: results are in a journal before they count, and the files that other tools read are written from it.
package gen

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/check"
	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Engine is what a run asks: an Ollama server, one with OpenAI's API, or a model in this process. Its methods may be
// called from several goroutines.
type Engine interface {
	// Name is an address or a file, for messages.
	Name() string
	// Inspect says what the engine knows about its model; it is called before Chat.
	Inspect(ctx context.Context) (engine.Info, error)
	// Alive tells whether the engine answers at all.
	Alive(ctx context.Context) error
	// Chat asks the model. An *engine.Error is worth another try.
	Chat(ctx context.Context, r engine.Request) (engine.Reply, error)
}

// The formats of answers.
const (
	JSON = "json" // by a schema
	Text = "text" // as older generators asked for them
)

// Errors that a caller may tell apart.
var (
	// ErrOpen says that jobs are left without an answer.
	ErrOpen = errors.New("jobs are still open")
	// ErrNoServer says that no engine has answered for as long as a run waits.
	ErrNoServer = errors.New("no server answers")
	// ErrEdited says that a file which a run has written was changed by others.
	ErrEdited = errors.New("the file was edited")
)

// Options say what a run makes and how; start from [DefaultOptions].
type Options struct {
	Root     string // folder of result/ and processed/
	Kind     prompt.Kind
	Card     *persona.Card
	CardPath string
	Profile  string // file of the profile; for scenes and protective dialogues
	Scenes   string // file of parsed scenes; for dialogues
	Template *prompt.Template
	Model    string // as in the names of files
	// Own is a folder for a further file of the same name, with the answers of this run's jobs only: the other one keeps
	// those of earlier runs of the same model, of another card and of scenes that are no more. "" writes none.
	Own     string
	Engines []Engine

	Format   string
	Sampling engine.Options // NumCtx 0: as much as the longest prompt and the answer need; Seed is the first of all seeds
	Count    int            // scenes of a paragraph, dialogues of a scene; 0: the card's
	Batch    int            // scenes of one call
	MinTurns int            // of a dialogue
	MaxTurns int
	MaxChars int // of one text in a JSON answer; 0: no limit

	Parallel    int           // calls at the same time, over all engines; 0: found out while running
	Tries       int           // answers of a key that may be bad
	ServerTries int           // calls of a key that may fail without an answer
	Backoff     time.Duration // before the second call; doubled for each further one
	Timeout     time.Duration // of a call
	WaitServer  time.Duration // how long all servers may be gone

	Similarity    float64 // from which on two answers are near-duplicates, 0 to 1; 0: none are
	MaxDuplicates float64 // share of near-duplicates at which a scene's generation stops
	MinBackground int     // code points of a scene's background

	Now      func() time.Time
	Progress func(Progress)
	Info     func(string)
	Warn     func(string)

	rules *check.Rules // of the card; by Check
}

// Progress is how far a run is.
type Progress struct {
	Done, Jobs int
	Failed     int
	Parallel   int
}

// DefaultOptions are those of the command without flags.
func DefaultOptions() Options {
	return Options{
		Format: JSON, Batch: 5, MinTurns: 2, MaxTurns: 24, Tries: 4, ServerTries: 6,
		Sampling: engine.Options{Temperature: 0.7, TopP: 0.95, TopK: 40, RepeatPenalty: 1.1, RepeatLastN: 64, Seed: 42},
		Backoff:  time.Second, Timeout: 10 * time.Minute, WaitServer: 10 * time.Minute,
		Similarity: 0.8, MaxDuplicates: 0.5, Now: time.Now,
		Progress: func(Progress) {}, Info: func(string) {}, Warn: func(string) {},
	}
}

// numPredict is the default length of an answer, in tokens.
var numPredict = map[prompt.Kind]int{prompt.Scene: 2048, prompt.Dialogue: 3072, prompt.Protective: 2048}

// Check looks at the numbers and choices, and fills in the defaults that depend on the kind.
func (o *Options) Check() error {
	if o.Card != nil {
		o.rules = check.NewRules(o.Card)
	}
	if o.Sampling.NumPredict == 0 {
		o.Sampling.NumPredict = numPredict[o.Kind]
	}
	if o.Format != JSON && o.Format != Text {
		return fmt.Errorf("format: got %q, want %s or %s", o.Format, JSON, Text)
	}
	if o.Model == "" {
		return errors.New("model_name: got none, want the model that generates")
	}
	if strings.ContainsAny(o.Model, "/\\\x00\n") && filepath.Base(fileName(o.Model)) != fileName(o.Model) {
		return fmt.Errorf("model_name: got %q, want a name that can stand in a file's name", o.Model)
	}
	s := o.Sampling
	for _, n := range []struct {
		name             string
		got, least, most float64
	}{
		{"temperature", s.Temperature, 0, 10}, {"top_p", s.TopP, 0, 1}, {"top_k", float64(s.TopK), 0, 1 << 30},
		{"repeat_penalty", s.RepeatPenalty, 0, 10}, {"repeat_last_n", float64(s.RepeatLastN), -1, 1 << 30},
		{"num_predict", float64(s.NumPredict), 1, 1 << 24}, {"num_ctx", float64(s.NumCtx), 0, 1 << 24}, {"seed", float64(s.Seed), 0, 1<<31 - 1},
		{"count", float64(o.Count), 0, 100_000}, {"batch", float64(o.Batch), 1, 100},
		{"min_turns", float64(o.MinTurns), 2, float64(o.MaxTurns)}, {"max_turns", float64(o.MaxTurns), 2, 1000}, {"max_chars", float64(o.MaxChars), 0, 10_000},
		{"parallel", float64(o.Parallel), 0, 4096}, {"tries", float64(o.Tries), 1, 1000}, {"server_tries", float64(o.ServerTries), 1, 1000},
		{"similarity", o.Similarity, 0, 1}, {"max_duplicates", o.MaxDuplicates, 0, 1}, {"min_background", float64(o.MinBackground), 0, 10_000},
		{"timeout", o.Timeout.Seconds(), 0.001, 1e7}, {"backoff", o.Backoff.Seconds(), 0, 3600}, {"wait_server", o.WaitServer.Seconds(), 0, 1e7},
	} {
		if !(n.got >= n.least && n.got <= n.most) {
			return fmt.Errorf("%s: got %v, want %v to %v", n.name, n.got, n.least, n.most)
		}
	}
	return nil
}

// fileName is a model's name as it stands in the names of files: an Ollama tag with its colon, the slashes of a
// namespace replaced.
func fileName(model string) string { return strings.ReplaceAll(model, "/", "_") }

// Run makes what is missing. It returns what there is then; the error is ErrOpen if some jobs still have no answer.
// When ctx ends, or after another error, everything that was answered is kept, and the next run goes on from there.
func Run(ctx context.Context, o Options) (*Report, error) {
	r, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("generate %s: %w", o.Kind, err)
	}
	defer r.close()
	err = r.work(ctx)
	report, e := r.finish(err)
	if err == nil {
		err = e
	}
	if err == nil && report.Open > 0 {
		err = fmt.Errorf("%w: %d of %d", ErrOpen, report.Open, report.Jobs)
	}
	if err != nil {
		return report, fmt.Errorf("generate %s: %w", o.Kind, err)
	}
	return report, nil
}
