package deploy

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/parser"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/persona"
)

var update = flag.Bool("update", false, "write the golden files")

const example = "../examples/snow_white"

// makeGGUF converts the example's base, with the persona's adapter unless plain, in the folder of the test.
func makeGGUF(t testing.TB, dir, outType string, plain bool) string {
	t.Helper()
	o := convert.Options{OutFile: filepath.Join(dir, "model.gguf"), OutType: outType}
	if !plain {
		o.Adapters = []lora.Source{{Dir: filepath.Join(example, "adapter"), Weight: 1}}
	}
	return write(t, filepath.Join(example, "base"), o)
}

func write(t testing.TB, folder string, o convert.Options) string {
	t.Helper()
	plan, err := convert.NewPlan(t.Context(), folder, o)
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if _, err := plan.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	return o.OutFile
}

func newSpec(t testing.TB, o Options) *Spec {
	t.Helper()
	s, err := NewSpec(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

var examples = []api.Message{{Role: "user", Content: "안녕"}, {Role: "assistant", Content: "안녕하세요, \"손님\".\n어서 오세요."}}

func TestModelfileGolden(t *testing.T) {
	dir := t.TempDir()
	model := makeGGUF(t, dir, "q4_0", true)
	agents := strings.Replace(cardText, "name: 백설공주\n", "name: 백설공주\nformat: trainable-agents\n", 1)
	for name, o := range map[string]Options{
		"chatml.Modelfile": {Card: parseCard(t, cardText), License: []string{"MIT License\n\n\"as is\""}, Messages: examples},
		"agents.Modelfile": {Card: parseCard(t, agents), End: "<|im_end|>"},
		"fork.Modelfile":   {Card: parseCard(t, agents), End: "<|im_end|>", Client: Fork},
	} {
		o.Model = model
		s := newSpec(t, o)
		text, err := s.Modelfile(dir)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, string(text))
		checkSame(t, s, text)
		if name == "agents.Modelfile" {
			continue
		}
		if bytes.Contains(text, []byte("You are Qwen")) || bytes.Contains(text, []byte("Alibaba")) {
			t.Errorf("%s: got Qwen's own system text", name)
		}
	}
}

// checkSame wants what Ollama's own client would send for the Modelfile to be what we send.
func checkSame(t *testing.T, s *Spec, text []byte) {
	t.Helper()
	file, err := parser.ParseFile(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := file.CreateRequest(filepath.Dir(s.Model))
	if err != nil {
		t.Fatal(err)
	}
	want := s.Request("", "sha256:x")
	for name, pair := range map[string][2]any{
		"template": {got.Template, want.Template}, "system": {got.System, want.System}, "messages": {got.Messages, want.Messages},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: got %v, want %v", name, pair[0], pair[1])
		}
	}
	if len(got.Parameters) != len(want.Parameters) {
		t.Errorf("parameters: got %v, want %v", got.Parameters, want.Parameters)
	}
	for name, value := range want.Parameters {
		if canonical(got.Parameters[name]) != canonical(value) {
			t.Errorf("parameter %s: got %v, want %v", name, got.Parameters[name], value)
		}
	}
}

// TestOneSource wants README's tables to be what the code says.
func TestOneSource(t *testing.T) {
	for _, name := range []string{"README.md", "README.ko.md"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), Table()) {
			t.Errorf("%s: want this table in it:\n%s", name, Table())
		}
	}
	s := persona.DefaultSampling()
	got := (&Spec{Parameters: Parameters(s, 7, []string{"a", "b"})}).RequestOptions()
	want := map[string]any{"temperature": 0.7, "top_p": 0.95, "top_k": 40, "num_predict": 300, "repeat_penalty": 1.1, "repeat_last_n": 64,
		"num_ctx": 8192, "num_keep": 7, "stop": []string{"a", "b"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("options: got %v, want %v", got, want)
	}
}

