package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	card, path := filepath.Join(dir, "card.yaml"), filepath.Join(dir, ConfigName)
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := FindConfig(card)
	if err != nil || c.BaseModel != "" || c.Train.Rank != 16 || c.Types[1] != "q4_0" {
		t.Errorf("none: got %+v, %v", c, err)
	}
	base := filepath.Join(dir, "base")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "config.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	write("version: 1\ntrain: {epochs: 2, rank: 8}\ngenerator: {file: g.gguf}\nvtuber: {dir: v}\n")
	c, err = FindConfig(card)
	if err != nil || c.BaseModel != base || c.Train.Epochs != 2 || c.Train.Alpha != 32 || c.Generator.File != filepath.Join(dir, "g.gguf") || c.VTuber.Dir != filepath.Join(dir, "v") {
		t.Errorf("got %+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"version: 1\nbase: x\n":                              "line 2: base: unknown key",
		"version: 1\nversion: 1\n":                           "line 2: version: got the key again",
		"version: 2\n":                                       "line 1: version: got 2, want 1",
		"version: 1\ngenerator:\n  engine: x\n":              "line 3: generator.engine: got \"x\"",
		"version: 1\ngenerator: {engine: openai}\n":          "generator.base_url",
		"version: 1\ngenerator: {base_url: x}\n":             "generator.base_url",
		"version: 1\ngenerator: {engine: ollama, file: x}\n": "generator.file",
		"version: 1\ngenerator: {count_protective: -1}\n":    "generator.count_protective",
		"version: 1\ngenerator: {type: q99}\n":               "generator.type",
		"version: 1\ntypes: []\n":                            "types: got none",
		"version: 1\nclient: x\n":                            "line 2: client: got \"x\"",
		"version: 1\nregister: x\n":                          "line 2: register: got \"x\"",
		"version: 1\nprepare: {eval_split: 1}\n":             "prepare.eval_split: got 1",
		"version: 1\nprepare: {near_duplicate: 2}\n":         "prepare.near_duplicate: got 2",
		"version: 1\neval: {parallel: 0}\n":                  "eval.parallel: got 0, want 1 to",
		"version: 1\neval: {samples: -1}\n":                  "eval.samples: got -1",
		"":                                                   "got nothing, want a YAML document",
	} {
		write(text)
		if _, err := FindConfig(card); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
