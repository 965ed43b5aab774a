package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/persona"
)

const testCard = `version: 1
id: snow_white
name: 백설공주
persona: 당신은 백설공주입니다.
profile: profile.txt
scenes_per_paragraph: 2
dialogues_per_scene: 2
shares: {identity: 0.05, protective: 0}
protective_topics: [스마트폰]
`

// world is a card and a server that generates.
type world struct {
	t      *testing.T
	dir    string
	server *fakellm.Server
	day    int
	o      Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), day: 1, server: &fakellm.Server{Context: 8192}}
	if err := w.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Close)
	w.write("card.yaml", testCard)
	w.write("profile.txt", "백설공주\n\n숲에서 일곱 난쟁이와 살았어요.\n\n사냥꾼은 저를 놓아주었어요.\n")
	w.o = Options{CardPath: filepath.Join(w.dir, "card.yaml"), Root: filepath.Join(w.dir, "root"), To: stepParseProtective, Config: DefaultConfig()}
	w.o.Now = func() time.Time { return time.Date(2026, 11, w.day, 23, 50, 0, 0, time.UTC) }
	w.o.Config.Generator.Engine, w.o.Config.Generator.Model, w.o.Config.Generator.BaseURL = engineOpenAI, "fake", w.server.URL+"/v1"
	w.o.Config.Generator.Similarity = 0
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// run runs, and gives the steps that were done.
func (w *world) run() (done []string, err error) {
	w.t.Helper()
	if w.o.Card, err = persona.Read(w.o.CardPath); err != nil {
		w.t.Fatal(err)
	}
	r, err := Run(w.t.Context(), w.o)
	for _, s := range r.Steps {
		if s.State == Done {
			done = append(done, s.Step)
		}
	}
	return done, err
}

func (w *world) want(steps ...string) {
	w.t.Helper()
	if done, err := w.run(); err != nil || !slices.Equal(done, steps) {
		w.t.Errorf("got %v, %v, want %v", done, err, steps)
	}
}

// TestMidnight stops a run on one day and goes on on the next: nothing is asked for twice, and the parsed files stay
// together.
func TestMidnight(t *testing.T) {
	w := newWorld(t)
	w.o.To = stepScenes
	w.want(stepGenerator, stepScenes)
	calls, _ := w.server.Calls()
	w.day = 2
	w.o.To = stepParseProtective
	w.want(stepParseScenes, stepDialogues, stepParseDialogues, stepProtective, stepParseProtective)
	for _, name := range []string{
		"result/2026-11-01/gen_scene", "result/2026-11-02/gen_dialogue", "result/2026-11-02/gen_hallucination",
		"processed/2026-11-01/generated_agent_scene_snow_white-korean.json", "processed/2026-11-01/generated_agent_dialogue_snow_white-korean.json",
		"processed/2026-11-01/generated_agent_hallucination_snow_white-korean.json",
	} {
		if !exists(filepath.Join(w.o.Root, name)) {
			t.Errorf("%s is not there", name)
		}
	}
	if calls == 0 || exists(filepath.Join(w.o.Root, "processed/2026-11-02")) {
		t.Errorf("got %d calls on the first day, or parsed files of the second", calls)
	}
	calls, _ = w.server.Calls()
	w.day = 3
	w.want()
	if now, _ := w.server.Calls(); now != calls {
		t.Errorf("unchanged: got %d calls, want none", now-calls)
	}
}

// TestDataChanged changes the card: the steps that look at what changed run again, and those whose input is another
// then.
func TestDataChanged(t *testing.T) {
	w := newWorld(t)
	w.want(stepGenerator, stepScenes, stepParseScenes, stepDialogues, stepParseDialogues, stepProtective, stepParseProtective)
	w.write("card.yaml", testCard+"sampling: {temperature: 0.2}\ngates: {honorific: 0.1}\n")
	w.want()
	w.write("card.yaml", strings.Replace(testCard, "dialogues_per_scene: 2", "dialogues_per_scene: 3", 1))
	w.want(stepDialogues, stepParseDialogues)
	w.write("card.yaml", testCard+"unknown_speakers: keep\n") // and two dialogues again: the rest stays in the journal
	w.want(stepParseScenes, stepDialogues, stepParseDialogues, stepParseProtective)
	w.write("profile.txt", "백설공주\n\n숲에서 일곱 난쟁이와 살았어요.\n")
	w.want(stepScenes, stepParseScenes, stepDialogues, stepParseDialogues, stepProtective, stepParseProtective)
}

