package vtuber

import (
	"bytes"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/persona"
)

var update = flag.Bool("update", false, "write the golden files")

func card(t *testing.T) *persona.Card {
	t.Helper()
	c, err := persona.Read("testdata/card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// project copies the sample folder; edits replace text in its conf.yaml.
func project(t *testing.T, edits ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/project")); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(edits); i += 2 {
		text := read(t, dir, confName)
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("%q is not in conf.yaml", edits[i])
		}
		put(t, dir, confName, strings.Replace(text, edits[i], edits[i+1], 1))
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func open(t *testing.T, dir string) *Project {
	t.Helper()
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		put(t, "testdata", name, got)
	}
	if want, err := os.ReadFile(path); err != nil || got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s%v", name, got, want, err)
	}
}

// TestSet makes a new character file and edits conf.yaml, and wants the diff of exactly the keys that were meant.
func TestSet(t *testing.T) {
	dir := project(t)
	settings := Settings{Card: card(t), Model: "snow_white", Avatar: "snow.png", Conf: true, DryRun: true}
	dry, err := open(t, dir).Set(settings)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, dir, confName) != read(t, "testdata/project", confName) || len(dry) != 2 {
		t.Fatalf("dry run: got %+v and a changed file", dry)
	}
	settings.DryRun = false
	done, err := open(t, dir).Set(settings)
	if err != nil {
		t.Fatal(err)
	}
	if done[0].Diff != dry[0].Diff || done[1].Diff != dry[1].Diff || done[0].Backup != "" || done[1].Backup != "conf.yaml.backup" {
		t.Errorf("got %+v", done)
	}
	golden(t, "set.diff", done[0].Diff+done[1].Diff)
	if read(t, dir, "conf.yaml.backup") != read(t, "testdata/project", confName) {
		t.Error("backup: got another text than that of before")
	}
	again, err := open(t, dir).Set(settings)
	if err != nil || again[0].Changed || again[1].Changed {
		t.Errorf("again: got %+v, %v, want no change", again, err)
	}
	settings.Model, settings.MCPServers = "other:q4", []string{"time", "ddg-search"}
	third, err := open(t, dir).Set(settings)
	if err != nil || third[0].Backup != "characters/snow_white.yaml.backup" || third[1].Backup != "conf.yaml.backup2" {
		t.Errorf("other model: got %+v, %v", third, err)
	}
	for _, line := range []string{"+        model: 'other:q4'\n", "+        use_mcpp: True\n", `+        mcp_enabled_servers: ["time", "ddg-search"]`} {
		if !strings.Contains(third[0].Diff, line) || strings.Count(third[0].Diff, "\n+ ") != 3 {
			t.Errorf("other model: got\n%swant %s", third[0].Diff, line)
		}
	}
}

// TestSetRedumped edits a conf.yaml that went through a YAML writer: no comments, other quotes, other literals.
func TestSetRedumped(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, confName, read(t, "testdata", "redumped.yaml"))
	temperature := 0.7
	changes, err := open(t, dir).Set(Settings{Card: card(t), Model: "snow_white", Conf: true, Fork: true, Temperature: &temperature})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "redumped.diff", changes[1].Diff)
	if got := read(t, dir, "characters/snow_white.yaml"); !strings.Contains(got, "max_tokens: 200\n") || !strings.Contains(got, "persona_prompt: |\n") {
		t.Errorf("new file: got\n%s", got)
	}
	windows := strings.ReplaceAll(read(t, "testdata", "redumped.yaml"), "\n", "\r\n")
	put(t, dir, confName, windows)
	if changes, err = open(t, dir).Set(Settings{Card: card(t), Model: "snow_white", Conf: true}); err != nil || strings.Count(changes[1].Diff, "\r\n") < 10 {
		t.Errorf("CRLF: got %v, %v", changes, err)
	}
	if text := read(t, dir, confName); strings.Count(text, "\n") != strings.Count(text, "\r\n") {
		t.Errorf("CRLF: got mixed line ends:\n%q", text)
	}
}

