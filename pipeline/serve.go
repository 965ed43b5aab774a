package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/deploy/vtuber"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
)

// notServed are keys of a card that a served model does not have.
var notServed = []string{"gates", "facts", "scene_types", "scenes_per_paragraph", "dialogues_per_scene", "shares", "identity_questions", "protective_topics", "unknown_speakers", "profile", "honorific_endings", "forbidden", "cast", "aliases"}

// served gives the file that is served: the last type.
func (w *way) served(s *state) (string, error) {
	paths, err := s.out(stepProvenance)
	if err == nil && len(paths) == 0 {
		err = errors.New("models: got none, want one")
	}
	if err != nil {
		return "", err
	}
	return paths[len(paths)-1], nil
}

func (w *way) spec(s *state, model string) (*deploy.Spec, error) {
	spec, err := deploy.NewSpec(deploy.Options{Model: model, Card: w.Card, Client: deploy.Client(w.Config.Client), End: end(s)})
	if err != nil {
		return nil, err
	}
	for _, warning := range spec.Warnings {
		w.Warn(warning)
	}
	return spec, nil
}

// modelfile writes the Modelfile beside the model, and a template for programs on llama.cpp.
func (w *way) modelfile() step {
	return step{name: stepModelfile, needs: []string{stepPrepare, stepProvenance}, plan: func(s *state) (*task, error) {
		model, err := w.served(s)
		if err != nil {
			return nil, err
		}
		card, err := cardWithout(w.Card, notServed...)
		if err != nil {
			return nil, err
		}
		return &task{
			inputs: []File{{Path: model, Bare: true}}, settings: map[string]any{"card": card, "client": w.Config.Client, "end": end(s)},
			run: func(_ context.Context, k *work) error { return w.writeModelfile(s, k, model) },
		}, nil
	}}
}

func (w *way) writeModelfile(s *state, k *work, model string) error {
	spec, err := w.spec(s, model)
	if err != nil {
		return err
	}
	text, err := spec.Modelfile(filepath.Dir(model))
	if err != nil {
		return err
	}
	files := map[string]string{"Modelfile": string(text)}
	if spec.Client == deploy.Chat {
		if files["template.jinja"], err = spec.Jinja(); err != nil {
			return err
		}
	}
	for _, name := range []string{"Modelfile", "template.jinja"} {
		text, ok := files[name]
		if !ok {
			continue
		}
		path := filepath.Join(filepath.Dir(model), name)
		err := atomicfile.WriteFile(path, func(out io.Writer) error {
			_, err := io.WriteString(out, text)
			return err
		})
		if err != nil {
			return err
		}
		k.wrote(File{Path: path})
	}
	k.detail("persona_sha256", w.Card.Hash())
	return nil
}

// name is the model's name at the server.
func (w *way) name() string {
	if w.Config.Name != "" {
		return w.Config.Name
	}
	return w.Card.ID
}

// register makes the model at the Ollama server, if there is one.
func (w *way) register(ctx context.Context) step {
	s := step{name: stepRegister, needs: []string{stepPrepare, stepProvenance}, plan: w.planRegister}
	switch {
	case w.Config.Register == "never":
		s.absent = "the settings say so (register: never)"
	case w.Server == nil:
		s.absent = "no server is named"
	case w.Config.Register == "auto" && !answers(ctx, w.Server.String()):
		s.absent = "no Ollama server answers at " + w.Server.String()
	}
	return s
}

func (w *way) planRegister(s *state) (*task, error) {
	model, err := w.served(s)
	if err != nil {
		return nil, err
	}
	card, err := cardWithout(w.Card, notServed...)
	if err != nil {
		return nil, err
	}
	settings := map[string]any{"card": card, "client": w.Config.Client, "end": end(s), "name": w.name()}
	return &task{
		inputs: []File{{Path: model}}, settings: settings,
		holds: func(ctx context.Context, r *Record) string {
			if w.has(ctx, r) {
				return ""
			}
			return fmt.Sprintf("the server %s does not have %s as it was registered", w.Server, w.name())
		},
		run: func(ctx context.Context, k *work) error {
			spec, err := w.spec(s, model)
			if err != nil {
				return err
			}
			hash, err := s.manifest.hash([]File{{Path: model}})
			if err != nil {
				return err
			}
			done, err := spec.Register(ctx, w.name(), deploy.RegisterOptions{
				Server: w.Server, Models: w.Models, SHA256: hash[0].SHA256,
				Progress: func(stage string, done, total int64) { k.progress(done, total, stage) },
			})
			if err != nil {
				return err
			}
			path := w.below("reports/registered.json")
			done.Duration, done.Uploaded, done.Replaced, done.Old = 0, false, false, "" // how it came about does not matter later
			if err := writeReport(path, done); err != nil {
				return err
			}
			k.wrote(File{Path: path})
			k.Versions["ollama"] = done.Version
			for key, v := range map[string]any{"name": done.Name, "server": done.Server, "digest": done.Digest} {
				k.detail(key, v)
			}
			return nil
		},
	}, nil
}

// has tells whether the server has the model of a record.
func (w *way) has(ctx context.Context, r *Record) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	show, err := api.NewClient(w.Server, http.DefaultClient).Show(ctx, &api.ShowRequest{Model: w.name()})
	if err != nil {
		return false
	}
	digest, _ := r.Details["digest"].(string)
	return digest != "" && strings.Contains(show.Modelfile, strings.Replace(digest, ":", "-", 1))
}

// vtuber sets the character up in Open-LLM-VTuber.
func (w *way) vtuber() step {
	v := w.Config.VTuber
	absent := ""
	if v.Dir == "" {
		absent = "the settings name no folder of Open-LLM-VTuber (vtuber.dir)"
	}
	return step{name: stepVTuber, absent: absent, plan: func(*state) (*task, error) {
		card, err := cardWithout(w.Card, notServed...)
		if err != nil {
			return nil, err
		}
		set := vtuber.Settings{
			Card: w.Card, Model: w.name(), BaseURL: v.BaseURL, Label: v.Label, Live2D: v.Live2D, Avatar: v.Avatar, Conf: v.Conf,
			Fork: w.Config.Client == string(deploy.Fork),
		}
		if set.BaseURL == "" && w.Server != nil {
			set.BaseURL = strings.TrimSuffix(w.Server.String(), "/") + "/v1"
		}
		settings := map[string]any{"card": card, "vtuber": byKey(v), "name": set.Model, "base_url": set.BaseURL, "client": w.Config.Client}
		return &task{settings: settings, run: func(_ context.Context, k *work) error {
			p, err := vtuber.Open(v.Dir)
			if err != nil {
				return err
			}
			changes, err := p.Set(set)
			if err != nil {
				return err
			}
			for _, c := range changes {
				k.wrote(File{Path: filepath.Join(v.Dir, c.File)})
			}
			return nil
		}}, nil
	}}
}
