package raw

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t testing.TB, text string) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// ids are the ids of the rows; "!" for one that is no JSON.
func ids(t *testing.T, f *File) (out []string) {
	t.Helper()
	for i := range f.Len() {
		r, err := f.Row(i)
		switch {
		case errors.Is(err, ErrSyntax):
			out = append(out, "!")
		case err != nil:
			t.Fatal(err)
		default:
			out = append(out, string(r.ID))
		}
	}
	return out
}

const (
	rowA = `{"gen_answer_id": "a1", "prompt": "p {\n", "completions": "x \"y\" }{ \\", "check_result": true, "scene_data": {"type": "일상", "location": "부엌", "background": "아침"}}`
	rowB = `{"gen_answer_id": 7, "completions": "둘", "more": [1, {"a": null}]}`
)

func pretty(rows ...string) (out []string) {
	for _, row := range rows {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(row), "", "  "); err != nil {
			panic(err)
		}
		out = append(out, b.String())
	}
	return out
}

// TestContainers wants the same rows of every container.
func TestContainers(t *testing.T) {
	p := pretty(rowA, rowB)
	indented := "[\n  " + strings.Join(pretty(rowA, rowB), ",\n  ")
	indented = strings.ReplaceAll(indented, "\n", "\n  ") + "\n]\n"
	for name, text := range map[string]string{
		"lines": rowA + "\n" + rowB + "\n", "no last line end": rowA + "\n" + rowB, "blank lines": "\n\n" + rowA + "\n\n \n" + rowB + "\n\n",
		"pretty, a line between": p[0] + "\n" + p[1] + "\n", "pretty, nothing between": p[0] + p[1], "lines joined": rowA + rowB,
		"BOM": "\ufeff" + rowA + "\n" + rowB, "CRLF": strings.ReplaceAll(p[0]+"\n"+p[1]+"\n", "\n", "\r\n"),
		"array": "[" + rowA + ", " + rowB + "]", "pretty array": indented,
	} {
		f := write(t, text)
		if got := ids(t, f); !slices.Equal(got, []string{"a1", "7"}) || len(f.Damage) != 0 {
			t.Errorf("%s: got %q, %v", name, got, f.Damage)
		}
		if r, err := f.Row(0); err != nil || r.Completions != `x "y" }{ \` || r.Scene.Location != "부엌" || r.Failed() || r.Number != 1 {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

func TestDamage(t *testing.T) {
	p := pretty(rowA, rowB)
	for name, c := range map[string]struct {
		text string
		want []string
		lost int
	}{
		"truncated last":              {rowB + "\n" + rowA[:60], []string{"7"}, 1},
		"truncated between":           {rowA[:60] + "\n" + rowB, []string{"7"}, 1},
		"truncated outside a string":  {`{"gen_answer_id": ` + "\n" + rowB, []string{"7"}, 1},
		"truncated without line end":  {rowA[:60] + rowB + "\n" + rowB, []string{"7"}, 1},
		"pretty, truncated":           {p[0][:40] + "\n" + p[1], []string{"7"}, 1},
		"pretty, truncated, joined":   {"{\n  \"completions\": \"x\n}" + p[1], []string{"7"}, 1},
		"text between":                {rowA + "\nTraceback (most recent call last):\n  x {}\n" + rowB, []string{"a1", "7"}, 1},
		"balanced, no JSON":           {"{a}\n" + rowB, []string{"!", "7"}, 0},
		"stray bracket":               {"}\n" + rowB, []string{"7"}, 1},
		"empty":                       {"", nil, 0},
		"two places":                  {"x\n" + rowA + "\ny\n" + rowB, []string{"a1", "7"}, 2},
		"pretty array, cut element":   {"[\n  {\n    \"gen_answer_id\": \"c\",\n  {\n    \"gen_answer_id\": \"d\"\n  }\n]", []string{"d"}, 1},
		"line end inside a string":    {"{\"gen_answer_id\": \"a\nb\"}\n" + rowB, []string{"7"}, 1},
		"object begins at line begin": {"{\"a\": [\n{\"gen_answer_id\": \"e\"}\n" + rowB, []string{"e", "7"}, 1},
	} {
		f := write(t, c.text)
		if got := ids(t, f); !slices.Equal(got, c.want) || len(f.Damage) != c.lost {
			t.Errorf("%s: got %q, %v, want %q and %d lost", name, got, f.Damage, c.want, c.lost)
		}
	}
	if p := write(t, "x\n").Problems(5); len(p) != 1 || !strings.Contains(p[0], "raw.jsonl: after row 0, byte 0: text that is no object") {
		t.Errorf("got %q", p)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestRow(t *testing.T) {
	f := write(t, `{"gen_answer_id": null, "completions": {"turns": []}, "check_result": false, "ordinal": 3}`+"\n"+`{"completions": 12, "dialogue": [{"role": "r"}]}`+"\n"+`{"prompt": 1}`)
	r, err := f.Row(0)
	if err != nil || r.ID != "" || r.Completions != `{"turns": []}` || !r.Failed() || *r.Ordinal != 3 {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err = f.Row(1); err != nil || r.Completions != "12" || r.Dialogue[0].Role != "r" || r.Failed() {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err = f.Row(2); !errors.Is(err, ErrSyntax) {
		t.Errorf("a prompt that is a number: got %v", err)
	}
}

func TestParseName(t *testing.T) {
	for name, want := range map[string]Name{
		"scene_exaone3.5:2.4b-temp-0.7-char-snow_white-korean.jsonl":              {"scene", "exaone3.5:2.4b", "0.7", "snow_white", "korean"},
		"dialogue_hf.co/a-char-b:Q4-temp-x-temp-0.2-char-peter_pan-english.jsonl": {"dialogue", "a-char-b:Q4-temp-x", "0.2", "peter_pan", "english"},
		"gpt-3.5-turbo-temp-0.2-char-Beethoven.jsonl":                             {"", "gpt-3.5-turbo", "0.2", "Beethoven", ""},
		"/a/b/qwen-temp-1-char-Snow White.jsonl":                                  {"", "qwen", "1", "Snow White", ""},
		"dialogue_scene_x-temp-0.7-char-snow_white-korean.jsonl":                  {"dialogue", "scene_x", "0.7", "snow_white", "korean"},
		"dialogue_qwen3-4b-instruct-temp-0.7-char-three_pigs_little-korean.jsonl": {"dialogue", "qwen3-4b-instruct", "0.7", "three_pigs_little", "korean"},
	} {
		if got, ok := ParseName(name); strings.Contains(name, "hf.co") {
			if !ok || got.Character != "peter_pan" || got.Temperature != "0.2" {
				t.Errorf("%s: got %+v", name, got)
			}
		} else if !ok || got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	for _, bad := range []string{"", "journal.jsonl", "a-char-b.jsonl", "a-temp-1.jsonl", "a-temp-1-char-b.json", "a-temp-1-char-b-korean.jsonl.backup", "-temp-1-char-.jsonl"} {
		if got, ok := ParseName(bad); ok {
			t.Errorf("%q: got %+v, want none", bad, got)
		}
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	put := func(parts ...string) {
		path := filepath.Join(append([]string{root}, parts...)...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("[]"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Find(root, []string{"gen_dialogue"}, []string{"snow_white"}, "korean"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(root, "result")) {
		t.Errorf("no folder: got %v", err)
	}
	put("result", "2025-12-11", "gen_dialogue", "dialogue_m-temp-0.7-char-snow_white-korean.jsonl")
	put("result", "2025-12-10", "gen_dialogue", "dialogue_m-temp-0.7-char-snow_white-korean.jsonl")
	put("result", "2025-12-10", "gen_dialogue", "dialogue_m-temp-0.7-char-snow_white-korean.jsonl.backup")
	put("result", "2025-12-10", "gen_dialogue", "dialogue_m-temp-0.7-char-snow_white-english.jsonl")
	put("result", "2025-12-10", "gen_dialogue", "dialogue_m-temp-0.7-char-cinderella-korean.jsonl")
	put("result", "2025-12-10", "gen_dialogue", "m-temp-0.2-char-Snow White.jsonl")
	put("result", "2025-12-10", "journal.jsonl")
	got, err := Find(root, []string{"gen_dialogue"}, []string{"snow_white", "Snow White"}, "korean")
	want := fmt.Sprint([]string{
		filepath.Join(root, "result/2025-12-10/gen_dialogue/dialogue_m-temp-0.7-char-snow_white-korean.jsonl"),
		filepath.Join(root, "result/2025-12-10/gen_dialogue/m-temp-0.2-char-Snow White.jsonl"),
		filepath.Join(root, "result/2025-12-11/gen_dialogue/dialogue_m-temp-0.7-char-snow_white-korean.jsonl"),
	})
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := Find(root, []string{"gen_scene"}, []string{"snow_white"}, "korean"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(root, "result", "*", "gen_scene", "*-char-snow_white-korean.jsonl")) {
		t.Errorf("none: got %v", err)
	}
	if _, _, err := FindParsed(root, "x.json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
	put("processed", "2025-12-10", "x.json")
	put("processed", "2025-12-12", "x.json")
	put("processed", "2025-12-13", "y.json")
	if path, dir, err := FindParsed(root, "x.json"); err != nil || dir != filepath.Join(root, "processed", "2025-12-12") || path != filepath.Join(dir, "x.json") {
		t.Errorf("got %s, %s, %v", path, dir, err)
	}
	if _, _, err := FindParsed(root, "z.json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: got %v", err)
	}
}

func TestEncode(t *testing.T) {
	got, err := Encode(map[string]string{"a": "<|eot|>&\u2028\\u2028 가"})
	if err != nil || string(got) != "{\"a\":\"<|eot|>&\u2028\\\\u2028 가\"}" {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err = EncodeIndent(map[string]int{"a": 1}); err != nil || string(got) != "{\n    \"a\": 1\n  }" {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err = Encode(func() {}); err == nil {
		t.Error("a function: got no error")
	}
}

func FuzzOpen(f *testing.F) {
	for _, text := range append(pretty(rowA, rowB), rowA+rowB, rowA[:60]+"\n"+rowB, "}{", "[{}]", "\ufeff{}\r\n{") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := write(t, text)
		end := int64(0)
		for i := range file.Len() {
			if file.rows[i].offset < end {
				t.Errorf("row %d begins inside the one before", i)
			}
			end = file.rows[i].offset + file.Size(i)
			if p, err := file.Read(i); err != nil || p[0] != '{' || p[len(p)-1] != '}' && p[len(p)-1] != ']' {
				t.Errorf("row %d: got %q, %v", i, p, err)
			}
		}
		if file.Len() == 0 && len(file.Damage) == 0 && strings.Trim(strings.TrimPrefix(text, "\ufeff"), " \t\r\n,[]") != "" {
			t.Errorf("%q: got neither rows nor damage", text)
		}
	})
}
