package lora_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// golden is what testdata/make_golden.py writes.
type golden struct {
	Model, Kind string
	Tensors     map[string]struct {
		Shape        []int64
		Count, Step  int64
		Values       []float64
		Sum, Squares float64
	}
	Absent []string
	IDs    []llama.Token
	Logits struct {
		Step   int
		Values []float64
		Argmax int
	}
}

// tensorTolerance is relative to the largest value: float32 merges differ by the order of
// sums and, with DoRA, of norms (1e-7 seen).
const tensorTolerance = 5e-7

// logitTolerance of a model, relative to the largest logit: llama.cpp sums in another order
// than PyTorch (5e-6 seen), and takes Gemma's GELU from a table in f16 (1e-3 seen).
func logitTolerance(model string) float64 {
	if strings.HasPrefix(model, "gemma") {
		return 1e-2
	}
	return 2e-5
}

// TestEqualsPEFT compares merged tensors and logits with PEFT's merge_and_unload.
func TestEqualsPEFT(t *testing.T) {
	files, err := filepath.Glob("testdata/*.*.golden.json")
	if err != nil || len(files) < 60 {
		t.Fatalf("got %d goldens (%v), want all", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".golden.json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(data, &g); err != nil {
				t.Fatal(err)
			}
			base := filepath.Join(t.TempDir(), g.Model)
			spec, err := testmodel.Find(g.Model)
			if err != nil {
				t.Fatal(err)
			}
			if err := testmodel.Write(base, spec); err != nil {
				t.Fatal(err)
			}
			source := []lora.Source{{Dir: filepath.Join("testdata", "adapters", name), Weight: 1}}
			m, err := lora.Open(context.Background(), base, source, lora.Options{DType: safetensors.F32})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			compareTensors(t, m.Model(), &g)
			compareLogits(t, base, source, spec.Pre, &g)
		})
	}
}

func compareTensors(t *testing.T, m *safetensors.Model, g *golden) {
	t.Helper()
	for _, name := range g.Absent {
		if _, ok := m.Tensor(name); ok {
			t.Errorf("tensor %s: got one, want none", name)
		}
	}
	if len(m.Tensors()) != len(g.Tensors) {
		t.Errorf("got %d tensors, want %d", len(m.Tensors()), len(g.Tensors))
	}
	worst := 0.0
	for _, tensor := range m.Tensors() {
		want, ok := g.Tensors[tensor.Name]
		if !ok {
			t.Errorf("tensor %s: want none of that name", tensor.Name)
			continue
		}
		if tensor.Elements() != want.Count {
			t.Errorf("tensor %s: got shape %v, want %v", tensor.Name, tensor.Shape, want.Shape)
			continue
		}
		v := floats(t, tensor)
		scale, sum, squares := 0.0, 0.0, 0.0
		for _, x := range v {
			scale = max(scale, math.Abs(float64(x)))
			sum += float64(x)
			squares += float64(x) * float64(x)
		}
		for i, x := range want.Values {
			if diff := math.Abs(float64(v[int64(i)*want.Step])-x) / scale; diff > tensorTolerance {
				t.Errorf("tensor %s: element %d: got %v, want %v", tensor.Name, int64(i)*want.Step, v[int64(i)*want.Step], x)
			} else {
				worst = max(worst, diff)
			}
		}
		n := math.Sqrt(float64(len(v)))
		if math.Abs(sum-want.Sum) > tensorTolerance*scale*n || math.Abs(squares-want.Squares) > tensorTolerance*squares {
			t.Errorf("tensor %s: sum and squares: got %v and %v, want %v and %v", tensor.Name, sum, squares, want.Sum, want.Squares)
		}
	}
	t.Logf("tensors: largest difference %.1e", worst)
}

func floats(t *testing.T, tensor *safetensors.Tensor) []float32 {
	t.Helper()
	p := make([]byte, tensor.Bytes())
	if err := tensor.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	v := make([]float32, tensor.Elements())
	if err := llama.DecodeRows(v, p, 0, int64(len(v))); err != nil {
		t.Fatal(err)
	}
	return v
}