// TestSetInBraces edits a character file that somebody wrote in few lines.
func TestSetInBraces(t *testing.T) {
	dir := project(t)
	put(t, dir, "characters/snow_white.yaml", `character_config:
  conf_name: "Snow White"   # shown
  character_name: "백설공주"
  agent_config:
    agent_settings:
      basic_memory_agent: {llm_provider: 'ollama_llm', use_mcpp: True, mcp_enabled_servers: [time]}
    llm_configs:
      ollama_llm: {model: 'snow_white', temperature: 0.7}
`)
	if _, err := open(t, dir).Set(Settings{Card: card(t), Model: "snow"}); err != nil {
		t.Fatal(err)
	}
	want := `character_config:
  conf_name: "Snow White"   # shown
  character_name: "백설공주"
  agent_config:
    agent_settings:
      basic_memory_agent: {llm_provider: 'ollama_llm', use_mcpp: False, mcp_enabled_servers: []}
    llm_configs:
      ollama_llm: {base_url: 'http://localhost:11434/v1', model: 'snow', temperature: 0.65}
    conversation_agent_choice: 'basic_memory_agent'
  conf_uid: 'snow_white_001'
  live2d_model_name: 'mao_pro'
  avatar: 'guide.png'
  human_name: '사용자'
  persona_prompt: |-
    당신은 백설공주입니다.
    숲속에서 살아요: "손님"을 반겨요.
`
	if got := read(t, dir, "characters/snow_white.yaml"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSwitch(t *testing.T) {
	dir := project(t)
	for _, name := range []string{"peter_pan", "peter_pan.yaml", "Peter Pan", "peter_pan_001", "피터팬"} {
		changes, err := open(t, dir).Switch(name, true)
		if err != nil || !changes[0].Changed {
			t.Fatalf("%s: got %+v, %v", name, changes, err)
		}
		golden(t, "switch.diff", changes[0].Diff)
	}
	if _, err := open(t, dir).Switch("피터팬", false); err != nil {
		t.Fatal(err)
	}
	characters, err := open(t, dir).Characters()
	if err != nil || len(characters) != 2 || !characters[1].Active || characters[0].Name != "피터팬" || characters[0].Persona != characters[1].Persona {
		t.Errorf("characters: got %+v, %v", characters, err)
	}
	if changes, err := open(t, dir).Switch("피터팬", false); err != nil || changes[0].Changed {
		t.Errorf("again: got %+v, %v", changes, err)
	}
	if _, err := open(t, dir).Switch("wendy", false); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "want one of peter_pan") {
		t.Errorf("unknown: got %v", err)
	}
	put(t, dir, "characters/copy.yaml", read(t, dir, "characters/peter_pan.yaml"))
	if _, err := open(t, dir).Switch("피터팬", false); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "characters/copy.yaml and characters/peter_pan.yaml") {
		t.Errorf("two: got %v", err)
	}
}

