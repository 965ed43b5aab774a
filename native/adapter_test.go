package llama

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

func writeAdapter(t *testing.T, a *tinymodel.Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lora.gguf")
	if err := a.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadAdapter(t *testing.T, m *Model, path string) *Adapter {
	t.Helper()
	a, err := m.LoadAdapter(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// merged is the model with the adapter's delta added: W + scale·B·A (alpha = rank).
func merged(m, lora *tinymodel.Model, scale float32) *tinymodel.Model {
	out := &tinymodel.Model{KV: m.KV}
	for _, t := range m.Tensors {
		t.Data = append([]float32(nil), t.Data...)
		for i, a := range lora.Tensors {
			if a.Name != t.Name+".lora_a" {
				continue
			}
			b := lora.Tensors[i+1]
			in, rank := a.NE[0], a.NE[1]
			for o := range b.NE[1] {
				for r := range rank {
					for j := range in {
						t.Data[o*in+j] += scale * b.Data[o*rank+r] * a.Data[r*in+j]
					}
				}
			}
		}
		out.Tensors = append(out.Tensors, t)
	}
	return out
}

func TestAdapterEqualsMerge(t *testing.T) {
	base := tinymodel.Random(tinymodel.Options{})
	one, two := tinymodel.LoRA(base, "one", 4), tinymodel.LoRA(base, "two", 2)
	m := loadTiny(t, base)
	c := tinyContext(t, m, nil)
	tokens := mustTokens(t, m, "who are you?")
	plain := lastLogits(t, c, tokens, 0)
	a, b := loadAdapter(t, m, writeAdapter(t, one)), loadAdapter(t, m, writeAdapter(t, two))
	if v, ok := a.Meta("adapter.lora.alpha"); !ok || v != "4.000000" {
		t.Errorf("alpha: got %q, %v", v, ok)
	}
	for _, test := range []struct {
		name  string
		scale []AdapterScale
		want  *tinymodel.Model
	}{
		{"one", []AdapterScale{{a, 1}}, merged(base, one, 1)},
		{"half", []AdapterScale{{a, 0.5}}, merged(base, one, 0.5)},
		{"both", []AdapterScale{{a, 1}, {b, 0.25}}, merged(merged(base, one, 1), two, 0.25)},
	} {
		if err := c.SetAdapters(test.scale); err != nil {
			t.Fatal(err)
		}
		got := lastLogits(t, c, tokens, 0)
		far(t, test.name+" and none", got, plain)
		near(t, test.name, got, lastLogits(t, tinyContext(t, loadTiny(t, test.want), nil), tokens, 0), 0.1)
	}
	if err := c.SetAdapters(nil); err != nil {
		t.Fatal(err)
	}
	near(t, "none again", lastLogits(t, c, tokens, 0), plain, 1e-4)
}

func TestAdapterLifetime(t *testing.T) {
	base := tinymodel.Random(tinymodel.Options{})
	m := loadTiny(t, base)
	path := writeAdapter(t, tinymodel.LoRA(base, "x", 4))
	c := tinyContext(t, m, nil)
	tokens := mustTokens(t, m, "hello")
	a := loadAdapter(t, m, path)
	if err := c.SetAdapters([]AdapterScale{{a, 1}}); err != nil {
		t.Fatal(err)
	}
	want := lastLogits(t, c, tokens, 0)
	a.Close()
	a.Close()
	m.Close()
	near(t, "after close", lastLogits(t, c, tokens, 0), want, 0) // the context still holds it
	wantClosed(t, "set", c.SetAdapters([]AdapterScale{{a, 1}}))
	near(t, "after the error", lastLogits(t, c, tokens, 0), want, 0)
	if _, ok := a.Meta("adapter.type"); ok {
		t.Error("meta of a closed adapter")
	}
	wantClosed(t, "nil", c.SetAdapters([]AdapterScale{{nil, 1}}))
}

func TestAdapterErrors(t *testing.T) {
	base := tinymodel.Random(tinymodel.Options{})
	m := loadTiny(t, base)
	change := func(f func(a *tinymodel.Model)) string {
		a := tinymodel.LoRA(base, "x", 4)
		f(a)
		return writeAdapter(t, a)
	}
	cut := change(func(*tinymodel.Model) {})
	if err := os.Truncate(cut, 3000); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "model.gguf")
	if err := base.Write(model); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"missing": "/no/such/file", "cut": cut, "a model": model,
		"arch":     change(func(a *tinymodel.Model) { a.Set("general.architecture", "llama") }),
		"type":     change(func(a *tinymodel.Model) { a.Set("adapter.type", "other") }),
		"half":     change(func(a *tinymodel.Model) { a.Tensors = a.Tensors[1:] }),
		"name":     change(func(a *tinymodel.Model) { a.Tensors[0].Name = "blk.9.attn_q.weight.lora_a" }),
		"suffix":   change(func(a *tinymodel.Model) { a.Tensors[0].Name = "blk.0.attn_q.weight.other" }),
		"bigger":   writeAdapter(t, tinymodel.LoRA(tinymodel.Random(tinymodel.Options{Embd: 64}), "x", 4)),
		"zero":     change(func(a *tinymodel.Model) { a.Tensors[0].NE, a.Tensors[0].Data = []int{0, 4}, nil }),
		"no bytes": change(func(a *tinymodel.Model) { a.Tensors = nil; a.KV = nil }),
	} {
		a, err := m.LoadAdapter(path)
		if err == nil {
			a.Close()
			t.Errorf("%s: no error", name)
		}
	}
	c := tinyContext(t, m, nil)
	a := loadAdapter(t, m, change(func(*tinymodel.Model) {}))
	if err := c.SetAdapters([]AdapterScale{{a, float32(math.NaN())}}); err == nil {
		t.Error("scale NaN: no error")
	}
	other := tinyContext(t, loadTiny(t, base), nil)
	if err := other.SetAdapters([]AdapterScale{{a, 1}}); err == nil {
		t.Error("adapter of another model: no error")
	}
}
