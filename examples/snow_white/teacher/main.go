// Command teacher makes the pairs of prompt and answer from which the example's base learns to write scenes and
// dialogues.
//
//	go run ./examples/snow_white/teacher OUT.jsonl
//
// It runs package gen itself, for the example's card and tale, with an engine that answers out of data/: so the
// prompts are, letter for letter, those that "persona-gguf gen" sends. The same bytes come out every time.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/persona-gguf/persona-gguf/gen"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/persona"
)

// rounds is how often the tale is gone through; each time with other sizes of calls, and other answers.
const rounds = 12

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./examples/snow_white/teacher OUT.jsonl")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, filepath.Join("examples", "snow_white"), os.Args[1], rounds); err != nil {
		fmt.Fprintln(os.Stderr, "teacher: error:", err)
		os.Exit(1)
	}
}

// run writes the pairs of n rounds.
func run(ctx context.Context, dir, out string, n int) error {
	t, err := newTeacher(dir)
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "teacher")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for round := range n {
		if err := t.round(ctx, root, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return t.write(out)
}

// round asks for some scenes of every paragraph, for dialogues in some of these scenes, and for protective ones.
func (t *teacher) round(ctx context.Context, root string, round int) error {
	t.scenes = nil
	o := t.options(root, prompt.Scene, round)
	o.Batch = []int{5, 5, 3, 5, 4, 5, 2, 5, 1, 5}[round%10]
	o.Count = 3 * o.Batch
	if _, err := gen.Run(ctx, o); err != nil {
		return err
	}
	o = t.options(root, prompt.Dialogue, round)
	o.Scenes = filepath.Join(root, fmt.Sprintf("scenes%d.json", round))
	o.Count = []int{3, 4, 3, 11}[round%4]
	if err := t.writeScenes(o.Scenes, []int{30, 24, 30, 9}[round%4]); err != nil {
		return err
	}
	if _, err := gen.Run(ctx, o); err != nil {
		return err
	}
	o = t.options(root, prompt.Protective, round)
	o.Count = 1 + round%2
	_, err := gen.Run(ctx, o)
	return err
}

// options are those of a run that asks the teacher, one call after the other.
func (t *teacher) options(root string, kind prompt.Kind, round int) gen.Options {
	o := gen.DefaultOptions()
	o.Root, o.Kind, o.Card, o.CardPath = filepath.Join(root, fmt.Sprint(round)), kind, t.card, t.cardPath
	o.Profile, o.Template = t.card.ProfilePath(), t.templates[kind]
	o.Model, o.Engines, o.Parallel, o.Similarity = "teacher", []gen.Engine{t}, 1, 0
	o.Sampling.Seed = round + 1
	return o
}

// writeScenes writes a file of parsed scenes: n of those that were answered since the round began.
func (t *teacher) writeScenes(path string, n int) error {
	var chosen []scene
	for i := range n {
		chosen = append(chosen, t.scenes[i*len(t.scenes)/n])
	}
	text, err := json.Marshal(chosen)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o666)
}

// write writes the pairs as dialogues, {"messages": [...]} a line.
func (t *teacher) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, p := range t.pairs {
		if err := e.Encode(p); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// newTeacher reads card, templates and texts.
func newTeacher(dir string) (*teacher, error) {
	t := &teacher{templates: map[prompt.Kind]*prompt.Template{}, cardPath: filepath.Join(dir, "persona.yaml")}
	var err error
	if t.card, err = persona.Read(t.cardPath); err != nil {
		return nil, err
	}
	for _, kind := range []prompt.Kind{prompt.Scene, prompt.Dialogue, prompt.Protective} {
		if t.templates[kind], err = prompt.Builtin(kind, t.card.Language); err != nil {
			return nil, err
		}
	}
	if err := t.readTexts(filepath.Join(dir, "data")); err != nil {
		return nil, err
	}
	// More of what is rare in a run, so that it is learned as well.
	t.card.ProtectiveTopics, t.card.IdentityQuestions = t.phrases.Topics, append(t.card.IdentityQuestions, t.phrases.Questions...)
	t.card.Shares = persona.Shares{Identity: 0.14, Protective: 0.14}
	return t, nil
}
