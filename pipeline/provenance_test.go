package pipeline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/persona"
)

// converted writes a tiny model.
func converted(t *testing.T, o convert.Options) string {
	t.Helper()
	spec, err := testmodel.Find("qwen3-tied")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	o.OutFile = filepath.Join(dir, "model.gguf")
	if err := convertTo(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	return o.OutFile
}

// TestSetOrigin writes provenance into a model: llama.cpp loads it, its tensors have their bytes, and what it is
// hashed as without provenance stays.
func TestSetOrigin(t *testing.T) {
	path := converted(t, convert.Options{OutType: "q4_0"})
	plain, err := hashFile(File{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	data := tensors(t, path)
	keys := []gguf.KV{{Key: "persona.id", Value: "snow_white"}, {Key: "persona.scores.own_name", Value: float32(0.5)}, {Key: "persona.scores.old", Value: float32(1)}}
	told := int64(0)
	if changed, err := SetOrigin(t.Context(), path, keys, func(done, _ int64) { told = done }); err != nil || !changed || told == 0 {
		t.Fatalf("got %v, %v, told %d", changed, err, told)
	}
	if changed, err := SetOrigin(t.Context(), path, keys, nil); err != nil || changed {
		t.Errorf("again: got %v, %v, want nothing to change", changed, err)
	}
	if _, err := SetOrigin(t.Context(), path, []gguf.KV{{Key: "persona.scores.own_name", Value: float32(1)}}, nil); err != nil {
		t.Fatal(err)
	}
	found, err := Origin(path)
	if want := []gguf.KV{{Key: "persona.id", Value: "snow_white"}, {Key: "persona.scores.own_name", Value: float32(1)}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("got %v, %v, want %v", found, err, want)
	}
	if bare, err := hashFile(File{Path: path, Bare: true}); err != nil || bare != plain {
		t.Errorf("without provenance: got hash %s, %v, want %s", bare, err, plain)
	}
	if !bytes.Equal(tensors(t, path), data) {
		t.Error("tensors: got other bytes")
	}
	m, err := llama.LoadModel(path, llama.DefaultModelParams())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func tensors(t *testing.T, path string) (out []byte) {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tensor := range f.Tensors {
		data, err := f.Data(tensor)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, tensor.Name...), data...)
	}
	return out
}

// TestSetOriginFails leaves the file as it is.
func TestSetOriginFails(t *testing.T) {
	path := converted(t, convert.Options{OutType: "f16"})
	before, err := hashFile(File{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := SetOrigin(gone, path, []gguf.KV{{Key: "persona.id", Value: "x"}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := SetOrigin(t.Context(), path, []gguf.KV{{Key: "general.name", Value: "x"}}, nil); !errors.Is(err, ErrProvenance) {
		t.Errorf("a key of the model: got %v", err)
	}
	if _, err := SetOrigin(t.Context(), path, []gguf.KV{{Key: "persona.list", Value: []int{1}}}, nil); !errors.Is(err, ErrProvenance) {
		t.Errorf("a list: got %v", err)
	}
	if after, err := hashFile(File{Path: path}); err != nil || after != before {
		t.Errorf("got another file, %v", err)
	}
}

// TestExtra adds keys while converting: all other bytes of the header and the tensors are those without.
func TestExtra(t *testing.T) {
	plain := converted(t, convert.Options{OutType: "q4_0"})
	extra := plain + ".extra"
	if err := convertTo(t.Context(), filepath.Dir(plain), convert.Options{OutFile: extra, OutType: "q4_0", Extra: []gguf.KV{{Key: "persona.id", Value: "x"}}}); err != nil {
		t.Fatal(err)
	}
	a, err := hashFile(File{Path: plain})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := hashFile(File{Path: extra, Bare: true}); err != nil || b != a {
		t.Errorf("got %s, %v, want %s", b, err, a)
	}
	if keys, err := Origin(extra); err != nil || len(keys) != 1 {
		t.Errorf("got %v, %v", keys, err)
	}
	_, err = convert.NewPlan(t.Context(), filepath.Dir(plain), convert.Options{OutFile: plain, Extra: []gguf.KV{{Key: "general.name", Value: "x"}}})
	if err == nil || !strings.Contains(err.Error(), "extra key general.name: got one that the model has") {
		t.Errorf("got %v", err)
	}
}

func TestReadOrigin(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "keys.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	got, err := ReadOrigin(write(`{"author": "me", "persona.ok": true, "n": 2.5}`), "")
	want := []gguf.KV{{Key: "persona.author", Value: "me"}, {Key: "persona.n", Value: float32(2.5)}, {Key: "persona.ok", Value: true}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err = ReadOrigin(write(`{"own_name": 1}`), "scores"); err != nil || got[0].Key != "persona.scores.own_name" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{`[]`, `{"a": {}}`, `{"a": null}`, `{`} {
		if _, err := ReadOrigin(write(text), ""); !errors.Is(err, ErrProvenance) {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if _, err := ReadOrigin(filepath.Join(dir, "none"), ""); !errors.Is(err, ErrProvenance) {
		t.Errorf("got %v", err)
	}
	if _, err := AdapterOrigin(dir, "v1"); !errors.Is(err, ErrProvenance) {
		t.Errorf("a folder without training.json: got %v", err)
	}
}

// TestCardParts looks at which steps a change of the card concerns.
func TestCardParts(t *testing.T) {
	const text = "version: 1\nid: x\nname: 백설공주\npersona: 당신은 백설공주입니다.\n"
	parts := func(more string) (out []string) {
		card, err := persona.Parse([]byte(text+more), "card.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, without := range [][]string{notForScenes, notForDialogues, notForRecords, notForCheck, notServed} {
			values, err := cardWithout(card, without...)
			if err != nil {
				t.Fatal(err)
			}
			hash, err := digest(values)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, hash)
		}
		return out
	}
	before := parts("")
	for more, want := range map[string]string{ // scenes, dialogues, records, check, served
		"sampling: {temperature: 0.1}\n":               "....x",
		"gates: {honorific: 0.5}\n":                    "...x.",
		"scenes_per_paragraph: 9\n":                    "x....",
		"dialogues_per_scene: 9\n":                     ".x...",
		"protective_topics: [스마트폰]\n":                  ".x.x.",
		"cast: [{name: 난쟁이}]\n":                        "xxxx.",
		"user: {name: 방문자}\n":                          "xxxxx",
		"facts: [{question: \"왜?\", accept: [난쟁이]}]\n": "...x.",
	} {
		got := ""
		for i, hash := range parts(more) {
			if hash == before[i] {
				got += "."
			} else {
				got += "x"
			}
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", more, got, want)
		}
	}
}
