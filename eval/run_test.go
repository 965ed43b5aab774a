package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/persona"
)

// TestRun interviews the example's persona, its quantized file and the base.
func TestRun(t *testing.T) {
	o := options(t, personaFile, q4File, baseFile)
	o.Records, o.DataPath = append(someRecords(t, "train"), someRecords(t, "eval")...), "sft.jsonl"
	stages := map[string]bool{}
	o.Progress = func(stage string, _, _ int64) { stages[stage] = true }
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Files) != 3 || len(r.Drift) != 2 || len(stages) != 3 || r.Version != 1 || len(r.CardHash) != 64 || r.Persona != o.Card.Hash() || r.LlamaCpp == "" {
		t.Fatalf("got %d files, %d drifts, stages %v", len(r.Files), len(r.Drift), stages)
	}
	for i, f := range r.Files {
		identity := scoreOf(t, f.Scores, "own_name_identity")
		if base := i == 2; base && identity.Share > 0.1 || !base && identity.Share < 0.8 {
			t.Errorf("%s: own_name_identity: got %d of %d", f.Label, identity.N, identity.Of)
		}
		if len(f.SHA256) != 64 || f.Margin == nil || f.Loss == nil || f.Loss.Records != 3 || len(f.Means) != 3 || len(f.Gates) < 5 {
			t.Errorf("%s: got %+v", f.Label, f)
		}
	}
	if r.Drift[0].Tokens != r.Files[0].Loss.Tokens || r.Drift[0].KLD <= 0 || len(r.Drift[0].Changes) < 20 || r.Drift[1].File != "base.gguf" {
		t.Errorf("got %+v", r.Drift[0])
	}
	if err := r.Passed(); !errors.Is(err, ErrGate) || !strings.Contains(err.Error(), "lost at "+r.LostAt) {
		t.Errorf("got %v, want the base to fail", err)
	}
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{"<h1>Interview of 백설공주</h1>", "own_name_identity", "<svg", "q4_0.gguf", "너는 누구야?", "held-out loss"} {
		if !strings.Contains(text, want) {
			t.Errorf("page: want %s in it", want)
		}
	}
	if n := strings.Count(text, "<svg"); n != 4 {
		t.Errorf("page: got %d plots, want 4", n)
	}
	if found := regexp.MustCompile(`(?i)(?:src|href)\s*=\s*["']?(?:https?:|//)|@import`).FindString(text); found != "" {
		t.Errorf("page: got %s, want nothing from elsewhere", found)
	}
	object, err := json.Marshal(r)
	if err != nil || !bytes.Contains(object, []byte(`"replies":[{"probe":"P01"`)) || bytes.Contains(object, []byte("null")) {
		t.Errorf("JSON: got %v, want all lists in it", err)
	}
}

// TestGates: each gate compares a share with a limit of the card, and the first file that fails is named.
func TestGates(t *testing.T) {
	card := parse(t, ruleCard+"gates: {own_name_identity: 0.9, honorific: 0.95, wrong_persona: 0.1, markdown: 0.5, own_name: 0.9, near_duplicates: 0}\n")
	file := func(label string, identity, wrong int) FileReport {
		f := FileReport{Label: label, Scores: []Score{
			{Name: "own_name_identity", N: identity, Of: 10, AtLeast: true}, {Name: "honorific", N: 100, Of: 100, AtLeast: true},
			{Name: "wrong_persona", N: wrong, Of: 10}, {Name: "markdown", N: 1, Of: 2}, {Name: "user_address", Of: 4},
		}}
		for i := range f.Scores {
			f.Scores[i].finish()
		}
		return f
	}
	r := &run{Options: Options{Card: card}, report: &Report{Files: []FileReport{file("f16", 9, 1), file("q8_0", 8, 1), file("q4_0", 0, 2)}}}
	r.gates()
	if r.report.LostAt != "q8_0" {
		t.Errorf("lost at: got %q, want q8_0", r.report.LostAt)
	}
	var names, failed []string
	for _, g := range r.report.Files[2].Gates {
		names = append(names, g.Name)
		if !g.OK {
			failed = append(failed, g.Name)
		}
	}
	if want := []string{"own_name_identity", "wrong_persona", "user_address", "honorific", "markdown"}; !slices.Equal(names, want) {
		t.Errorf("gates: got %v, want %v: those on data alone are left out", names, want)
	}
	if !slices.Equal(failed, []string{"own_name_identity", "wrong_persona"}) {
		t.Errorf("failed: got %v", failed)
	}
	err := r.report.Passed()
	if !errors.Is(err, ErrGate) || !strings.Contains(err.Error(), "lost at q8_0: own_name_identity: got 0.8, want at least 0.9") {
		t.Errorf("got %v", err)
	}
	r.report.Files = r.report.Files[:1]
	if err := r.report.Passed(); err != nil {
		t.Errorf("got %v, want it passed", err)
	}
}