func TestUnknownLayouts(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"old version":   {"v1.2.1", "v1.0.0", `conf_version: got "v1.0.0", want v1.1 to v1.2.x`},
		"new version":   {"v1.2.1", "v1.3.0", `conf_version: got "v1.3.0"`},
		"no version":    {"conf_version:", "version:", `conf_version: got ""`},
		"no agent":      {"basic_memory_agent:\n", "memory_agent:\n", "basic_memory_agent: got no keys with values"},
		"no ollama":     {"      ollama_llm:", "      ollama:", "ollama_llm: got no keys with values"},
		"no choice":     {"conversation_agent_choice", "choice", "conversation_agent_choice"},
		"other place":   {"config_alts_dir: 'characters'", "config_alts_dir: '../x'", "want a folder in this one"},
		"two documents": {"live_config:", "---\nlive_config:", "got a second document"},
		"alias":         {"character_config:\n", "character_config: &c\n", "got no keys with values|got an anchor"},
	} {
		_, err := Open(project(t, c.old, c.new))
		if err == nil || !slices.ContainsFunc(strings.Split(c.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if name != "two documents" && !errors.Is(err, ErrLayout) {
			t.Errorf("%s: got %v, want %v", name, err, ErrLayout)
		}
	}
	dir := project(t)
	put(t, dir, "characters/bad.yaml", "name: x\n")
	if _, err := Open(dir); !errors.Is(err, ErrLayout) || !strings.Contains(err.Error(), "bad.yaml") {
		t.Errorf("character file: got %v", err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no conf.yaml: got %v", err)
	}
}

func TestSetRefused(t *testing.T) {
	dir := project(t)
	if _, err := open(t, dir).Set(Settings{Card: card(t)}); err == nil || !strings.Contains(err.Error(), "model: got none") {
		t.Errorf("no model: got %v", err)
	}
	put(t, dir, "characters/snow_white.yaml", "character_config:\n  character_name: 왕비\n")
	if _, err := open(t, dir).Set(Settings{Card: card(t), Model: "m"}); err == nil || !strings.Contains(err.Error(), "it is another character's file") {
		t.Errorf("another character: got %v", err)
	}
	put(t, dir, "characters/snow_white.yaml", "character_config:\n  character_name: 백설공스\n  agent_config: 1\n")
	before := read(t, dir, confName)
	if _, err := open(t, dir).Set(Settings{Card: card(t), Model: "m", Conf: true}); err == nil || !strings.Contains(err.Error(), "want keys with values") {
		t.Errorf("no mapping: got %v", err)
	}
	if read(t, dir, confName) != before {
		t.Error("conf.yaml was written although the other file could not be edited")
	}
}

// TestCheck plants what can be wrong, one at a time, in a project that is right.
func TestCheck(t *testing.T) {
	dir := project(t)
	if _, err := open(t, dir).Set(Settings{Card: card(t), Model: "snow_white", Avatar: "snow.png", Conf: true}); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "Modelfile", "FROM x\nSYSTEM \"\"\""+card(t).Persona+"\"\"\"\n")
	renderer, err := persona.NewRenderer(card(t), persona.Options{})
	if err != nil {
		t.Fatal(err)
	}
	record, err := renderer.Record([]persona.Turn{{Role: "사용자", Content: "안녕"}, {Role: "백설공주", Content: "네"}})
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	if err := persona.WriteRecords(&data, []persona.Record{record}); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "sft.jsonl", data.String())
	server := func(w http.ResponseWriter, q *http.Request) {
		body := make([]byte, 100)
		n, _ := q.Body.Read(body)
		if !strings.Contains(string(body[:n]), `"snow_white"`) {
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"error":"model not found"}`))
			return
		}
		w.Write([]byte(`{"system":"당신은 백설공주입니다.\n숲속에서 살아요: \"손님\"을 반겨요."}`))
	}
	s := httptest.NewServer(http.HandlerFunc(server))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	options := CheckOptions{Card: card(t), Modelfile: filepath.Join(dir, "Modelfile"), Data: filepath.Join(dir, "sft.jsonl"), Client: api.NewClient(u, http.DefaultClient), Fork: true}
	wrong := func() (out []string) {
		found, err := open(t, dir).Check(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if !f.OK {
				out = append(out, f.What)
			}
		}
		if len(found) < 8 && len(out) == 0 {
			t.Errorf("got %d findings", len(found))
		}
		return out
	}
	if got := wrong(); got != nil {
		t.Fatalf("right project: got %q wrong", got)
	}
	for what, c := range map[string]struct{ file, old, new string }{
		"persona":                             {"conf.yaml", "숲속에서", "성에서"},
		"character_name":                      {"characters/snow_white.yaml", "character_name: '백설공주'", "character_name: '백설공스'"},
		"use_mcpp":                            {"conf.yaml", "use_mcpp: False", "use_mcpp: True"},
		"live2d_model_name":                   {"conf.yaml", "'mao_pro'", "'mao'"},
		"avatar":                              {"characters/snow_white.yaml", "snow.png", "none.png"},
		"model snow":                          {"conf.yaml", "model: 'snow_white'", "model: 'snow'"},
		"name that the fork's client guesses": {"conf.yaml", "당신은 백설공주입니다", "당신은 주인공 백설공주입니다"},
	} {
		before := read(t, dir, c.file)
		if !strings.Contains(before, c.old) {
			t.Fatalf("%s: %q is not in %s:\n%s", what, c.old, c.file, before)
		}
		put(t, dir, c.file, strings.Replace(before, c.old, c.new, 1))
		if got := wrong(); !slices.Contains(got, what) || len(got) > 2 {
			t.Errorf("%s: got %q", what, got)
		}
		put(t, dir, c.file, before)
	}
	put(t, dir, "Modelfile", "FROM x\n")
	put(t, dir, "sft.jsonl", strings.Replace(data.String(), "숲속", "강가", 1))
	if got := wrong(); !slices.Equal(got, []string{"persona", "persona"}) {
		t.Errorf("Modelfile and data: got %q", got)
	}
	if err := os.Remove(filepath.Join(dir, "model_dict.json")); err != nil {
		t.Fatal(err)
	}
	if got := wrong(); !slices.Contains(got, "live2d_model_name") {
		t.Errorf("no model_dict.json: got %q", got)
	}
}

// TestForkAsksAsTrained joins persona and turns as the fork's client does, from the configuration that Set makes for
// it, and wants the text of a training sample up to the answer.
func TestForkAsksAsTrained(t *testing.T) {
	dir := project(t)
	if _, err := open(t, dir).Set(Settings{Card: card(t), Model: "m", Fork: true}); err != nil {
		t.Fatal(err)
	}
	p := open(t, dir)
	system, err := p.lookup(p.files[1], key(root, "persona_prompt"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join([]string{system, "사용자 말하기: 안녕<|eot|>", "백설공주 말하기: 네<|eot|>", "사용자 말하기: 누구세요?<|eot|>", "백설공주 말하기:"}, "\n")
	r, err := persona.NewRenderer(card(t), persona.Options{Format: persona.TrainableAgents})
	if err != nil {
		t.Fatal(err)
	}
	turns := []persona.Turn{{Role: "사용자", Content: "안녕"}, {Role: "백설공주", Content: "네"}, {Role: "사용자", Content: "누구세요?"}, {Role: "백설공주", Content: "저예요"}}
	want, err := r.Prompt(turns[:3])
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	record, err := r.Record(turns)
	if err != nil || !strings.HasPrefix(record.Text(), got) {
		t.Errorf("got %q, %v, want it to begin with %q", record.Text(), err, got)
	}
}

func TestCheckWithoutTheCharacter(t *testing.T) {
	found, err := open(t, project(t)).Check(t.Context(), CheckOptions{Card: card(t)})
	if err != nil || len(found) != 1 || found[0].OK || found[0].What != "character" {
		t.Errorf("got %+v, %v", found, err)
	}
}