func TestSpecWarnings(t *testing.T) {
	dir := t.TempDir()
	model := makeGGUF(t, dir, "f16", true)
	long := strings.Replace(cardText, "num_ctx: 1024", "num_ctx: 16384", 1)
	agents := strings.Replace(long, "name: 백설공주\n", "name: 백설공주\nformat: trainable-agents\n", 1)
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"none":      {Options{Card: parseCard(t, cardText)}, nil},
		"long":      {Options{Card: parseCard(t, long)}, []string{"num_ctx: the card says 16384, the model was trained for 8192"}},
		"agents":    {Options{Card: parseCard(t, agents), End: "<|im_end|>"}, []string{"chat template in the file gives another text", "num_ctx"}},
		"fork":      {Options{Card: parseCard(t, cardText), Client: Fork}, []string{"a form that it was not trained on"}},
		"fork fits": {Options{Card: parseCard(t, strings.Replace(agents, "16384", "1024", 1)), Client: Fork, End: "<|im_end|>"}, nil},
	} {
		c.o.Model = model
		s := newSpec(t, c.o)
		if len(s.Warnings) != len(c.want) {
			t.Errorf("%s: got %q, want %q", name, s.Warnings, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(s.Warnings[i], want) {
				t.Errorf("%s: got %q, want %q in it", name, s.Warnings[i], want)
			}
		}
		if i := slices.IndexFunc(s.Parameters, func(p Parameter) bool { return p.Name == "num_keep" }); s.Parameters[i].Value.(int) < 15 {
			t.Errorf("%s: num_keep: got %v, want the tokens of the persona", name, s.Parameters[i].Value)
		}
	}
}

func TestSpecRefusals(t *testing.T) {
	dir := t.TempDir()
	model := makeGGUF(t, dir, "f16", true)
	card := parseCard(t, cardText)
	notGGUF := filepath.Join(dir, "text.gguf")
	if err := os.WriteFile(notGGUF, []byte("no model"), 0o644); err != nil {
		t.Fatal(err)
	}
	adapter := filepath.Join(dir, "adapter.gguf")
	plan, err := convert.NewAdapterPlan(t.Context(), filepath.Join(example, "base"), filepath.Join(example, "adapter"), convert.Options{OutFile: adapter, OutType: "f16"})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if _, err := plan.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	spec, err := testmodel.Find("llama-bpe")
	if err != nil {
		t.Fatal(err)
	}
	if err := testmodel.Write(filepath.Join(dir, "llama"), spec); err != nil {
		t.Fatal(err)
	}
	llama := write(t, filepath.Join(dir, "llama"), convert.Options{OutFile: filepath.Join(dir, "llama.gguf"), OutType: "f16"})
	small := parseCard(t, strings.Replace(cardText, "num_ctx: 1024", "num_ctx: 80", 1))
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no file":           {Options{Model: filepath.Join(dir, "none.gguf"), Card: card}, "no such file"},
		"no GGUF":           {Options{Model: notGGUF, Card: card}, "magic"},
		"an adapter":        {Options{Model: adapter, Card: card}, "general.type: got adapter, want a model"},
		"no end token":      {Options{Model: model, Card: parseCard(t, strings.Replace(cardText, "id: s", "format: trainable-agents\nid: s", 1))}, "got no control token <|eot|>"},
		"another family":    {Options{Model: llama, Card: card}, "got no control token <|im_end|> in the vocabulary"},
		"client":            {Options{Model: model, Card: card, Client: "x"}, `client: got "x", want chat or fork`},
		"no room":           {Options{Model: model, Card: small}, "want fewer together than num_ctx 80"},
		"roles":             {Options{Model: model, Card: card, Messages: examples[1:]}, `message 1: got role "assistant", want user`},
		"unanswered":        {Options{Model: model, Card: card, Messages: examples[:1]}, "messages: got 1, want each of the user's answered"},
		"token in message":  {Options{Model: model, Card: card, Messages: []api.Message{examples[0], {Role: "assistant", Content: "<|im_end|>"}}}, "control token"},
		"messages for fork": {Options{Model: model, Card: card, Messages: examples, Client: Fork}, "want none"},
	} {
		if _, err := NewSpec(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

// TestUnquotable has texts that Ollama's parser would change.
func TestUnquotable(t *testing.T) {
	model := makeGGUF(t, t.TempDir(), "f16", true)
	for _, text := range []string{`세 개 """ 따옴표`, "👩‍👧 가족", "빈칸\u3000", "\ufeff표"} {
		s := newSpec(t, Options{Model: model, Card: parseCard(t, strings.Replace(cardText, "공손하게", text, 1))})
		if _, err := s.Modelfile("."); !errors.Is(err, ErrModelfile) {
			t.Errorf("%q: got %v, want %v", text, err, ErrModelfile)
		}
	}
	s := newSpec(t, Options{Model: model, Card: parseCard(t, cardText), License: []string{`"`, `""`, ` "a" "" `, "'", "\n", "#"}})
	if _, err := s.Modelfile("."); err != nil {
		t.Error(err)
	}
}