// TestOwn looks at what is trained on after the card has changed: nothing of what was generated for the old one. The
// file in result/ has all, as other tools know it.
func TestOwn(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	w.write("card.yaml", strings.Replace(testCard, "당신은 백설공주입니다.", "당신은 눈의 공주입니다.", 1))
	w.want(stepScenes, stepParseScenes, stepDialogues, stepParseDialogues, stepProtective, stepParseProtective)
	for pattern, want := range map[string]int{"raw/dialogue/*.jsonl": 8, "raw/scene/*.jsonl": 2, "result/*/gen_dialogue/*.jsonl": 16, "result/*/gen_scene/*.jsonl": 4} {
		files, err := filepath.Glob(filepath.Join(w.o.Root, pattern))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: got %v, %v", pattern, files, err)
		}
		data, err := os.ReadFile(files[0])
		if n := strings.Count(string(data), "\n"); err != nil || n != want {
			t.Errorf("%s: got %d rows, %v, want %d", pattern, n, err, want)
		}
		if old := strings.Contains(string(data), "당신은 백설공주입니다."); strings.Contains(pattern, "dialogue") && old != strings.HasPrefix(pattern, "result") {
			t.Errorf("%s: with the old persona: got %v", pattern, old)
		}
	}
	files, err := filepath.Glob(filepath.Join(w.o.Root, "raw/scene/*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], []byte("spoilt"), 0o644); err != nil {
		t.Fatal(err)
	}
	calls, _ := w.server.Calls()
	w.want(stepScenes) // from the journal
	if now, _ := w.server.Calls(); now != calls {
		t.Errorf("got %d calls, want none", now-calls)
	}
}

// TestYield has a generator that answers some jobs only.
func TestYield(t *testing.T) {
	w := newWorld(t)
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		if c.Predict > 1 && strings.Contains(c.Prompt, "사냥꾼") {
			return fakellm.Answer{Content: "{"}
		}
		return fakellm.Good(c)
	}
	w.o.Config.Generator.Tries, w.o.To = 1, stepScenes
	if _, err := w.run(); !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "got 2 of 4 answers, 0.500, want at least 0.95") {
		t.Errorf("got %v", err)
	}
	w.o.Config.MinYield = 0.5
	w.want(stepScenes)
	w.want()
}

// TestNamed has settings that name a model of a server that is not there: no other model takes its place.
func TestNamed(t *testing.T) {
	w := newWorld(t)
	w.o.Config.Generator = DefaultConfig().Generator
	w.o.Config.Generator.Model = "qwen3:8b"
	if _, err := w.run(); !errors.Is(err, ErrNotServed) {
		t.Errorf("got %v", err)
	}
	w.o.Config.Generator.Hosts = []string{w.server.URL} // it answers, and has another model
	if _, err := w.run(); err == nil || !strings.Contains(err.Error(), "qwen3:8b") {
		t.Errorf("got %v", err)
	}
	w.o.Config.Generator.Model = "fake"
	w.want(stepGenerator, stepScenes, stepParseScenes, stepDialogues, stepParseDialogues, stepProtective, stepParseProtective)
}

// TestRunRefuses looks at what is wrong before anything is made.
func TestRunRefuses(t *testing.T) {
	w := newWorld(t)
	w.o.Config.Gates = map[string]float64{"magic": 1}
	if _, err := Run(t.Context(), withCard(w)); err == nil || !strings.Contains(err.Error(), "gates.magic") || exists(w.o.Root) {
		t.Errorf("gates: got %v", err)
	}
	w.o.Config.Gates, w.o.Config.Register = nil, "perhaps"
	if _, err := Run(t.Context(), withCard(w)); err == nil || !strings.Contains(err.Error(), `register: got "perhaps"`) {
		t.Errorf("register: got %v", err)
	}
	w.o.Config.Register = "auto"
	if err := os.MkdirAll(w.o.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	w.write("root/"+ManifestName, `{"version": 2}`)
	if _, err := Run(t.Context(), withCard(w)); err == nil || !strings.Contains(err.Error(), "version: got 2, want 1") {
		t.Errorf("manifest: got %v", err)
	}
}

func withCard(w *world) Options {
	card, err := persona.Read(w.o.CardPath)
	if err != nil {
		w.t.Fatal(err)
	}
	w.o.Card = card
	return w.o
}
