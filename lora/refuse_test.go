package lora

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// folder copies a golden's adapter, changes its config and tensors, and writes its base.
func folder(t *testing.T, name string, config func(c map[string]any), tensors func(m map[string]saved)) (base, adapter string) {
	t.Helper()
	model, _, _ := strings.Cut(name, ".")
	base, adapter = filepath.Join(t.TempDir(), model), filepath.Join(t.TempDir(), "adapter")
	spec, err := testmodel.Find(model)
	if err != nil {
		t.Fatal(err)
	}
	if err := testmodel.Write(base, spec); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(adapter, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join("testdata", "adapters", name, configName))
	if err != nil {
		t.Fatal(err)
	}
	c := map[string]any{}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		config(c)
	}
	if data, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(adapter, configName), data, 0o644); err != nil {
		t.Fatal(err)
	}
	m := load(t, filepath.Join("testdata", "adapters", name, weightsName))
	if tensors != nil {
		tensors(m)
	}
	save(t, filepath.Join(adapter, weightsName), m)
	return base, adapter
}

// saved is a tensor of a file.
type saved struct {
	dtype safetensors.DType
	shape []int64
	data  []byte
}

func load(t *testing.T, path string) map[string]saved {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string]saved{}
	for _, x := range f.Tensors {
		p := make([]byte, x.Bytes())
		if err := x.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
		m[x.Name] = saved{x.DType, x.Shape, p}
	}
	return m
}

