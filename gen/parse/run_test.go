package parse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/persona"
)

// tree is a root with raw files.
type tree struct {
	t    *testing.T
	root string
	o    Options
}

func newTree(t *testing.T) *tree {
	card, err := persona.Parse([]byte(testCard), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := &tree{t: t, root: t.TempDir()}
	r.o = Options{Card: card, Root: r.root, Now: time.Date(2026, 1, 2, 23, 59, 0, 0, time.UTC)}
	return r
}

func (r *tree) put(text string, parts ...string) string {
	r.t.Helper()
	path := filepath.Join(append([]string{r.root}, parts...)...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *tree) items(path string) (out []Item) {
	r.t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// rawRow is a dialogue row with a text of its own.
func rawRow(id, said, more string) string {
	text, _ := json.Marshal(padding + u + w + "\n\n사용자: " + said)
	return fmt.Sprintf(`{"gen_answer_id": %q, "prompt": "현재는 3번째 대화입니다", "completions": %s, "check_result": true, "scene_data": {"type": "일상", "location": "부엌", "background": "아침"}%s}`+"\n", id, text, more)
}

const dialogueFile = "dialogue_m:2b-temp-0.7-char-snow_white-korean.jsonl"

func TestDialogues(t *testing.T) {
	r := newTree(t)
	scenes := `[{"type": "일상", "location": "부엌", "background": "아침", "source": "seed_scene_aa_c1", "profile": ""}]`
	r.put(scenes, "processed", "2026-01-01", "generated_agent_scene_snow_white-korean.json")
	failed := strings.Replace(rawRow("04", "사", ""), `"check_result": true`, `"check_result": false`, 1)
	first := rawRow("01", "가", "") + rawRow("02", "나", "") + failed + rawRow("01", "가", "") + rawRow("01", "다", "") + `{"gen_answer_id": "05", "completions": ""}` + "\n{x}\n" + rawRow("06", "바", "")[:80]
	path := r.put(first, "result", "2025-12-10", "gen_dialogue", dialogueFile)
	r.put(rawRow("04", "사", `, "kind": "dialogue"`)+rawRow("07", "아", `, "scene_source": "seed_scene_bb_c2", "ordinal": 9, "kind": "identity"`), "result", "2025-12-11", "gen_dialogue", dialogueFile)
	var warnings []string
	r.o.Warn = func(s string) { warnings = append(warnings, s) }
	report, err := Dialogues(context.Background(), r.o)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(r.root, "processed", "2026-01-02", "generated_agent_dialogue_snow_white-korean.json"); report.Output != want {
		t.Errorf("got %s, want %s", report.Output, want)
	}
	var sources []string
	for _, item := range r.items(report.Output) {
		sources = append(sources, item.Source+"/"+item.Scene+"/"+item.Kind+fmt.Sprint(item.Ordinal))
		if item.Location != "부엌" || item.Type != "일상" || len(item.Dialogue) != 3 {
			t.Errorf("got %+v", item)
		}
	}
	if want := []string{"seed_dialogue_01/seed_scene_aa_c1/3", "seed_dialogue_02/seed_scene_aa_c1/3", "seed_dialogue_01-2/seed_scene_aa_c1/3",
		"seed_dialogue_04/seed_scene_aa_c1/3", "seed_dialogue_07/seed_scene_bb_c2/identity9"}; !slices.Equal(sources, want) {
		t.Errorf("got %q, want %q", sources, want)
	}
	if codes := fmt.Sprint(report.Codes); codes != "map[check_failed:1 damaged:2 duplicate:1 empty:1]" || report.Kept != 5 || report.Of != 7 || report.Rows != 9 || report.Turns != 15 {
		t.Errorf("got %s, %+v", codes, report)
	}
	if d := report.Dropped[0]; d.File != path || d.Row != 3 || d.Code != CodeCheckFailed {
		t.Errorf("got %+v", report.Dropped)
	}
	if len(warnings) != 1 || len(report.Sources) != 2 || report.Sources[0].Damaged != 1 || len(report.Sources[0].SHA256) != 64 {
		t.Errorf("got %q, %+v", warnings, report.Sources)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != first {
		t.Error("the raw file has changed")
	}
	var again Report
	data, err := os.ReadFile(strings.TrimSuffix(report.Output, ".json") + ".report.json")
	if err != nil || json.Unmarshal(data, &again) != nil || again.Kept != 5 || len(again.Dropped) != len(report.Dropped) {
		t.Errorf("report: got %s, %v", data, err)
	}
}

func TestYield(t *testing.T) {
	r := newTree(t)
	r.put(rawRow("01", "가", "")+`{"gen_answer_id": "02", "completions": ""}`, "result", "2025-12-10", "gen_dialogue", dialogueFile)
	r.o.MinYield = 0.51
	report, err := Dialogues(context.Background(), r.o)
	if !errors.Is(err, ErrYield) || report == nil || report.Yield != 0.5 {
		t.Errorf("got %+v, %v", report, err)
	}
	if _, err := os.Stat(filepath.Join(r.root, "processed")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want nothing written", err)
	}
	r.o.MinYield = 0.5
	if _, err := Dialogues(context.Background(), r.o); err != nil {
		t.Error(err)
	}
	r.o.Files = []string{r.put(`{"completions": ""}`, "x.jsonl")}
	if _, err := Dialogues(context.Background(), r.o); !errors.Is(err, ErrNothing) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dialogues(ctx, r.o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.o.Files = []string{filepath.Join(r.root, "none.jsonl")}
	if _, err := Dialogues(context.Background(), r.o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestScenesRun numbers scenes over the valid ones of a reply.
func TestScenesRun(t *testing.T) {
	r := newTree(t)
	text, _ := json.Marshal(strings.Replace(sceneA, "이른 아침, 난로에 불이 켜져 있다.", "**", 1) + sceneB + sceneA + "장면 4-9\n")
	r.put(fmt.Sprintf(`{"gen_answer_id": 12, "prompt": "맥락:\n숲.\n\n위의 맥락", "completions": %s, "check_result": true}`, text), "result", "2025-12-10", "gen_scene", "scene_m-temp-0.7-char-snow_white-korean.jsonl")
	report, err := Scenes(context.Background(), r.o)
	if err != nil {
		t.Fatal(err)
	}
	var scenes []Scene
	data, err := os.ReadFile(report.Output)
	if err != nil || json.Unmarshal(data, &scenes) != nil || len(scenes) != 2 {
		t.Fatalf("got %s, %v", data, err)
	}
	if scenes[0].Source != "seed_scene_12_c1" || scenes[1].Source != "seed_scene_12_c2" || scenes[1].Profile != "숲." ||
		fmt.Sprint(report.Codes) != "map[abbreviated:1 empty_background:1]" || report.Yield != 0.5 || report.Types["만남"] != 1 || report.BackgroundMin != 18 {
		t.Errorf("got %+v, %+v", scenes, report)
	}
	if !strings.HasPrefix(string(data), "[\n  {\n    \"type\": \"만남\",") || !strings.HasSuffix(string(data), "\n]\n") {
		t.Errorf("got %s", data)
	}
}

// TestUpstream reads upstream's names, containers and rows, protective ones from their own folder.
func TestUpstream(t *testing.T) {
	card, err := persona.Parse([]byte("version: 1\nid: beethoven\nname: Beethoven\nlanguage: english\nuser: {aliases: [Guest]}\npersona: You are Beethoven.\n"), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := newTree(t)
	r.o.Card = card
	talk := "Two people sit in a quiet room with a piano, and the afternoon light comes through the window on the left.\n\n" +
		"Guest (speaking)\nWhich phone do you use?\n\nBeethoven (thinking)\nA phone? I know no such thing.\n\nGUEST (speaking)\nReally?"
	row := func(id int, text string, ok bool) string {
		b, _ := json.MarshalIndent(map[string]any{"prompt": "p", "gen_answer_id": id, "completions": text, "check_result": ok, "retry_time": 0}, "", "  ")
		return string(b)
	}
	for _, folder := range []string{"gen_dialogue", "gen_hallucination"} {
		r.put(row(0, "", false)+row(0, talk, true)+row(1, "", false)+row(0, strings.Replace(talk, "phone", "car", 1), true), "result", "2023-11-01", folder, "gpt-temp-0.2-char-Beethoven.jsonl")
	}
	report, err := Dialogues(context.Background(), r.o)
	if err != nil || report.Kept != 2 || report.Codes[CodeCheckFailed] != 2 {
		t.Fatalf("got %+v, %v", report, err)
	}
	items := r.items(report.Output)
	if items[0].Source != "seed_dialogue_0" || items[1].Source != "seed_dialogue_0-2" || items[0].Dialogue[1].Action != "thinking" || !strings.HasPrefix(items[0].Background, "Two people") {
		t.Errorf("got %+v", items)
	}
	r.o.Kind = "protective"
	if report, err = Dialogues(context.Background(), r.o); err != nil || filepath.Base(report.Output) != "generated_agent_hallucination_beethoven-english.json" {
		t.Fatalf("got %+v, %v", report, err)
	}
	if items = r.items(report.Output); items[0].Kind != "protective" || items[0].Dialogue[1].Action != "speaking" {
		t.Errorf("got %+v", items)
	}
	// Upstream's own parsed file, as input.
	r.o.Kind = ""
	r.o.Files = []string{r.put(`[{"setting": ["Two people sit in a room."], "dialogue": [{"role": "Guest", "action": "(speaking)", "content": "Which phone do you use?"}, {"role": "Beethoven", "action": "(speaking)", "content": "A phone? I know no such thing."}], "location": "", "background": "", "source": "seed_dialogue_0"}]`, "old.json")}
	if report, err = Dialogues(context.Background(), r.o); err != nil {
		t.Fatal(err)
	}
	if items = r.items(report.Output); items[0].Background != "Two people sit in a room." || items[0].Dialogue[0].Role != "User" || items[0].Dialogue[0].Action != "speaking" || items[0].Source != "seed_dialogue_0" {
		t.Errorf("got %+v", items)
	}
}

// TestContainersGiveTheSame wants the same dialogues of every container (PAR-12).
func TestContainersGiveTheSame(t *testing.T) {
	rows := []string{strings.TrimSpace(rawRow("01", "가", "")), strings.TrimSpace(rawRow("02", "나", ""))}
	var want string
	for i, text := range []string{strings.Join(rows, "\n"), rows[0] + rows[1], "[" + rows[0] + ",\n" + rows[1] + "]", strings.ReplaceAll(strings.Join(rows, "\n"), `, "`, ",\r\n  \"")} {
		r := newTree(t)
		r.o.Files = []string{r.put(text, "x.jsonl")}
		report, err := Dialogues(context.Background(), r.o)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(report.Output)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = string(data)
		}
		if string(data) != want {
			t.Errorf("container %d: got %s, want %s", i, data, want)
		}
	}
}
