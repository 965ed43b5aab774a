package convert

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// tinyModel writes the named tiny model into a fresh folder.
func tinyModel(t *testing.T, name string) string {
	t.Helper()
	spec, err := testmodel.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	return dir
}

// editConfig changes keys of config.json; the value nil removes one.
func editConfig(t *testing.T, dir string, edit map[string]any) {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	for k, v := range edit {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	if data, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	write(t, path, string(data))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// weights is one tensor being rewritten.
type weights struct {
	safetensors.Spec
	data []byte
}

// editWeights rewrites the folder's weights as one file after edit.
func editWeights(t *testing.T, dir string, edit func(ws []weights) []weights) {
	t.Helper()
	m, err := safetensors.OpenModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ws []weights
	for _, st := range m.Tensors() {
		data := make([]byte, st.Bytes())
		if err := st.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		ws = append(ws, weights{safetensors.Spec{Name: st.Name, DType: st.DType, Shape: st.Shape}, data})
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "model*.safetensors*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	ws = edit(ws)
	specs := make([]safetensors.Spec, len(ws))
	for i, w := range ws {
		specs[i] = w.Spec
	}
	err = atomicfile.WriteFile(filepath.Join(dir, "model.safetensors"), func(out io.Writer) error {
		return safetensors.Write(out, nil, specs, safetensors.WriteOptions{}, func(i int, w io.Writer) error {
			_, err := w.Write(ws[i].data)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// change replaces one tensor.
func change(name string, f func(w *weights)) func([]weights) []weights {
	return func(ws []weights) []weights {
		for i := range ws {
			if ws[i].Name == name {
				f(&ws[i])
			}
		}
		return ws
	}
}

func drop(name string) func([]weights) []weights {
	return func(ws []weights) []weights {
		return slices.DeleteFunc(ws, func(w weights) bool { return w.Name == name })
	}
}

func add(name string, dtype safetensors.DType, shape ...int64) func([]weights) []weights {
	return func(ws []weights) []weights {
		n := dtype.Size()
		for _, d := range shape {
			n *= d
		}
		return append(ws, weights{safetensors.Spec{Name: name, DType: dtype, Shape: shape}, make([]byte, n)})
	}
}

// TestRefusesWeights holds one model per way in which the files may contradict
// the configuration. The reference accepts most of them in silence.
func TestRefusesWeights(t *testing.T) {
	const up = "model.layers.1.mlp.up_proj.weight"
	for _, c := range []struct {
		name, model string
		edit        func([]weights) []weights
		want        []string
	}{
		{"missing tensor", "qwen3-tied", drop(up), []string{up, "missing"}},
		{"missing head of an untied model", "qwen3-untied", drop("lm_head.weight"), []string{"lm_head.weight", "missing", "tie_word_embeddings"}},
		{"missing bias", "qwen2", drop("model.layers.0.self_attn.k_proj.bias"), []string{"k_proj.bias", "missing"}},
		{"missing expert", "qwen3moe", drop("model.layers.1.mlp.experts.2.up_proj.weight"), []string{"experts.2.up_proj.weight", "missing"}},
		{"unknown tensor", "qwen3-tied", add("model.layers.0.foo.weight", "F32", 4), []string{"model.layers.0.foo.weight", "unknown"}},
		{"known name inside another", "qwen3-tied", add("x.model.layers.0.mlp.up_proj.weight", "F32", 4), []string{"x.model.layers.0", "unknown"}},
		{"block with a leading zero", "qwen3-tied", add("model.layers.01.mlp.up_proj.weight", "F32", 4), []string{"model.layers.01", "unknown"}},
		{"block out of range", "qwen3-tied", add("model.layers.99.mlp.up_proj.weight", "F32", 4), []string{"got 99", "want less than"}},
		{"expert out of range", "qwen3moe", add("model.layers.0.mlp.experts.99.up_proj.weight", "F32", 4), []string{"got 99", "want less than"}},
		{"the same tensor under two names", "qwen3-tied", add("norm.weight", "BF16", 64), []string{"model.norm.weight", "the same tensor"}},
		{"wrong shape", "qwen3-tied", change(up, func(w *weights) { w.Shape = []int64{w.Shape[1], w.Shape[0]} }), []string{up, "got [", "want ["}},
		{"integers", "qwen3-tied", change(up, func(w *weights) { w.DType = "I16" }), []string{up, "got I16", "want F32, F16 or BF16"}},
		{"float8", "qwen3-tied", change(up, func(w *weights) { w.DType = "F8_E4M3"; w.data = w.data[:len(w.data)/2] }), []string{up, "got F8_E4M3"}},
		{"float64", "qwen3-f32-head", change(up, func(w *weights) { w.DType = "F64"; w.data = append(w.data, w.data...) }), []string{up, "got F64"}},
		{"no weights", "qwen3-tied", func([]weights) []weights { return nil }, []string{"tensors"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tinyModel(t, c.model)
			editWeights(t, dir, c.edit)
			refused(t, dir, Options{}, append(c.want, dir))
		})
	}
}

// refused checks that planning fails with all the given words and leaves
// nothing in the folder.
func refused(t *testing.T, dir string, o Options, want []string) {
	t.Helper()
	p, err := NewPlan(context.Background(), dir, o)
	if err == nil {
		p.Close()
		t.Fatalf("accepted, want an error with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to contain %q", err, w)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.gguf*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRefusesConfig holds one config.json per way to be wrong.
func TestRefusesConfig(t *testing.T) {
	for _, c := range []struct {
		name, model string
		edit        map[string]any
		want        []string
	}{
		{"unknown architecture", "qwen3-tied", map[string]any{"architectures": []string{"FooForCausalLM"}}, []string{"FooForCausalLM", "Exaone4ForCausalLM, ExaoneForCausalLM", "Qwen3MoeForCausalLM"}},
		{"no architecture", "qwen3-tied", map[string]any{"architectures": nil}, []string{"architectures", "missing"}},
		{"wrong model type", "qwen3-tied", map[string]any{"model_type": "bert"}, []string{`"bert"`, "want qwen3"}},
		{"quantized", "qwen3-tied", map[string]any{"quantization_config": map[string]any{"quant_method": "fp8"}}, []string{"quantization_config", "fp8"}},
		{"float block count", "qwen3-tied", map[string]any{"num_hidden_layers": 2.5}, []string{"num_hidden_layers", "2.5", "want an integer"}},
		{"huge block count", "qwen3-tied", map[string]any{"num_hidden_layers": 4000000000}, []string{"num_hidden_layers", "4000000000"}},
		{"negative context", "qwen3-tied", map[string]any{"max_position_embeddings": -1}, []string{"max_position_embeddings", "-1"}},
		{"text for a number", "qwen3-tied", map[string]any{"hidden_size": "64"}, []string{"hidden_size", "a string"}},
		{"heads that do not divide", "qwen3-tied", map[string]any{"num_key_value_heads": 3}, []string{"num_key_value_heads", "got 3"}},
		{"layer types of another length", "qwen3-tied", map[string]any{"layer_types": []string{"full_attention"}}, []string{"layer_types", "got 1"}},
		{"unknown layer type", "exaone4", map[string]any{"layer_types": []string{"round_attention"}}, []string{"layer_types", "round_attention"}},
		{"rope scaling is a list", "mistral-spm", map[string]any{"rope_scaling": []int{1}}, []string{"rope_scaling", "an array"}},
		{"yarn without its context", "qwen3-tied", map[string]any{"rope_scaling": map[string]any{"type": "yarn", "factor": 2}}, []string{"original_max_position_embeddings", "missing"}},
		{"unknown gating", "qwen3moe", map[string]any{"scoring_func": "dice"}, []string{"scoring_func", "dice"}},
		{"reranker", "qwen3-tied", map[string]any{"rms_norm_eps": 1e-6}, nil},
		{"activation", "exaone35", map[string]any{"activation_function": "gelu"}, []string{"activation_function", "gelu"}},
		{"eagle draft", "llama-bpe", map[string]any{"draft_vocab_size": 10}, []string{"draft_vocab_size"}},
		{"alternating mistral", "mistral-spm", map[string]any{"layer_types": []string{}}, []string{"layer_types"}},
		{"gemma soft cap", "gemma3", map[string]any{"attn_logit_softcapping": 30}, []string{"attn_logit_softcapping"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tinyModel(t, c.model)
			editConfig(t, dir, c.edit)
			if c.want == nil { // the folder's name makes it
				renamed := filepath.Join(filepath.Dir(dir), "Qwen3-Reranker-tiny")
				if err := os.Rename(dir, renamed); err != nil {
					t.Fatal(err)
				}
				dir, c.want = renamed, []string{"reranker"}
			}
			refused(t, dir, Options{}, append(c.want, "config.json"))
		})
	}
}

// TestRefusesFiles holds broken files beside the weights.
func TestRefusesFiles(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		o                Options
		want             []string
	}{
		{"NaN in the config", "config.json", `{"rms_norm_eps": NaN}`, Options{}, []string{"config.json", "line 1, column 18"}},
		{"too large a number", "config.json", `{"rms_norm_eps": 1e999}`, Options{}, []string{"config.json", "1e999"}},
		{"config is a list", "config.json", `[]`, Options{}, []string{"config.json", "want an object"}},
		{"version that is a number", "README.md", "---\nversion: 1.0\n---\n", Options{}, []string{"README.md", "general.version", "in quotes"}},
		{"front matter that is no YAML", "README.md", "---\nname: [a\n---\n", Options{}, []string{"README.md", "front matter"}},
		{"front matter that grows", "README.md", "---\na: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n---\n", Options{}, []string{"README.md", "more than"}},
		{"no UTF-8", "README.md", "\xff", Options{}, []string{"README.md", "UTF-8"}},
		{"top_k that is no integer", "generation_config.json", `{"top_k": 1.5}`, Options{}, []string{"generation_config.json", "top_k", "1.5"}},
		{"quantized by another file", "hf_quant_config.json", `{}`, Options{}, []string{"hf_quant_config.json"}},
		{"pooling outside the folder", "modules.json", `[{"type": "x.Pooling", "path": "../p"}]`, Options{}, []string{"modules.json", `"../p"`}},
		{"output type", "x", "", Options{OutType: "q4_9"}, []string{`"q4_9"`, "f32, f16, bf16, q8_0, auto or a type of quantize"}},
		{"output over a source", "x", "", Options{OutFile: "DIR/config.json"}, []string{"would replace config.json"}},
		{"output in no folder", "x", "", Options{OutFile: "DIR/none/x.gguf"}, []string{"none"}},
		{"output name with a strange brace", "x", "", Options{OutFile: "DIR/{x}.gguf"}, []string{"{x}", "{ftype}"}},
		{"override file missing", "x", "", Options{Metadata: "DIR/nope.json"}, []string{"nope.json"}},
		{"override that is no object", "o.json", "[]", Options{Metadata: "DIR/o.json"}, []string{"o.json", "want an object"}},
		{"override of a wrong type", "o.json", `{"general.tags": "x"}`, Options{Metadata: "DIR/o.json"}, []string{"o.json", "general.tags"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tinyModel(t, "qwen3-tied")
			write(t, filepath.Join(dir, c.file), c.text)
			c.o.OutFile = strings.ReplaceAll(c.o.OutFile, "DIR", dir)
			c.o.Metadata = strings.ReplaceAll(c.o.Metadata, "DIR", dir)
			refused(t, dir, c.o, c.want)
		})
	}
	if _, err := NewPlan(context.Background(), filepath.Join(t.TempDir(), "none"), Options{}); err == nil {
		t.Error("a folder that is not there: accepted")
	}
}
