package sft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

const card = "version: 1\nid: snow_white\nname: 백설공주\naliases: [백설공스]\ncast: [{name: 난쟁이}]\npersona: 당신은 백설공주입니다.\n"

type item struct {
	Background string     `json:"background"`
	Dialogue   []raw.Turn `json:"dialogue"`
	Source     string     `json:"source"`
	Scene      string     `json:"scene,omitempty"`
	Type       string     `json:"type,omitempty"`
}

// answers that share no 5 letters.
var answers = []string{"수프를 끓였어요.", "장작을 날랐답니다.", "빨래를 널고 왔어요.", "새들에게 모이를 줬지요.", "바느질을 하고 있었어요.", "우물에서 물을 길었어요.", "꽃밭을 돌봤답니다.", "빵 반죽을 했어요.", "노래를 불렀어요.", "창문을 닦았습니다."}

func makeItem(i int, scene string) item {
	return item{"아침이다.", []raw.Turn{
		{Role: "사용자", Action: "말하기", Content: fmt.Sprintf("%d번 질문이에요, 뭘 했어요?", i)}, {Role: "백설공주", Action: "생각", Content: "음."}, {Role: "백설공스", Action: "말하기", Content: answers[i%10] + " " + answers[(i/10+i)%10]},
	}, fmt.Sprintf("seed_dialogue_%d", i), scene, "일상"}
}