func save(t *testing.T, path string, m map[string]saved) {
	t.Helper()
	var specs []safetensors.Spec
	for _, name := range sortedKeys(m) {
		specs = append(specs, safetensors.Spec{Name: name, DType: m[name].dtype, Shape: m[name].shape})
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, nil, specs, safetensors.WriteOptions{}, func(i int, w io.Writer) error {
		_, err := w.Write(m[specs[i].Name].data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

const (
	qA = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
	qB = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
)

// TestRefuses: one way to be wrong each.
func TestRefuses(t *testing.T) {
	set := func(key string, value any) func(map[string]any) {
		return func(c map[string]any) { c[key] = value }
	}
	for _, c := range []struct {
		name, adapter string
		config        func(map[string]any)
		tensors       func(map[string]saved)
		options       Options
		weight        float64
		want          []string
	}{
		{name: "another method", config: set("peft_type", "LOHA"), want: []string{"peft_type", "LOHA"}},
		{name: "rank 0", config: set("r", 0), want: []string{"r: got"}},
		{name: "rank too large", config: set("r", 1<<30), want: []string{"r: got"}},
		{name: "rank that the tensors do not have", config: set("r", 3), want: []string{"lora_A.weight", "shape: got [2 96], want [3 96]"}},
		{name: "base changed by PiSSA", config: set("init_lora_weights", "pissa_niter_4"), want: []string{"init_lora_weights", "pissa_niter_4"}},
		{name: "base changed by OLoRA", config: set("init_lora_weights", "olora"), want: []string{"olora"}},
		{name: "layers repeated", config: set("layer_replication", [][]int{{0, 1}}), want: []string{"layer_replication", "not supported"}},
		{name: "QALoRA", config: set("use_qalora", true), want: []string{"use_qalora"}},
		{name: "aLoRA", config: set("alora_invocation_tokens", []int{1}), want: []string{"alora_invocation_tokens"}},
		{name: "a key of tomorrow", config: set("use_next_thing", "yes"), want: []string{"use_next_thing", "unknown key"}},
		{name: "bias", config: set("bias", "some"), want: []string{"bias", "some"}},
		{name: "a Python expression", config: set("rank_pattern", map[string]int{"(?!x)q_proj": 2}), want: []string{"rank_pattern", "(?!x)q_proj"}},
		{name: "alpha that is no number", config: set("lora_alpha", "x"), want: []string{"adapter_config.json"}},
		{name: "DoRA without magnitudes", config: set("use_dora", true), want: []string{"use_dora", "lora_magnitude_vector"}},
		{name: "A without B", tensors: func(m map[string]saved) { delete(m, qB) }, want: []string{"q_proj", "only one of"}},
		{name: "a module without tensors", tensors: func(m map[string]saved) { delete(m, qA); delete(m, qB) }, want: []string{"layers.0.self_attn.q_proj", "targets it"}},
		{name: "shape of B", tensors: func(m map[string]saved) { x := m[qB]; x.shape = []int64{x.shape[1], x.shape[0]}; m[qB] = x }, want: []string{"lora_B.weight", "shape"}},
		{name: "integers", tensors: func(m map[string]saved) { x := m[qB]; x.dtype = safetensors.I16; m[qB] = x }, want: []string{"lora_B.weight", "I16"}},
		{name: "no such module", tensors: func(m map[string]saved) { move(m, qA, "q_proj", "z_proj"); move(m, qB, "q_proj", "z_proj") }, want: []string{"z_proj"}},
		{name: "another prefix", tensors: func(m map[string]saved) { move(m, qA, "base_model.", "lora.") }, want: []string{"base_model.model."}},
		{name: "an unknown part", tensors: func(m map[string]saved) { move(m, qA, "lora_A.weight", "lora_E") }, want: []string{"lora_E", "unknown tensor"}},
		{name: "a whole tensor of no one", tensors: func(m map[string]saved) { m["base_model.model.score.weight"] = m[qA] }, want: []string{"score.weight", "unknown tensor"}},
		{name: "a norm of another size", adapter: "qwen3-tied.norm", tensors: func(m map[string]saved) {
			for name := range m {
				if strings.HasSuffix(name, "norm.weight") {
					m[name] = m[qA]
					return
				}
			}
		}, want: []string{"norm.weight", "shape"}},
		{name: "weighted norm", adapter: "qwen3-tied.norm", weight: 0.5, want: []string{"norm.weight", "weight 0.5"}},
		{name: "weighted DoRA", adapter: "qwen3-tied.dora", weight: 0.5, want: []string{"lora_magnitude_vector", "alone"}},
		{name: "weight that is no number", weight: math.NaN(), want: []string{"weight"}},
		{name: "token beyond the vocabulary", adapter: "qwen3-tied.tokens", config: set("trainable_token_indices", []int{5, 2, 1 << 20}), want: []string{"token id", "1048576"}},
		{name: "tokens of another number", adapter: "qwen3-tied.tokens", config: set("trainable_token_indices", []int{5, 2}), want: []string{"trainable_tokens_delta", "shape"}},
		{name: "bias for a layer without one", adapter: "qwen2.lora-bias", tensors: func(m map[string]saved) {
			for _, name := range sortedKeys(m) {
				if strings.HasSuffix(name, "k_proj.lora_B.bias") {
					move(m, name, "self_attn.k_proj", "mlp.up_proj")
					return
				}
			}
		}, want: []string{"up_proj"}},
		{name: "base quantization", options: Options{BaseQuant: "fp4"}, want: []string{"fp4"}},
		{name: "output dtype", options: Options{DType: safetensors.I8}, want: []string{"I8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.adapter == "" {
				c.adapter = "qwen3-tied.plain"
			}
			if c.weight == 0 {
				c.weight = 1
			}
			base, adapter := folder(t, c.adapter, c.config, c.tensors)
			m, err := Open(context.Background(), base, []Source{{adapter, c.weight}}, c.options)
			if err == nil {
				m.Close()
				t.Fatal("accepted, want an error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
		})
	}
}

func move(m map[string]saved, name, from, to string) {
	m[strings.Replace(name, from, to, 1)] = m[name]
	delete(m, name)
}

// TestConfigKeys: every key that PEFT wrote into the goldens' adapters is in the table.
func TestConfigKeys(t *testing.T) {
	files, err := filepath.Glob("testdata/adapters/*/" + configName)
	if err != nil || len(files) < 60 {
		t.Fatalf("got %d files (%v), want all", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil {
			t.Fatal(err)
		}
		if len(keys) < 38 {
			t.Errorf("%s: got %d keys, want PEFT's", file, len(keys))
		}
		for key := range keys {
			if _, ok := configKeys[key]; !ok {
				t.Errorf("%s: key %s is not in the table", file, key)
			}
		}
	}
}

// TestWeights: two adapters add up, and weight 0 leaves the base's bytes.
func TestWeights(t *testing.T) {
	base, one := folder(t, "qwen3-tied.plain", nil, nil)
	_, two := folder(t, "qwen3-tied.rslora", nil, nil)
	merged := func(sources ...Source) []float32 {
		m, err := Open(context.Background(), base, sources, Options{DType: safetensors.F32})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		x, _ := m.Model().Tensor("model.layers.0.self_attn.q_proj.weight")
		v := make([]float32, x.Elements())
		if err := readFloats(v, x, 0); err != nil {
			t.Fatal(err)
		}
		return v
	}
	w, a, b, both := merged(Source{one, 0}), merged(Source{one, 1}), merged(Source{two, 1}), merged(Source{one, 0.7}, Source{two, 0.3})
	changed := false
	for i := range w {
		want := float64(w[i]) + 0.7*float64(a[i]-w[i]) + 0.3*float64(b[i]-w[i])
		if math.Abs(float64(both[i])-want) > 1e-6 {
			t.Fatalf("element %d: got %v, want %v", i, both[i], want)
		}
		changed = changed || a[i] != w[i]
	}
	if !changed {
		t.Error("the adapter has no effect")
	}
}

// TestWrite: a folder of the base's shards that opens again, and nothing after a failure.
func TestWrite(t *testing.T) {
	base, adapter := folder(t, "qwen3-tied.embeddings", nil, nil)
	var warnings []string
	m, err := Open(context.Background(), base, []Source{{adapter, 1}}, Options{Warn: func(s string) { warnings = append(warnings, s) }})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	parent := t.TempDir()
	out := filepath.Join(parent, "out")
	cancelled, cancel := context.WithCancel(context.Background())
	stop := WriteOptions{Progress: func(int64, int64) { cancel() }}
	if _, err := m.Write(cancelled, out, stop); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: got %v", err)
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 0 {
		t.Fatalf("cancelled: got %d files left, want none", len(entries))
	}
	r, err := m.Write(context.Background(), out, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := safetensors.OpenModel(out)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if len(again.Files) != 2 || r.Shards != 2 || again.Bytes() != r.Bytes {
		t.Errorf("got %d files, %+v", len(again.Files), r)
	}
	if _, ok := again.Tensor(headName); !ok {
		t.Error("got no lm_head, want one of its own")
	}
	config, err := os.ReadFile(filepath.Join(out, "config.json"))
	if err != nil || !strings.Contains(string(config), `"tie_word_embeddings": false`) {
		t.Errorf("config.json: got %s (%v), want it untied", config, err)
	}
	if len(warnings) == 0 || !strings.Contains(strings.Join(warnings, "\n"), "tie_word_embeddings") {
		t.Errorf("warnings: got %q", warnings)
	}
	if _, err := m.Write(context.Background(), out, WriteOptions{}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over a folder: got %v, want a refusal", err)
	}
}

// TestNF4Base: the record of training decides, the option overrides it, and rows read in
// pieces are those read whole.
func TestNF4Base(t *testing.T) {
	base, adapter := folder(t, "qwen3-tied.plain", nil, nil)
	record := `{"version": 1, "base_quant": {"type": "nf4", "double_quant": true, "block_size": 64, "offsets": {"model.layers.0.self_attn.q_proj": 0.0625}}}`
	if err := os.WriteFile(filepath.Join(adapter, trainingName), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func(o Options) (*Merge, []byte) {
		m, err := Open(context.Background(), base, []Source{{adapter, 1}}, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		x, _ := m.Model().Tensor("model.layers.0.self_attn.q_proj.weight")
		p := make([]byte, x.Bytes())
		const step = 330 // no multiple of a row
		for off := 0; off < len(p); off += step {
			if err := x.ReadAt(p[off:min(off+step, len(p))], int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		whole := make([]byte, x.Bytes())
		if err := x.ReadAt(whole, 0); err != nil || string(whole) != string(p) {
			t.Fatalf("pieces differ from the whole (%v)", err)
		}
		return m, p
	}
	m, recorded := read(Options{})
	if m.BaseQuant != QuantNF4 || !m.Recorded {
		t.Errorf("got %q, recorded %v, want nf4 as recorded", m.BaseQuant, m.Recorded)
	}
	m, plain := read(Options{BaseQuant: QuantNone})
	if m.BaseQuant != QuantNone || string(plain) == string(recorded) {
		t.Errorf("got %q, want other weights with none", m.BaseQuant)
	}
	wrong := strings.Replace(record, "layers.0", "layers.99", 1)
	if err := os.WriteFile(filepath.Join(adapter, trainingName), []byte(wrong), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), base, []Source{{adapter, 1}}, Options{}); err == nil || !strings.Contains(err.Error(), "layers.99") {
		t.Errorf("a module that the base lacks: got %v", err)
	}
}
