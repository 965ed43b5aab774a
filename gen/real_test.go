package gen

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/internal/ollama"
	"github.com/persona-gguf/persona-gguf/persona"
)

// real starts a real server with the example's base on it, as the model "fake", which works on parallel calls at the
// same time.
func real(t *testing.T, env ...string) *ollama.Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "base.gguf")
	plan, err := convert.NewPlan(t.Context(), "../examples/snow_white/base", convert.Options{OutFile: file, OutType: "q8_0"})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if _, err := plan.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := ollama.ForTest(t, env...)
	if err := s.Add(t.Context(), "fake", file, ollama.ChatML); err != nil {
		t.Fatal(err)
	}
	return s
}

// small makes jobs that a tiny model is through with in a second; what it says need make no sense.
func small(o Options) Options {
	o.Count, o.MaxChars, o.MaxTurns, o.Sampling.NumPredict, o.Tries, o.Similarity = 3, 12, 3, 400, 12, 0
	o.Backoff, o.Card.Shares = 50*time.Millisecond, persona.Shares{} // so few letters have no room for a name
	return o
}

// tries counts the reasons of all tries that were in vain.
func tries(rows []*journal.Row) map[string]int {
	out := map[string]int{}
	for _, r := range rows {
		for _, try := range r.Tries {
			out[try.Reason]++
		}
	}
	return out
}

// TestReal makes scenes and dialogues with a real server that works on one call at a time, and on four: every answer
// is of the schema, which the server has to keep the model to.
func TestReal(t *testing.T) {
	for _, parallel := range []string{"1", "4"} {
		t.Run(parallel, func(t *testing.T) {
			w := newWorld(t)
			s := real(t, "OLLAMA_NUM_PARALLEL="+parallel)
			for _, kind := range []prompt.Kind{prompt.Scene, prompt.Dialogue} {
				o := small(w.options(t, kind))
				o.Engines = []Engine{w.ollama(t, s.URL.String())}
				report := mustRun(t, o)
				if report.Open > 0 || report.Done != report.Jobs || report.NumCtx == 0 || report.EvalTokens == 0 {
					t.Errorf("%s: got %+v", kind, report)
				}
			}
			o := small(w.options(t, prompt.Dialogue))
			for _, r := range w.rows(t, "2025-12-10") {
				if r.PromptTokens == 0 || r.Tokens == 0 || r.DoneReason == "" || !json.Valid([]byte(r.Answer)) {
					t.Errorf("row: got %+v, want counts, a reason and JSON", r)
				}
				if reasons := tries([]*journal.Row{r}); reasons["schema"]+reasons["unknown_speaker"] > 0 {
					t.Errorf("row: got %v, want answers of the schema", reasons)
				}
				if d, whole := decodeDialogue(r.Answer); r.Kind != sceneKind && (!whole || len(d.Turns) < 2 || len(d.Turns) > 3 || !slices.Contains(castNames(o.Card), d.Turns[0].Role)) {
					t.Errorf("dialogue: got %s", r.Answer)
				}
			}
		})
	}
}

// TestRealFaults puts the proxy in front of the real server: no record is lost, none is there twice.
func TestRealFaults(t *testing.T) {
	w := newWorld(t)
	s := real(t, "OLLAMA_NUM_PARALLEL=4")
	p := &fakellm.Proxy{Target: s.URL.String(), Share: 0.1, Seed: 3}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	o := small(w.options(t, prompt.Dialogue))
	o.Engines = []Engine{w.ollama(t, p.URL)}
	o.Count, o.Timeout, o.ServerTries, o.Parallel = 8, 10*time.Second, 10, 4
	mustRun(t, o)
	rows := w.rows(t, "2025-12-10")
	if got, want := keys(rows), planned(t, o); !slices.Equal(got, want) || len(rows) != 48 {
		t.Errorf("got %d keys in %d rows, want the %d of the plan", len(got), len(rows), len(want))
	}
	made := 0
	for _, n := range p.Made() {
		made += n
	}
	if reasons := tries(rows); made == 0 || reasons["server_error"]+reasons["timeout"] == 0 {
		t.Errorf("got %d faults, tries %v, want some of both", made, reasons)
	}
}

// TestRealKilled kills the real server in the middle, and starts it again at its place: the run waits for it.
func TestRealKilled(t *testing.T) {
	w := newWorld(t)
	s := real(t, "OLLAMA_NUM_PARALLEL=4")
	o := small(w.options(t, prompt.Dialogue))
	o.Engines = []Engine{w.ollama(t, s.URL.String())}
	o.Count, o.WaitServer, o.ServerTries = 5, 2*time.Minute, 20
	var once sync.Once
	o.Progress = func(p Progress) {
		if p.Done < 8 {
			return
		}
		once.Do(func() {
			s.Kill()
			program, err := ollama.Build(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			again, err := ollama.Start(t.Context(), program, s.Dir, "OLLAMA_HOST="+s.URL.Host, "OLLAMA_NUM_PARALLEL=4")
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(again.Stop)
		})
	}
	report := mustRun(t, o)
	rows := w.rows(t, "2025-12-10")
	if got, want := keys(rows), planned(t, o); report.Done != 30 || !slices.Equal(got, want) {
		t.Errorf("got %d keys of %d", len(got), len(want))
	}
	http.DefaultClient.CloseIdleConnections() // the api package's; they would count as goroutines left
}

// TestRealErrors has a model that the server lacks, and a context that is longer than the model's.
func TestRealErrors(t *testing.T) {
	w := newWorld(t)
	s := real(t)
	o := small(w.options(t, prompt.Dialogue))
	e, err := engine.NewOllama(s.URL.String(), "other", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	o.Engines = []Engine{e}
	if _, err := Run(t.Context(), o); !errors.Is(err, engine.ErrModel) {
		t.Errorf("no such model: got %v", err)
	}
	o.Engines = []Engine{w.ollama(t, s.URL.String())}
	o.Sampling.NumCtx = 1 << 20
	if _, err := Run(t.Context(), o); !errors.Is(err, engine.ErrContext) {
		t.Errorf("num_ctx: got %v", err)
	}
	o.Sampling.NumCtx, o.Sampling.NumPredict = 0, 1<<20
	if _, err := Run(t.Context(), o); !errors.Is(err, engine.ErrContext) {
		t.Errorf("num_predict: got %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}
