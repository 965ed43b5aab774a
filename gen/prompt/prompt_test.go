package prompt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const scene = "{agent_name} {agent_summary} {scene_count}"

func TestParseAndRender(t *testing.T) {
	values := map[string]string{"agent_name": "백설공주", "agent_summary": "숲의 {집}", "scene_count": "5", "known_scenes": ""}
	for text, want := range map[string]string{
		scene:                               "백설공주 숲의 {집} 5",
		scene + " {{\"a\": {{}}}}":          "백설공주 숲의 {집} 5 {\"a\": {}}",
		"\ufeff" + scene + "\r\n":           "백설공주 숲의 {집} 5",
		scene + "\n\n{known_scenes}\n\nend": "백설공주 숲의 {집} 5\n\nend",
		scene + " 장면 1: 유형":                 "백설공주 숲의 {집} 5 장면 1: 유형",
	} {
		tm, err := Parse(text, "x.txt", Scene)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, err := tm.Render(values); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "got no {agent_name}",
		"{agent_name} {agent_summary}":     "got no {scene_count}",
		scene + "{agent}":                  "variable {agent}: unknown: want one of agent_name, agent_summary",
		scene + "{}":                       "line 1: got {}, want {name}",
		scene + "{0}":                      "got {0}, want {name}",
		scene + "{agent_name!r}":           "got {agent_name!r}",
		scene + "{agent_name:>10}":         "got {agent_name:>10}",
		scene + "{agent_name.x}":           "got {agent_name.x}",
		scene + "\n}":                      "line 2: got a single }",
		scene + "{":                        "got a { without }",
		scene + "{agent_name {{":           "got a { without }",
		scene + " 장면 20개":                  "got the number of scenes as text (\"장면 20개\"), want {scene_count}",
		scene + " 20개의 장면":                 "\"20개의 장면\"",
		scene + " 스무 개의 장면을":               "\"스무 개의 장면\"",
		scene + " 장면 1부터 장면 20까지":          "\"장면 1부터\"",
		scene + " write 25 diverse scenes": "\"25 diverse scenes\"",
		scene + " Twenty scenes":           "\"Twenty scenes\"",
		scene + "\xff":                     "not UTF-8",
	} {
		_, err := Parse(text, "x.txt", Scene)
		if !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	tm, err := Parse(scene, "x.txt", Scene)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tm.Render(map[string]string{"agent_name": "a"}); err == nil || !strings.Contains(err.Error(), "{agent_summary}: got no value") {
		t.Errorf("missing value: got %v", err)
	}
	for _, value := range []string{"**중요**", "# 제목", "a\n## b", "```", "a\n---"} {
		if _, err := tm.Render(map[string]string{"agent_name": "a", "agent_summary": value, "scene_count": "5"}); err == nil || !strings.Contains(err.Error(), "got markdown") {
			t.Errorf("%q: got %v, want an error about markdown", value, err)
		}
	}
}

func TestLint(t *testing.T) {
	tm, err := Parse(scene+"\n**중요** 따옴표\n- 하나\n2) 둘\n", "x.txt", Scene)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tm.Lint(), "; "); got != `line 2: got markdown ("**"): answers will have it too; line 2: got "따옴표", a word about writing: answers may repeat it` {
		t.Errorf("got %s", got)
	}
	if got := tm.Stats(); got.Rules != 2 || got.Lines != 4 {
		t.Errorf("got %+v", got)
	}
}

// TestBuiltin holds our own templates to the rules for those of others.
func TestBuiltin(t *testing.T) {
	for kind, known := range variables {
		for language := range forms {
			tm, err := Builtin(kind, language)
			if err != nil {
				t.Error(err)
				continue
			}
			if warnings := tm.Lint(); len(warnings) > 0 {
				t.Errorf("%s: %v", tm.Path, warnings)
			}
			if s := tm.Stats(); s.Rules > 8 || s.Lines > 20 {
				t.Errorf("%s: got %+v, want a short prompt", tm.Path, s)
			}
			for _, asJSON := range []bool{true, false} {
				values := map[string]string{}
				for _, name := range known.names {
					values[name] = "<" + name + ">"
				}
				values["answer_form"] = AnswerForm(kind, language, asJSON, "NAME", "USER", "SPEAK")
				text, err := tm.Render(values)
				if err != nil {
					t.Error(err)
				}
				if strings.Contains(text, "@user") || strings.Contains(text, "{agent") || kind != Scene && !strings.Contains(text, "USER") {
					t.Errorf("%s: got %s", tm.Path, text)
				}
			}
		}
	}
	if _, err := Builtin(Scene, "german"); err == nil {
		t.Error("german: got no error")
	}
}

func TestSeed(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "data", "seed_data", "prompts")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	generic := filepath.Join(dir, "prompt_agent_scene_korean.txt")
	if err := os.WriteFile(generic, []byte(scene), 0o666); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "prompt_scene_generation_snow_white_korean.txt")
	if _, err := Seed(root, Scene, "snow_white", "korean", false); err == nil || !strings.Contains(err.Error(), own) {
		t.Errorf("own template missing: got %v, want its path %s", err, own)
	}
	if tm, err := Seed(root, Scene, "snow_white", "korean", true); err != nil || tm.Path != generic {
		t.Errorf("fallback: got %v, %v", tm, err)
	}
	if err := os.WriteFile(own, []byte(scene), 0o666); err != nil {
		t.Fatal(err)
	}
	if tm, err := Seed(root, Scene, "snow_white", "korean", true); err != nil || tm.Path != own || len(tm.SHA256) != 64 {
		t.Errorf("own: got %v, %v", tm, err)
	}
	if _, err := Seed(root, Protective, "snow_white", "korean", true); err == nil {
		t.Error("protective: got no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(scene)
	f.Add("{{{agent_name}}}")
	f.Fuzz(func(t *testing.T, text string) {
		tm, err := Parse(text, "x", Scene)
		if err != nil {
			return
		}
		values := map[string]string{}
		for _, name := range variables[Scene].names {
			values[name] = name
		}
		if _, err := tm.Render(values); err != nil {
			t.Error(err)
		}
	})
}
