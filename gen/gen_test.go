package gen

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/persona"
)

func TestScenes(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	o := w.options(t, prompt.Scene)
	report := mustRun(t, o)
	if report.Jobs != 21 || report.Done != 21 || report.Open != 0 || report.BackgroundMin == 0 {
		t.Errorf("got %+v", report)
	}
	if got, want := keys(w.rows(t, "2025-12-10")), planned(t, o); !slices.Equal(got, want) {
		t.Errorf("keys: got %d, want those of the plan", len(got))
	}
	if want := filepath.Join(w.root, "result", "2025-12-10", "gen_scene", "scene_fake-temp-0.7-char-snow_white-korean.jsonl"); report.Output != want {
		t.Errorf("output: got %s, want %s", report.Output, want)
	}
	rows := lines(t, report.Output)
	if len(rows) != 3 {
		t.Fatalf("got %d rows, want one for each paragraph", len(rows))
	}
	for _, row := range rows {
		id, text := row["gen_answer_id"].(string), row["completions"].(string)
		if len(id) != 16 || strings.Count(text, "장면 ") != 7 || strings.Count(text, "배경: ") != 7 || row["check_result"] != true || !strings.Contains(row["prompt"].(string), row["profile"].(string)) {
			t.Errorf("got %v", row)
		}
	}
	if n, _ := w.server.Calls(); n != 7 { // one to measure; 7 scenes of 3 paragraphs in calls for 5 and 2
		t.Errorf("calls: got %d, want 7", n)
	}
	// Again: nothing is asked, and the file is the same.
	before, err := os.ReadFile(report.Output)
	if err != nil {
		t.Fatal(err)
	}
	w.server.Close()
	if report := mustRun(t, o); report.Fresh != 0 || report.Done != 21 {
		t.Errorf("again: got %+v", report)
	}
	if after, err := os.ReadFile(report.Output); err != nil || string(after) != string(before) {
		t.Error("again: the file changed")
	}
}

func TestDialogues(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Parallel = 1
	o.Card.Shares = persona.Shares{Identity: 0.25, Protective: 0.25}
	report := mustRun(t, o)
	if report.Done != 24 || report.Kinds["identity"] < 3 || report.Kinds["protective"] < 3 || report.Kinds["dialogue"] < 9 {
		t.Errorf("got %+v", report)
	}
	rows := lines(t, report.Output)
	if len(rows) != 24 {
		t.Fatalf("got %d rows, want 24", len(rows))
	}
	told := 0
	for _, row := range rows {
		scene := row["scene_data"].(map[string]any)
		text := row["prompt"].(string)
		if row["scene_source"] == "" || scene["location"] == "" || scene["type"] != "일상" || row["options"] == nil || row["done_reason"] != "stop" || row["created_at"] == nil {
			t.Errorf("got %v", row)
		}
		if !strings.Contains(text, fmt.Sprintf("현재는 %v번째 대화입니다", row["ordinal"])) {
			t.Errorf("prompt without its number: %s", text)
		}
		switch row["kind"] {
		case "identity":
			if !strings.Contains(text, "너는 누구야?") && !strings.Contains(text, "당신의 이름이 뭐예요?") {
				t.Errorf("identity: got %s", text)
			}
		case "protective":
			if !strings.Contains(text, "스마트폰") && !strings.Contains(text, "파이썬") {
				t.Errorf("protective: got %s", text)
			}
		}
		if strings.Contains(text, "이미 나온 말: ") {
			told++
		}
	}
	if told != 18 { // all but the first of each scene
		t.Errorf("told of the others: got %d, want 18", told)
	}
}

func TestProtective(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	report := mustRun(t, w.options(t, prompt.Protective))
	if report.Done != 3 || !strings.Contains(report.Output, "gen_hallucination") {
		t.Errorf("got %+v", report)
	}
	for _, row := range lines(t, report.Output) {
		if row["kind"] != "protective" || row["profile"] == "" || row["scene_data"] != nil {
			t.Errorf("got %v", row)
		}
	}
	o := w.options(t, prompt.Protective)
	o.Card.ProtectiveTopics = nil
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "protective_topics: got none") {
		t.Errorf("no topics: got %v", err)
	}
}

// TestKeys wants keys that do not depend on what is around a job.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	base := planned(t, w.options(t, prompt.Scene))
	subset := func(name string, want int, change func(o *Options)) {
		t.Helper()
		o := w.options(t, prompt.Scene)
		change(&o)
		have := map[string]bool{}
		for _, k := range planned(t, o) {
			have[k] = true
		}
		n := 0
		for _, k := range base {
			if have[k] {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: got %d of %d keys kept, want %d", name, n, len(base), want)
		}
	}
	subset("more scenes", 21, func(o *Options) { o.Count = 9 })
	subset("fewer scenes", 15, func(o *Options) { o.Count = 5 })
	subset("other day, host, batch, tries", 21, func(o *Options) {
		o.Now, o.Engines, o.Batch, o.Tries, o.Parallel, o.Timeout = time.Now, nil, 3, 9, 7, time.Hour
	})
	subset("shares", 21, func(o *Options) { o.Card.Shares = persona.Shares{} })
	subset("temperature", 0, func(o *Options) { o.Sampling.Temperature = 1 })
	subset("seed", 0, func(o *Options) { o.Sampling.Seed = 7 })
	subset("model", 0, func(o *Options) { o.Model = "other" })
	subset("format", 0, func(o *Options) { o.Format = Text })
	subset("name", 0, func(o *Options) { o.Card.Name = "인어공주" })
	w.write(t, "profile.txt", "백설공주\n\n왕비는 거울에게\n물었어요.\n\n새 문단이에요.\n\n숲 속 작은 집에서 일곱 난쟁이와 살았어요.\n")
	subset("profile with one paragraph changed, others moved", 14, func(*Options) {})
	seen := map[string]bool{}
	for _, k := range base {
		if seen[k] || len(k) != 32 {
			t.Errorf("key %s: got it twice, or not 128 bits", k)
		}
		seen[k] = true
	}
}

// TestShares plans many dialogues, and wants the card's shares within half a percent, wherever scenes are added.
func TestShares(t *testing.T) {
	w := newWorld(t)
	var scenes []map[string]string
	for i := range 500 {
		scenes = append(scenes, map[string]string{"type": "일상", "location": "방", "background": fmt.Sprint("아침이에요 ", i)})
	}
	w.write(t, "scenes.json", mustJSON(scenes))
	o := w.options(t, prompt.Dialogue)
	o.Count = 20
	o.Card.Shares = persona.Shares{Identity: 0.05, Protective: 0.08}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(&o)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, j := range p.jobs {
		n[j.kind]++
	}
	if identity, protective := float64(n["identity"])/10_000, float64(n["protective"])/10_000; identity < 0.045 || identity > 0.055 || protective < 0.075 || protective > 0.085 {
		t.Errorf("got %v", n)
	}
}
