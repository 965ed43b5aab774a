// Package pipeline goes the whole way from a persona card to a registered model, step by step, and writes down what
// each step read, made and was set to: what has not changed is not done again, and what was interrupted in any way is
// taken up again.
package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/persona-gguf/persona-gguf/persona"
)

// Errors that a caller may tell apart.
var (
	// ErrLocked says that another run works in the same folder.
	ErrLocked = errors.New("another run works in this folder")
	// ErrStep says that there is no such step.
	ErrStep = errors.New("unknown step")
	// ErrBaseModel says that there is no base model.
	ErrBaseModel = errors.New("base model")
	// ErrNotServed says that the Ollama server that is wanted does not answer.
	ErrNotServed = errors.New("no Ollama server answers")

	// ErrReport names the report of a step whose gates are not passed.
	ErrReport = errors.New("report")

	errKilled = errors.New("killed") // by a test
)

// Options say what to run. Card, CardPath and Root must be given.
type Options struct {
	Card     *persona.Card
	CardPath string
	Root     string // folder of everything that a run makes
	Config   Config

	From, To string // names of steps; "" for the first and the last
	Force    bool   // run the steps of the range even if nothing has changed
	DryRun   bool   // look only

	Server    *url.URL // the Ollama server
	Models    string   // its model folder, if it is on this machine
	OpenAIKey string
	Env       []string // of the trainer
	CacheDir  string   // of the trainer's environment; "" for its own choice
	Python    string   // an interpreter for the trainer; "" sets one up
	Version   string   // of the program
	Command   string   // that goes on with this run, for errors

	Now func() time.Time
	// Status is told when a step begins and ends, with what is known of all; at is its index.
	Status func(all []StepStatus, at int)
	// Progress is told how far a step is.
	Progress   func(step string, done, total int64, detail string)
	Info, Warn func(string)

	hook func(at string) error // see machine
}

// Result is what a run came to.
type Result struct {
	Root     string       `json:"root"`
	Manifest string       `json:"manifest"`
	DryRun   bool         `json:"dry_run"`
	Steps    []StepStatus `json:"steps"`
	Models   []string     `json:"models"` // GGUF files
	Name     string       `json:"name,omitempty"`
	Server   string       `json:"server,omitempty"` // where it is registered
	Seconds  float64      `json:"seconds"`
	ETA      float64      `json:"eta_seconds"` // of what a dry run would do; -1: not all of it is known
}

// Run does what is not done yet. The result is there even with an error of a step.
func Run(ctx context.Context, o Options) (*Result, error) {
	begin := time.Now()
	o.defaults()
	if err := o.Config.Check(); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	for _, gates := range []map[string]float64{o.Config.Gates, o.Config.Eval.Gates} {
		if _, err := o.Card.WithGates(gates); err != nil {
			return nil, fmt.Errorf("run: %w", err)
		}
	}
	if !o.DryRun {
		if err := os.MkdirAll(o.Root, 0o777); err != nil {
			return nil, fmt.Errorf("run: %w", err)
		}
		unlock, err := lock(o.Root)
		if err != nil {
			return nil, fmt.Errorf("run: %w", err)
		}
		defer unlock()
	}
	manifest, err := openManifest(o.Root, o.CardPath, o.Now())
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	w := &way{Options: &o}
	m := &machine{
		steps: w.steps(ctx), state: &state{manifest}, from: o.From, to: o.To, force: o.Force, dryRun: o.DryRun, command: o.Command,
		version: o.Version, now: o.Now, status: o.Status, progress: o.Progress, hook: o.hook,
	}
	err = m.run(ctx)
	if err != nil {
		err = fmt.Errorf("run: %w", err)
	}
	return o.result(m, begin), err
}

func (o *Options) defaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Status == nil {
		o.Status = func([]StepStatus, int) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64, string) {}
	}
	for _, say := range []*func(string){&o.Info, &o.Warn} {
		if *say == nil {
			*say = func(string) {}
		}
	}
}

func (o *Options) result(m *machine, begin time.Time) *Result {
	r := &Result{Root: o.Root, Manifest: filepath.Join(o.Root, ManifestName), DryRun: o.DryRun, Steps: m.all, Models: []string{}, Seconds: time.Since(begin).Seconds()}
	if models, err := m.state.out(stepConvert); err == nil {
		r.Models = models
	}
	if rec := m.state.manifest.Find(stepRegister); rec != nil && rec.Status == Done {
		r.Name, _ = rec.Details["name"].(string)
		r.Server, _ = rec.Details["server"].(string)
	}
	for _, s := range m.all {
		if s.State != WouldRun && s.State != MayRun {
			continue
		}
		if s.ETA < 0 {
			r.ETA = -1
		} else if r.ETA >= 0 {
			r.ETA += s.ETA
		}
	}
	return r
}

// shown is the longest value of a card that stands in a manifest as it is.
const shown = 60

// cardWithout gives the card's values by key, without those that a step does not look at. A long value is named by
// its hash.
func cardWithout(c *persona.Card, keys ...string) (map[string]any, error) {
	return values(reflect.ValueOf(c).Elem(), keys)
}

// values gives the fields of a struct by their keys in YAML.
func values(v reflect.Value, without []string) (map[string]any, error) {
	out := map[string]any{}
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		if key == "" || slices.Contains(without, key) {
			continue
		}
		if v.Field(i).Kind() == reflect.Struct {
			inner, err := values(v.Field(i), nil)
			if err != nil {
				return nil, err
			}
			out[key] = inner
			continue
		}
		value := v.Field(i).Interface()
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		if out[key] = value; len(text) > shown {
			hash, err := digest(value)
			if err != nil {
				return nil, err
			}
			out[key] = "sha256:" + hash[:16]
		}
	}
	return out, nil
}