func TestBadRuns(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.gguf")
	if err := os.WriteFile(text, []byte("no model"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec, err := testmodel.Find("llama-spm")
	if err != nil {
		t.Fatal(err)
	}
	if err := testmodel.Write(filepath.Join(dir, "hf"), spec); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain.gguf") // a vocabulary without <|im_end|>
	if err := convertTo(plain, filepath.Join(dir, "hf"), "f16", nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"nothing":      {func(o *Options) { o.Models = nil }, "got no model"},
		"no file":      {func(o *Options) { o.Models = []string{filepath.Join(dir, "none.gguf")} }, "none.gguf"},
		"no model":     {func(o *Options) { o.Models = []string{text} }, "text.gguf"},
		"no end token": {func(o *Options) { o.Models = []string{plain} }, "end token: format chatml: got no control token <|im_end|>"},
		"no base":      {func(o *Options) { o.Base = filepath.Join(dir, "none.gguf") }, "base"},
		"no held-out":  {func(o *Options) { o.Records = someRecords(t, "train") }, "no held-out record"},
		"no card file": {func(o *Options) { o.CardPath = filepath.Join(dir, "none.yaml") }, "none.yaml"},
		"no server": {func(o *Options) {
			o.Models, o.Through = nil, "x"
			o.Server = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
		}, "no answer from the Ollama server"},
	} {
		o := options(t, personaFile)
		c.change(&o)
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, personaFile)
	o.Progress = func(_ string, done, _ int64) {
		if done == 3 {
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// server starts a server that answers.
func server(t *testing.T, answer func(c *fakellm.Call) fakellm.Answer) (*fakellm.Server, *url.URL) {
	t.Helper()
	s := &fakellm.Server{Models: []string{"snow_white", "judge"}, Answer: answer}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return s, u
}

// TestThrough interviews a server's model: messages, and of the options only temperature and seed, are sent.
func TestThrough(t *testing.T) {
	o := options(t)
	var s *fakellm.Server
	s, o.Server = server(t, func(c *fakellm.Call) fakellm.Answer {
		a := fakellm.Answer{Content: "저는 백설공주예요."}
		if c.Prompt == "저는 학생입니다" {
			a.DoneReason = "length"
		}
		return a
	})
	o.Through = "snow_white"
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f := r.Files[0]
	if f.Label != "ollama:snow_white" || f.Through != "ollama "+s.URL || f.Margin != nil {
		t.Errorf("got %s, %s", f.Label, f.Through)
	}
	if x := scoreOf(t, f.Scores, "own_name_identity"); x.N != x.Of || x.Of != 33 {
		t.Errorf("got %+v", x)
	}
	if x := scoreOf(t, f.Scores, "truncated"); x.N != 1 || x.Failures[0].Probe != "P16" {
		t.Errorf("got %+v", x)
	}
	turns := map[int]int{}
	for _, body := range s.Bodies() {
		var q struct {
			Model    string
			Messages []struct{ Role, Content string }
			Options  map[string]any
			Stream   *bool
		}
		if err := json.Unmarshal(body, &q); err != nil {
			t.Fatal(err)
		}
		turns[len(q.Messages)]++
		_, cold := q.Options["temperature"]
		most := 1
		if cold {
			most = 3
		}
		seed, _ := q.Options["seed"].(float64)
		if q.Model != "snow_white" || len(q.Messages)%2 != 1 || q.Messages[0].Role != "user" || cold != (seed == 0) || cold != (q.Options["repeat_penalty"] == 1.0) || len(q.Options) != most || q.Stream == nil || *q.Stream {
			t.Fatalf("got %s", body)
		}
		if len(q.Messages) > 1 && (q.Messages[1].Role != "assistant" || q.Messages[1].Content != "저는 백설공주예요.") {
			t.Fatalf("got %s", body)
		}
	}
	if turns[9] != 50 {
		t.Errorf("got %v messages, want 50 conversations of five turns", turns)
	}
	o.Through = "nobody"
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("no such model: got %v", err)
	}
}

// TestJudge: the judge scores 6, but not every time, and prefers one actor in both orders, but for what it always
// calls A.
func TestJudge(t *testing.T) {
	var prompts []string
	s, u := server(t, func(c *fakellm.Call) fakellm.Answer {
		switch {
		case strings.Contains(string(c.Schema), `"better"`):
			a, _, _ := strings.Cut(c.Prompt, "\nB:\n")
			if strings.Contains(c.Prompt, "Values:") || strings.Contains(a, "숲의 답") {
				return fakellm.Answer{Content: `{"reason": "r", "better": "A"}`}
			}
			return fakellm.Answer{Content: `{"reason": "r", "better": "B"}`}
		case strings.Contains(c.Prompt, "Avoiding hallucination"):
			return fakellm.Answer{Content: `{"reason": "between 1-7", "score": "1-7"}`}
		}
		return fakellm.Answer{Content: `{"reason": "r", "score": "6"}`}
	})
	o := options(t)
	o.Server, o.Judge = u, "judge"
	profile, err := persona.ParseProfile("백설공주\n\n난쟁이들과 숲에서 살았다.\n\n바다 이야기.")
	if err != nil {
		t.Fatal(err)
	}
	o.Profile = profile
	r := &run{Options: o}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"숲의 답이에요.", "바다의 답이에요."} {
		f := FileReport{Label: text}
		for i := range r.probes {
			for k, q := range r.probes[i].Turns {
				f.Replies = append(f.Replies, Reply{Probe: r.probes[i].ID, Turn: k + 1, Question: q, Text: text})
			}
		}
		r.report.Files = append(r.report.Files, f)
	}
	if err := r.judge(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range r.report.Files[1].Judged.Dimensions {
		unscored := d.Name == "hallucination"
		if unscored != (d.Unscored > 0) || unscored != (d.Score.Count == 0) || !unscored && d.Score.Mean != 6 {
			t.Errorf("got %+v", d)
		}
	}
	p := r.report.Pairs
	if p.Wins != 0 || p.FirstWins == 0 || p.FirstWins != p.Agreement.N || p.Agreement.Of-p.Agreement.N != 8 || p.Unscored != 0 {
		t.Errorf("got %+v, want the first to win but for the 8 pairs about values", p)
	}
	for _, body := range s.Bodies() {
		var q struct{ Messages []struct{ Content string } }
		if err := json.Unmarshal(body, &q); err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, q.Messages[1].Content)
	}
	fact := slices.IndexFunc(prompts, func(p string) bool {
		return strings.Contains(p, "- 누구와 살았어요? 난쟁이 (wrong: 왕자와 살)") && strings.Contains(p, "숲의 답이에요.")
	})
	if fact < 0 || !strings.Contains(prompts[fact], "당신은 백설공주입니다.") {
		t.Errorf("got no question with the fact that belongs to it, the persona and the reply")
	}
	if !slices.ContainsFunc(prompts, func(p string) bool {
		return strings.Contains(p, "- 난쟁이들과 숲에서 살았다.") && !strings.Contains(p, "바다 이야기")
	}) {
		t.Errorf("got no question with the paragraph that belongs to it alone")
	}
}
