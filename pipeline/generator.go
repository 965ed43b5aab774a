package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/gen/engine"
)

// The engines that a choice may fall on.
const (
	engineOllama = "ollama"
	engineOpenAI = "openai"
	engineLocal  = "local"
)

// choice is who generates. It is made once, so that a server that comes or goes between two calls of the program
// changes nothing: what is generated depends on the file that holds it.
type choice struct {
	Engine  string `json:"engine"`
	Model   string `json:"model"`           // as it stands in the names of files; it names the weights of a model of ours
	File    string `json:"file,omitempty"`  // of the local engine, below the root if it is ours
	Version string `json:"version"`         // of the server, or of llama.cpp
	Base    string `json:"base,omitempty"`  // hash of the base's GGUF file, if that generates
	Named   bool   `json:"named,omitempty"` // the settings name the model
}

// chosen reads the choice.
func (w *way) chosen(s *state) (*choice, error) {
	path, err := s.first(stepGenerator)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &choice{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// generator is the step that chooses who generates, and makes a model of the base if that is to.
func (w *way) generator() step {
	return step{name: stepGenerator, plan: func(*state) (*task, error) {
		g := w.Config.Generator
		var inputs []File
		switch {
		case g.File != "":
			inputs = []File{{Path: g.File}}
		case g.Model == "":
			var err error
			if inputs, err = w.baseFiles(); err != nil {
				return nil, err
			}
		}
		settings := map[string]any{"engine": g.Engine, "model": g.Model, "type": g.Type, "base_url": g.BaseURL, "hosts": g.Hosts}
		return &task{inputs: inputs, settings: settings, run: w.choose}, nil
	}}
}

// choose decides.
func (w *way) choose(ctx context.Context, k *work) error {
	g := w.Config.Generator
	c := &choice{Engine: g.Engine, Model: g.Model, Named: g.Model != ""}
	if c.Engine == "auto" {
		if err := w.auto(ctx, c); err != nil {
			return err
		}
	}
	var made string
	switch {
	case g.File != "":
		full, err := filepath.Abs(g.File)
		if err != nil {
			return err
		}
		hash, err := hashFile(File{Path: full})
		if err != nil {
			return err
		}
		c.File, c.Model = full, strings.TrimSuffix(filepath.Base(full), ".gguf")+"-"+hash[:8]
	case !c.Named:
		var err error
		if made, err = w.makeGenerator(ctx, k, c); err != nil {
			return err
		}
	}
	_, c.Version = buildInfo()
	if c.Engine == engineOllama {
		if err := w.inspect(ctx, c); err != nil {
			return err
		}
	} else if c.Engine == engineOpenAI {
		c.Version = ""
	}
	path := w.below("generator.json")
	if err := writeReport(path, c); err != nil {
		return err
	}
	k.wrote(File{Path: path})
	if made != "" {
		k.wrote(File{Path: made})
	}
	k.detail("engine", c.Engine)
	k.detail("model", c.Model)
	k.Versions[c.Engine] = c.Version
	w.Info(fmt.Sprintf("scenes and dialogues come from %s (%s)", c.Model, c.Engine))
	return nil
}

// auto takes the Ollama server if one answers, else this process. A model that the settings name is never replaced
// by another.
func (w *way) auto(ctx context.Context, c *choice) error {
	if w.Config.Generator.File != "" {
		c.Engine = engineLocal
		return nil
	}
	for _, host := range w.hosts() {
		if answers(ctx, host) {
			c.Engine = engineOllama
			return nil
		}
	}
	if c.Named {
		return fmt.Errorf("%w: got none at %s, want one with the model %s that the settings name", ErrNotServed, strings.Join(w.hosts(), ", "), c.Model)
	}
	c.Engine = engineLocal
	return nil
}

// inspect sees whether the servers have the model.
func (w *way) inspect(ctx context.Context, c *choice) error {
	for _, host := range w.hosts() {
		e, err := engine.NewOllama(host, c.Model, keepAlive)
		if err != nil {
			return err
		}
		info, err := e.Inspect(ctx)
		if err = errors.Join(err, e.Close()); err != nil {
			return err
		}
		c.Version = info.Version
	}
	return nil
}

// makeGenerator makes a GGUF file of the base and, for Ollama, a model of it. Weights are in the model's name, since
// it stands for the generator in the journal's keys.
func (w *way) makeGenerator(ctx context.Context, k *work, c *choice) (path string, err error) {
	name := "models/generator-" + strings.ToLower(w.Config.Generator.Type) + ".gguf"
	path = w.below(name)
	if err := makeParent(path); err != nil {
		return "", err
	}
	o := convert.Options{OutFile: path, OutType: strings.ToLower(w.Config.Generator.Type), Warn: w.Warn}
	o.Progress = func(done, total int64) { k.progress(done, total, "converting the base") }
	if err := convertTo(ctx, w.Config.BaseModel, o); err != nil {
		return "", err
	}
	if c.Base, err = hashFile(File{Path: path}); err != nil {
		return "", err
	}
	c.File, c.Model = name, fmt.Sprintf("%s-%s-%s", filepath.Base(w.Config.BaseModel), strings.ToLower(w.Config.Generator.Type), c.Base[:8])
	if c.Engine != engineOllama {
		return path, nil
	}
	c.Model = w.Card.ID + "-generator:" + c.Base[:8]
	return path, w.serveGenerator(ctx, k, c)
}

// serveGenerator makes the base's file a model of every server that does not have it.
func (w *way) serveGenerator(ctx context.Context, k *work, c *choice) error {
	path := w.below(c.File)
	for _, host := range w.hosts() {
		e, err := engine.NewOllama(host, c.Model, keepAlive)
		if err != nil {
			return err
		}
		_, err = e.Inspect(ctx)
		if e := e.Close(); err == nil {
			err = e
		}
		if !errors.Is(err, engine.ErrModel) {
			if err != nil {
				return err
			}
			continue
		}
		spec, err := deploy.NewSpec(deploy.Options{Model: path, Card: w.Card.Nobody()})
		if err != nil {
			return err
		}
		server, err := url.Parse(host)
		if err != nil {
			return err
		}
		o := deploy.RegisterOptions{Server: server, Models: w.Models, Progress: func(stage string, done, total int64) { k.progress(done, total, stage) }}
		if _, err := spec.Register(ctx, c.Model, o); err != nil {
			return err
		}
	}
	return nil
}

// convertTo converts a folder.
func convertTo(ctx context.Context, dir string, o convert.Options) error {
	plan, err := convert.NewPlan(ctx, dir, o)
	if err != nil {
		return err
	}
	defer plan.Close()
	_, err = plan.Write(ctx)
	return err
}
