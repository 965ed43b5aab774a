package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ollama/ollama/api"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

// specFlags are the flags of what a model is served with.
type specFlags struct {
	model, card, client, end, license, messages string
}

func (s *specFlags) define(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVarP(&s.model, "model", "m", "", "GGUF file")
	f.StringVar(&s.card, "persona", "", "persona card (YAML)")
	f.StringVar(&s.client, "client", string(deploy.Chat), "chat: clients that send messages; fork: one that sends a finished prompt to /api/generate")
	f.StringVar(&s.end, "end", "", "token that ends utterances in the training data (default: <|im_end|> for chatml, <|eot|> for trainable-agents)")
	f.StringVar(&s.license, "license", "", "file with the licence text (default: general.license of the GGUF file)")
	f.StringVar(&s.messages, "messages", "", `JSON file with example messages, [{"role": "user", "content": "…"}, …]`)
}

// spec reads what the flags name and makes the spec, with its warnings.
func (s *specFlags) spec(cmd *cobra.Command) (*deploy.Spec, error) {
	if s.model == "" {
		return nil, badUsage(cmd, errors.New("model: got none, want a GGUF file with -m"))
	}
	if s.card == "" {
		return nil, badUsage(cmd, errors.New("persona: got none, want a persona card with --persona"))
	}
	if s.client != string(deploy.Chat) && s.client != string(deploy.Fork) {
		return nil, badUsage(cmd, fmt.Errorf("client: got %q, want %s or %s", s.client, deploy.Chat, deploy.Fork))
	}
	card, err := persona.Read(s.card)
	if err != nil {
		return nil, err
	}
	o := deploy.Options{Model: s.model, Card: card, Client: deploy.Client(s.client), End: s.end}
	if s.license != "" {
		text, err := os.ReadFile(s.license)
		if err != nil {
			return nil, fmt.Errorf("license: %w", err)
		}
		o.License = []string{string(text)}
	}
	if o.Messages, err = readMessages(s.messages); err != nil {
		return nil, err
	}
	spec, err := deploy.NewSpec(o)
	if err != nil {
		return nil, err
	}
	for _, warning := range spec.Warnings {
		slog.Warn(warning)
	}
	return spec, nil
}

func readMessages(path string) (messages []api.Message, err error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	if err := json.Unmarshal(text, &messages); err != nil {
		return nil, fmt.Errorf("messages %s: %w", path, err)
	}
	return messages, nil
}

func (a *app) modelfile() *cobra.Command {
	var s specFlags
	var output, jinja string
	cmd := &cobra.Command{
		Use: "modelfile -m FILE --persona CARD", Short: "write the Modelfile of a persona",
		Long: "Modelfile writes what 'ollama create NAME -f Modelfile' needs: the template that renders conversations as in training,\n" +
			"the persona, every stop, the context length and the sampling of the card. 'register' does the same through Ollama's API.",
		Args: arguments(0, 0, "none; everything is a flag"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := s.spec(cmd)
			if err != nil {
				return err
			}
			return a.writeModelfile(spec, output, jinja)
		},
	}
	s.define(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: stdout, with an absolute path in FROM)")
	cmd.Flags().StringVar(&jinja, "jinja", "", "write a Jinja template too, for programs on llama.cpp (chat --template)")
	return cmd
}

// writtenModelfile is the result with --json.
type writtenModelfile struct {
	Path       string         `json:"path,omitempty"`
	Jinja      string         `json:"jinja,omitempty"`
	Persona    string         `json:"persona_sha256"`
	Client     deploy.Client  `json:"client"`
	Parameters map[string]any `json:"parameters"`
	Template   string         `json:"template"`
	System     string         `json:"system"`
	Warnings   []string       `json:"warnings"`
}

func (a *app) writeModelfile(spec *deploy.Spec, output, jinja string) error {
	dir := ""
	if output != "" {
		dir = filepath.Dir(output)
	}
	text, err := spec.Modelfile(dir)
	if err != nil {
		return err
	}
	if jinja != "" {
		source, err := spec.Jinja()
		if err != nil {
			return err
		}
		if err := writeText(jinja, []byte(source)); err != nil {
			return err
		}
	}
	if output != "" {
		if err := writeText(output, text); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		return a.printJSON(writtenModelfile{output, jinja, spec.Card.Hash(), spec.Client, spec.RequestOptions(), spec.Template, spec.System, append([]string{}, spec.Warnings...)})
	case output != "":
		_, err = fmt.Fprintln(a.stdout, output)
	default:
		_, err = a.stdout.Write(text)
	}
	return err
}

func writeText(path string, text []byte) error {
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
