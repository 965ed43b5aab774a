package persona

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sft.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRecordsRoundTrip(t *testing.T) {
	var want []Record
	for _, format := range []Format{ChatML, TrainableAgents} {
		rec := record(t, renderer(t, fullCard, Options{Format: format}), dialogue)
		rec.Source, rec.Split = "seed_dialogue_b71d0e4a", "eval"
		want = append(want, rec)
	}
	var b bytes.Buffer
	if err := WriteRecords(&b, want); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "<|eot|>") || !strings.Contains(text, "백설공주") ||
		!strings.Contains(text, `"spans":[[`) {
		t.Errorf("got %s", text)
	}
	// The three containers: lines, objects with a line between, objects with nothing between; with BOM and CRLF.
	pretty := strings.ReplaceAll(strings.ReplaceAll(b.String(), `,"output"`, ",\n  \"output\""), "}\n{", "\n}\n{")
	for name, text := range map[string]string{
		"lines": b.String(), "pretty": pretty, "joined": strings.ReplaceAll(pretty, "}\n{", "}{"),
		"BOM and CRLF": "\ufeff" + strings.ReplaceAll(b.String(), "\n", "\r\n\r\n"), "unknown key": strings.Replace(b.String(), "{", `{"more":{"a":1},`, 1),
	} {
		got, found, err := ReadRecords(writeFile(t, text), ReadOptions{Strict: true})
		if err != nil || len(found.Warnings) != 0 || !slices.EqualFunc(got, want, func(a, b Record) bool {
			return a.Text() == b.Text() && a.Prompt == b.Prompt && slices.Equal(a.Spans, b.Spans) && a.Split == b.Split && a.Source == b.Source
		}) {
			t.Errorf("%s: got %+v, %+v, %v", name, got, found, err)
		}
	}
}

func TestBadRecords(t *testing.T) {
	good := Record{Prompt: "p", Output: "질문 답.<|im_end|>\n", Spans: [][2]int{{4, 16}}, End: "<|im_end|>", Format: ChatML}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]struct {
		change func(*Record)
		want   string
	}{
		"format":        {func(r *Record) { r.Format = "x" }, "format: got"},
		"split":         {func(r *Record) { r.Split = "test" }, "split: got"},
		"end":           {func(r *Record) { r.End = "" }, "end: got no text"},
		"no spans":      {func(r *Record) { r.Spans = nil }, "spans: got none"},
		"reversed":      {func(r *Record) { r.Spans[0] = [2]int{16, 4} }, "spans[0]: got [16, 4], want a range"},
		"too far":       {func(r *Record) { r.Spans[0][1] = 99 }, "up to 17"},
		"in the prompt": {func(r *Record) { r.Spans[0][0] = 0 }, "want a range after 1"},
		"overlap":       {func(r *Record) { r.Spans = append(r.Spans, r.Spans[0]) }, "spans[1]"},
		"without end":   {func(r *Record) { r.Spans[0][1]-- }, "want an utterance with <|im_end|> at its end"},
		"only the end":  {func(r *Record) { r.Spans[0][0] = 6 }, "want an utterance"},
		"two ends":      {func(r *Record) { r.Output = "질 <|im_end|>.<|im_end|>"; r.Spans[0] = [2]int{1, 24} }, "want an utterance"},
	} {
		r := good
		r.Spans = slices.Clone(good.Spans)
		bad.change(&r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: got %v, want %s", name, err, bad.want)
		}
		if err := WriteRecords(&bytes.Buffer{}, []Record{r}); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestLegacyRecords has the old and the new form without spans; both are rendered anew, with their end tokens.
func TestLegacyRecords(t *testing.T) {
	text := `{"prompt": "위치: 숲\n\n", "output": "사용자 말하기: 숲은 어땠어요?<|eot|>\n백설공주 말하기: 새들이\n노래해 주었어요.<|eot|>", "source": "seed_dialogue_1"}
{"prompt": "위치: 숲\n\n", "output": "사용자 말하기: 숲은 어땠어요?\n백설공주 (말하기): 새들이\n노래해 주었어요.\n백설공주 생각: 음", "source": "seed_dialogue_2"}
`
	r := renderer(t, fullCard, Options{})
	got, found, err := ReadRecords(writeFile(t, text), ReadOptions{Renderer: r})
	if err != nil || found.Rendered != 2 || len(found.Warnings) != 1 {
		t.Fatalf("got %+v, %v", found, err)
	}
	want := record(t, r, []Turn{dialogue[0], {"백설공주", "", "새들이\n노래해 주었어요."}})
	for i, source := range []string{"seed_dialogue_1", "seed_dialogue_2"} {
		if got[i].Text() != want.Text() || !slices.Equal(got[i].Spans, want.Spans) || got[i].Source != source {
			t.Errorf("got %+v, want the text of %+v", got[i], want)
		}
	}
	for _, o := range []ReadOptions{{Renderer: r, Strict: true}, {}} {
		if _, _, err := ReadRecords(writeFile(t, text), o); err == nil || !strings.Contains(err.Error(), "record 1: spans: got none") {
			t.Errorf("%+v: got %v", o, err)
		}
	}
	for _, output := range []string{"백설공주: 어", "늑대 말하기: 어흥\n백설공주 말하기: 앗"} {
		_, _, err := ReadRecords(writeFile(t, `{"prompt":"p","output":"`+strings.ReplaceAll(output, "\n", `\n`)+`"}`), ReadOptions{Renderer: r})
		if err == nil || !strings.Contains(err.Error(), "record 1: without spans") {
			t.Errorf("%q: got %v", output, err)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	line := `{"prompt":"p","output":"답.<|im_end|>","source":"s","spans":[[1,13]],"end":"<|im_end|>","format":"chatml"}` + "\n"
	for name, c := range map[string]struct {
		text          string
		records, lost int
	}{
		"cut off":               {line + line[:40], 1, 1},
		"damaged in the middle": {line + "{\"prompt\": \"x\n" + line + line, 3, 1},
		"wrong type":            {line + `{"prompt": 5}` + "\n" + line, 2, 1},
		"blank lines":           {"\n\n" + line + "\n\n", 1, 0},
	} {
		got, found, err := ReadRecords(writeFile(t, c.text), ReadOptions{})
		if err != nil || len(got) != c.records || found.Lost != c.lost || len(found.Warnings) != c.lost {
			t.Errorf("%s: got %d records, %+v, %v, want %+v", name, len(got), found, err, c)
		}
		if _, _, err := ReadRecords(writeFile(t, c.text), ReadOptions{Strict: true}); (err != nil) != (c.lost > 0) {
			t.Errorf("%s, strict: got %v", name, err)
		}
	}
	if _, _, err := ReadRecords(writeFile(t, "\n"), ReadOptions{}); err == nil {
		t.Error("an empty file: got no error")
	}
	if _, _, err := ReadRecords("no such file", ReadOptions{}); err == nil {
		t.Error("no file: got no error")
	}
}