func setup(t *testing.T, items []item) (Options, string) {
	t.Helper()
	c, err := persona.Parse([]byte(card), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	o.Card, o.Root, o.Now = c, t.TempDir(), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	data, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Root, "processed", "2025-12-10", "generated_agent_dialogue_snow_white-korean.json")
	put(t, path, string(data))
	return o, path
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestPrepare(t *testing.T) {
	var items []item
	for i := range 10 {
		items = append(items, makeItem(i, fmt.Sprintf("scene_%d", i/2)))
	}
	again := items[3]
	again.Source = "seed_dialogue_again"
	leak := makeItem(64, "scene_x")
	leak.Dialogue[2].Content = "네 <tool_call> 그래요."
	double := makeItem(57, "scene_y")
	double.Source = "seed_dialogue_1"
	items = append(items, again, double, leak)
	o, _ := setup(t, items)
	o.EvalShare = 0.2
	protective, err := json.Marshal([]item{{"방이다.", []raw.Turn{{Role: "사용자", Action: "생각", Content: "스마트폰은 뭘 써요?"}, {Role: "백설공주", Action: "생각", Content: "처음 듣는 말이에요."}}, "seed_dialogue_0", "", ""}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(o.Root, "processed", "2025-12-09", "generated_agent_hallucination_snow_white-korean.json"), string(protective))
	r, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Items != 14 || r.Records != 12 || r.Codes[CodeControlText] != 1 || r.Codes[CodeNearDuplicate] != 1 || r.Kinds["protective"] != 1 || r.Scenes != 7 || r.EvalScene != 2 ||
		r.Notes["source_of_several"] != 2 || len(r.Repeated) != 1 || r.Repeated[0] != (SceneRepeats{"scene_1", 3, 1}) {
		t.Errorf("got %+v", r)
	}
	if want := filepath.Join(o.Root, "processed", "2025-12-10", "prompted", "prompted_agent_dialogue_snow_white.jsonl"); r.Output != want {
		t.Errorf("got %s, want %s", r.Output, want)
	}
	records, found, err := persona.ReadRecords(r.Output, persona.ReadOptions{Strict: true})
	if err != nil || len(found.Warnings) != 0 || len(records) != 12 {
		t.Fatalf("got %d records, %v, %v", len(records), found, err)
	}
	splits, sources := map[string]string{}, map[string]bool{}
	for _, rec := range records {
		if before, ok := splits[rec.Scene]; ok && before != rec.Split || sources[rec.Source] {
			t.Errorf("scene %s: got it in both splits, or source %s twice", rec.Scene, rec.Source)
		}
		splits[rec.Scene], sources[rec.Source] = rec.Split, true
		if strings.Contains(rec.Output, "음.") || len(rec.Spans) != 1 || rec.End != "<|im_end|>" || !strings.HasSuffix(rec.Learned()[0], rec.End) {
			t.Errorf("got %+v", rec)
		}
	}
	if !strings.Contains(r.Sample, "⟦수프를 끓였어요. 수프를 끓였어요.<|im_end|>⟧") {
		t.Errorf("got sample %q", r.Sample)
	}
	if _, err := os.Stat(strings.TrimSuffix(r.Output, ".jsonl") + ".report.json"); err != nil {
		t.Error(err)
	}
}

// TestSplitStays wants more data to move no scene from one split to the other while the number held out is the same.
func TestSplitStays(t *testing.T) {
	split := func(n int) map[string]string {
		var items []item
		for i := range n {
			items = append(items, makeItem(i, fmt.Sprintf("scene_%d", i)))
		}
		o, _ := setup(t, items)
		o.Threshold, o.EvalShare = 0, 0.1
		r, err := Prepare(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		records, _, err := persona.ReadRecords(r.Output, persona.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, rec := range records {
			out[rec.Scene] = rec.Split
		}
		return out
	}
	few, more := split(15), split(20)
	moved := 0
	for scene, s := range few {
		if s == "train" && more[scene] == "eval" {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d scenes went from train to eval", moved)
	}
}

func TestPrepareErrors(t *testing.T) {
	o, path := setup(t, []item{makeItem(1, "")})
	o.Format = "x"
	if _, err := Prepare(context.Background(), o); err == nil || !strings.Contains(err.Error(), "format") {
		t.Errorf("got %v", err)
	}
	o.Format, o.Thoughts = "", true
	if _, err := Prepare(context.Background(), o); err == nil || !strings.Contains(err.Error(), "thoughts") {
		t.Errorf("got %v", err)
	}
	o.Thoughts = false
	put(t, path, `[{"dialogue": [{"role": "사용자", "content": "네"}]}, {x}]`)
	if r, err := Prepare(context.Background(), o); !errors.Is(err, ErrNothing) || r.Codes["too_few_turns"] != 1 || r.Codes["damaged"] != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	o.Root = t.TempDir()
	if _, err := Prepare(context.Background(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	o.Files = []string{filepath.Join(o.Root, "none.json")}
	if _, err := Prepare(context.Background(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestTokens counts with the tokenizer of the example, from its folder.
func TestTokens(t *testing.T) {
	o, _ := setup(t, []item{makeItem(1, ""), makeItem(2, ""), makeItem(23, "")})
	var err error
	if o.Model, err = OpenTokenizer(context.Background(), filepath.Join("..", "..", "examples", "snow_white", "base")); err != nil {
		t.Fatal(err)
	}
	defer o.Model.Close()
	for choice, want := range map[string]string{"auto": "as the model's template does", "model": "as the model's template does", "own": "in the plain form"} {
		o.End, o.Template = "", nil
		note, err := o.ChooseTemplate(choice)
		if err != nil || !strings.Contains(note, want) || o.End != "<|im_end|>" || o.Template != nil {
			t.Errorf("%s: got %q, %q, %v", choice, note, o.End, err)
		}
	}
	o.MaxLength = 20
	r, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	n := r.Tokens
	if n.Total < 60 || n.Learned < 10 || n.Learned >= n.Total || n.TooLong != 3 || len(n.IDs) != 3 || n.Longest*3 < n.Total || n.Mean*3 != float64(n.Total) {
		t.Errorf("got %+v", n)
	}
	records, _, err := persona.ReadRecords(r.Output, persona.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	counts, err := o.Model.Count(context.Background(), records, 2)
	if err != nil || len(counts) != 3 || counts[0]+counts[1]+counts[2] != n.Total {
		t.Errorf("got %v, %v, want %d in all", counts, err, n.Total)
	}
	o.End = "<|nobody|>"
	if _, err := Prepare(context.Background(), o); !errors.Is(err, ErrEnd) {
		t.Errorf("an end that is no token: got %v", err)
	}
	o.Format = persona.TrainableAgents
	if note, err := o.ChooseTemplate("auto"); err != nil || !strings.Contains(note, "no use") {
		t.Errorf("got %q, %v", note, err)
	}
	if _, err := OpenTokenizer(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := OpenTokenizer(context.Background(), t.TempDir()); err == nil {
		t.Error("an empty folder: got no error")
	}
}
