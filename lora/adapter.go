package lora

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// keyPrefix begins every key of adapter_model.safetensors: PeftModel's base_model and
// LoraModel's model.
const keyPrefix = "base_model.model."

// Adapter is an open adapter folder.
type Adapter struct {
	Dir    string
	Weight float64 // how strongly it acts, 1 as trained
	Config *Config

	training *Training
	file     *safetensors.File
	modules  map[string]*module             // by the path of the module in the model
	full     map[string]*safetensors.Tensor // whole tensors by the name they have in the model
}

// module is what the adapter holds for one module of the model.
type module struct {
	path   string
	levels map[int]*pair // 0, or the depth of nesting when parameters of one module are adapted

	magnitude  *safetensors.Tensor // DoRA
	tokens     *safetensors.Tensor // replacement rows
	baseWeight *safetensors.Tensor // a copy of the embedding, saved beside its LoRA
	baseBias   *safetensors.Tensor
}

// pair is the two factors of one update.
type pair struct {
	a, b, bias *safetensors.Tensor
	embedding  bool
}

// openAdapter opens a folder and sorts its tensors by module.
func openAdapter(dir string, weight float64) (*Adapter, error) {
	a := &Adapter{Dir: dir, Weight: weight, modules: map[string]*module{}, full: map[string]*safetensors.Tensor{}}
	if math.IsNaN(weight) || math.IsInf(weight, 0) {
		return nil, fmt.Errorf("adapter %s: weight: got %v, want a number", dir, weight)
	}
	var err error
	if a.Config, err = ReadConfig(dir); err != nil {
		return nil, err
	}
	if a.training, err = readTraining(dir); err != nil {
		return nil, err
	}
	if a.file, err = safetensors.Open(filepath.Join(dir, weightsName)); err != nil {
		return nil, err
	}
	for _, t := range a.file.Tensors {
		if err := a.sort(t); err != nil {
			a.file.Close()
			return nil, a.errorf(t, "%w", err)
		}
	}
	if len(a.file.Tensors) == 0 {
		a.file.Close()
		return nil, fmt.Errorf("read %s: got no tensors, want an adapter's", a.file.Path)
	}
	return a, nil
}

func (a *Adapter) errorf(t *safetensors.Tensor, format string, args ...any) error {
	return fmt.Errorf("read %s: tensor %s: %w", a.file.Path, t.Name, fmt.Errorf(format, args...))
}

// slots are the endings of keys that belong to a module, and where they go.
var slots = []struct {
	suffix string
	put    func(m *module, p *pair) **safetensors.Tensor
	level  bool // belongs to a pair
}{
	{".lora_A.weight", func(_ *module, p *pair) **safetensors.Tensor { return &p.a }, true},
	{".lora_B.weight", func(_ *module, p *pair) **safetensors.Tensor { return &p.b }, true},
	{".lora_B.bias", func(_ *module, p *pair) **safetensors.Tensor { return &p.bias }, true},
	{".lora_embedding_A", func(_ *module, p *pair) **safetensors.Tensor { p.embedding = true; return &p.a }, true},
	{".lora_embedding_B", func(_ *module, p *pair) **safetensors.Tensor { p.embedding = true; return &p.b }, true},
	{".lora_magnitude_vector", func(m *module, _ *pair) **safetensors.Tensor { return &m.magnitude }, false},
	{".token_adapter.trainable_tokens_delta", func(m *module, _ *pair) **safetensors.Tensor { return &m.tokens }, false},
	{".base_layer.weight", func(m *module, _ *pair) **safetensors.Tensor { return &m.baseWeight }, false},
	{".base_layer.bias", func(m *module, _ *pair) **safetensors.Tensor { return &m.baseBias }, false},
}

// sort finds the place of one tensor.
func (a *Adapter) sort(t *safetensors.Tensor) error {
	switch t.DType {
	case safetensors.F32, safetensors.F16, safetensors.BF16:
	default:
		return fmt.Errorf("unsupported dtype: got %s, want F32, F16 or BF16", t.DType)
	}
	name, ok := strings.CutPrefix(t.Name, keyPrefix)
	if !ok {
		return fmt.Errorf("unknown tensor: want names that begin with %s, as PEFT writes them", keyPrefix)
	}
	for _, s := range slots {
		path, ok := strings.CutSuffix(name, s.suffix)
		if !ok {
			continue
		}
		level := 0
		for s.level {
			inner, nested := strings.CutSuffix(path, ".base_layer")
			if !nested {
				break
			}
			path = inner
			level++
		}
		m := a.module(path)
		var p *pair
		if s.level {
			if p = m.levels[level]; p == nil {
				p = new(pair)
				m.levels[level] = p
			}
		}
		*s.put(m, p) = t
		return nil
	}
	if strings.Contains(name, "lora_") || strings.Contains(name, "base_layer.") {
		return errors.New("unknown tensor: no part of a LoRA adapter that can be merged has this ending")
	}
	a.full[name] = t
	return nil
}

func (a *Adapter) module(path string) *module {
	m := a.modules[path]
	if m == nil {
		m = &module{path: path, levels: map[int]*pair{}}
		a.modules[path] = m
	}
	return m
}

// rank and scale are those of a module, by the patterns. The scale includes the
// adapter's weight; it is rounded to float32 where it is used.
func (a *Adapter) rank(path string) int {
	return int(value(a.Config.RankPattern, path, float64(a.Config.R)))
}

func (a *Adapter) scale(path string) float64 {
	alpha, r := value(a.Config.AlphaPattern, path, a.Config.Alpha), float64(a.rank(path))
	if a.Config.UseRSLoRA {
		r = math.Sqrt(r)
	}
	return alpha / r * a.Weight
}
