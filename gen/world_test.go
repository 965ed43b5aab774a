package gen

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/persona"
)

const card = `version: 1
id: snow_white
name: 백설공주
cast: [{name: 난쟁이, aliases: [난쟁이들]}]
profile: profile.txt
persona: 당신은 백설공주입니다.
scenes_per_paragraph: 7
dialogues_per_scene: 4
shares: {identity: 0.1, protective: 0.1}
protective_topics: [스마트폰, 파이썬]
`

// world is a root with a card, a profile of three paragraphs and parsed scenes of it, and a server.
type world struct {
	root   string
	server *fakellm.Server
	log    *[]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	noLeaks(t)
	w := &world{root: t.TempDir(), server: &fakellm.Server{}, log: &[]string{}}
	w.write(t, "card.yaml", card)
	w.write(t, "profile.txt", "백설공주\n\n숲 속 작은 집에서 일곱 난쟁이와 살았어요.\n\n왕비는 거울에게 물었어요.\n\n사냥꾼은 아이를 놓아주었어요.\n")
	var scenes []map[string]string
	for i := range 6 {
		scenes = append(scenes, map[string]string{
			"type": "일상", "location": fmt.Sprint("방 ", i), "background": fmt.Sprint("아침이에요 ", i), "source": fmt.Sprintf("seed_scene_x_c%d", i+1), "profile": "숲 속",
		})
	}
	w.write(t, "scenes.json", mustJSON(scenes))
	return w
}

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.root, name), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func (w *world) start(t *testing.T) {
	t.Helper()
	if err := w.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Close)
}

// noLeaks wants no goroutine of the test to be left at its end.
func noLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				var b strings.Builder
				_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
				t.Errorf("goroutines: got %d, want %d\n%s", runtime.NumGoroutine(), before, b.String())
				return
			}
		}
	})
}

func (w *world) options(t *testing.T, kind prompt.Kind) Options {
	t.Helper()
	o := DefaultOptions()
	o.Root, o.Kind, o.Model = w.root, kind, "fake"
	o.CardPath = filepath.Join(w.root, "card.yaml")
	o.Profile, o.Scenes = filepath.Join(w.root, "profile.txt"), filepath.Join(w.root, "scenes.json")
	var err error
	if o.Card, err = persona.Read(o.CardPath); err != nil {
		t.Fatal(err)
	}
	if o.Template, err = prompt.Builtin(kind, "korean"); err != nil {
		t.Fatal(err)
	}
	o.Backoff, o.WaitServer = time.Millisecond, 10*time.Second
	var mu sync.Mutex
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		*w.log = append(*w.log, s)
	}
	o.Info, o.Warn = note, note
	o.Now = func() time.Time { return time.Date(2025, 12, 10, 23, 59, 0, 0, time.UTC) }
	if w.server.URL != "" {
		o.Engines = []Engine{w.ollama(t, w.server.URL)}
	}
	return o
}

func (w *world) ollama(t *testing.T, url string) Engine {
	t.Helper()
	e, err := engine.NewOllama(url, "fake", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func (w *world) rows(t *testing.T, day string) (out []*journal.Row) {
	t.Helper()
	path := filepath.Join(w.root, "result", day, journal.Name)
	if err := journal.Read(path, 0, func(_ int64, r *journal.Row) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// keys gives the sorted keys with a success, each as often as it has one.
func keys(rows []*journal.Row) (out []string) {
	for _, r := range rows {
		if r.OK() {
			out = append(out, r.Key)
		}
	}
	slices.Sort(out)
	return out
}

func planned(t *testing.T, o Options) (out []string) {
	t.Helper()
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(&o)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range p.jobs {
		out = append(out, j.key)
	}
	slices.Sort(out)
	return out
}

func mustRun(t *testing.T, o Options) *Report {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func lines(t *testing.T, path string) (out []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		var row map[string]any
		if err := json.Unmarshal([]byte(l), &row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustOllama(t *testing.T, url, model string) Engine {
	t.Helper()
	e, err := engine.NewOllama(url, model, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