// logits runs a GGUF file over the golden's tokens, all in float32.
func logits(t *testing.T, path string, ids []llama.Token, adapter string) []float32 {
	t.Helper()
	m, err := llama.LoadModel(path, llama.DefaultModelParams())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := llama.DefaultContextParams()
	p.NCtx, p.TypeK, p.TypeV, p.FlashAttn = 256, 0, 0, llama.FlashAttnOff // all F32
	c, err := m.NewContext(p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if adapter != "" {
		a, err := m.LoadAdapter(adapter)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := c.SetAdapters([]llama.AdapterScale{{Adapter: a, Scale: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DecodeTokens(ids, 0, 0, llama.LogitsLast); err != nil {
		t.Fatal(err)
	}
	v, err := c.Logits(-1)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), v...)
}

func compareLogits(t *testing.T, base string, source []lora.Source, pre string, g *golden) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "f32.gguf")
	writePlan(t, out, func(o convert.Options) (*convert.Plan, error) {
		o.PreTokenizer, o.Adapters, o.FixKeys = pre, source, true
		o.Merge.DType = safetensors.F32
		return convert.NewPlan(context.Background(), base, o)
	})
	v := logits(t, out, g.IDs, "")
	scale := 0.0
	for _, x := range v {
		scale = max(scale, math.Abs(float64(x)))
	}
	worst := 0.0
	for i, want := range g.Logits.Values {
		worst = max(worst, math.Abs(float64(v[i*g.Logits.Step])-want)/scale)
	}
	if want := logitTolerance(g.Model); worst > want {
		t.Errorf("logits: largest difference %.1e, want at most %.0e", worst, want)
	}
	t.Logf("logits: largest difference %.1e", worst)
}

func writePlan(t *testing.T, out string, open func(o convert.Options) (*convert.Plan, error)) {
	t.Helper()
	p, err := open(convert.Options{OutType: "f32", OutFile: out})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Write(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestAdapterOnly: the GGUF adapter beside the base gives the merged model's logits, with
// rsLoRA and patterns too.
func TestAdapterOnly(t *testing.T) {
	for _, model := range []string{"qwen3-tied", "qwen2", "llama-bpe", "mistral-spm", "gemma3-f16", "exaone4", "qwen3moe"} {
		for _, kind := range []string{"plain", "rslora", "patterns"} {
			t.Run(model+"."+kind, func(t *testing.T) {
				t.Parallel()
				adapter := filepath.Join("testdata", "adapters", model+"."+kind)
				base := filepath.Join(t.TempDir(), model)
				spec, err := testmodel.Find(model)
				if err != nil {
					t.Fatal(err)
				}
				if err := testmodel.Write(base, spec); err != nil {
					t.Fatal(err)
				}
				plain, merged, alone := filepath.Join(t.TempDir(), "base.gguf"), filepath.Join(t.TempDir(), "merged.gguf"), filepath.Join(t.TempDir(), "lora.gguf")
				writePlan(t, plain, func(o convert.Options) (*convert.Plan, error) {
					o.PreTokenizer = spec.Pre
					return convert.NewPlan(context.Background(), base, o)
				})
				writePlan(t, merged, func(o convert.Options) (*convert.Plan, error) {
					o.PreTokenizer, o.Adapters = spec.Pre, []lora.Source{{Dir: adapter, Weight: 1}}
					o.Merge.DType = safetensors.F32
					return convert.NewPlan(context.Background(), base, o)
				})
				writePlan(t, alone, func(o convert.Options) (*convert.Plan, error) {
					return convert.NewAdapterPlan(context.Background(), base, adapter, o)
				})
				ids := []llama.Token{3, 17, 5, 41, 29, 8, 60, 11}
				got, want, without := logits(t, plain, ids, alone), logits(t, merged, ids, ""), logits(t, plain, ids, "")
				if d := distance(got, want); d > logitTolerance(model) {
					t.Errorf("adapter against merged: relative difference %.1e, want at most %.0e", d, logitTolerance(model))
				}
				if d := distance(without, want); d < 1e-2 {
					t.Errorf("the adapter changes the logits by %.1e only", d)
				}
			})
		}
	}
}

// distance is the largest difference relative to the largest value.
func distance(a, b []float32) float64 {
	scale, diff := 0.0, 0.0
	for i := range a {
		scale = max(scale, math.Abs(float64(b[i])))
		diff = max(diff, math.Abs(float64(a[i])-float64(b[i])))
	}
	return diff / scale
}
