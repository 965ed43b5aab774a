package lora

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// nf4Source gives a base weight as a QLoRA trainer saw it.
type nf4Source struct {
	w       *safetensors.Tensor
	options NF4Options

	once sync.Once
	q    *NF4
	err  error
}

// apply replaces v, the elements from first on, by what bitsandbytes gives after
// quantization to NF4 and back.
func (s *nf4Source) apply(v []float32, first int64) error {
	s.once.Do(func() {
		s.q, s.err = NewNF4(s.w.Elements(), func(dst []float32, at int64) error { return readFloats(dst, s.w, at) }, s.options)
	})
	if s.err != nil {
		return s.err
	}
	s.q.Apply(v, first, s.w.DType)
	return nil
}

// quantize decides which weights the adapters are added to.
func (m *Merge) quantize(b *binder) error {
	recorded, err := m.recorded()
	if err != nil {
		return err
	}
	options := NF4Options{DoubleQuant: m.opts.DoubleQuant, BlockSize: 64}
	var modules map[string]float64
	m.BaseQuant = m.opts.BaseQuant
	switch {
	case m.opts.BaseQuant == QuantAuto && recorded == nil:
		m.BaseQuant = QuantNone
	case m.opts.BaseQuant == QuantAuto:
		m.BaseQuant = QuantNF4
	case m.opts.BaseQuant != QuantNone && m.opts.BaseQuant != QuantNF4:
		return fmt.Errorf("merge: base quantization: got %q, want none or nf4", m.opts.BaseQuant)
	}
	if recorded != nil && recorded.BaseQuant != nil {
		m.Recorded = m.BaseQuant == QuantNF4
		if m.BaseQuant == QuantNF4 {
			q := recorded.BaseQuant
			options.DoubleQuant, options.BlockSize, modules = q.DoubleQuant, q.BlockSize, q.Offsets
			options.GPU = q.Device != "" && q.Device != "cpu"
		} else {
			m.opts.Warn("the adapter was trained on the base in NF4 (QLoRA), and is merged into the base as it lies in its files")
		}
	}
	if m.BaseQuant == QuantNone {
		return nil
	}
	return b.quantize(options, modules)
}

// recorded gives what the adapters' trainer wrote, when it loaded the base in NF4.
func (m *Merge) recorded() (*Training, error) {
	var found *Training
	plain := 0
	for _, a := range m.adapters {
		if a.training == nil || a.training.BaseQuant == nil {
			plain++
			continue
		}
		found = a.training
	}
	if found != nil && plain > 0 && m.opts.BaseQuant == QuantAuto {
		return nil, fmt.Errorf("merge into %s: some adapters were trained on NF4 weights and some were not: choose the base quantization, none or nf4", m.Base)
	}
	return found, nil
}

// quantize marks the weights that the trainer had in NF4: those of the record, or
// every matrix of the blocks, which is what bitsandbytes does for all linear layers
// but lm_head.
func (b *binder) quantize(o NF4Options, modules map[string]float64) error {
	used := 0
	for _, name := range sortedKeys(b.targets) {
		t := b.targets[name]
		path := strings.TrimSuffix(name, ".weight")
		offset, listed := modules[path]
		if len(modules) == 0 {
			if strings.Contains(path, ".experts") {
				return fmt.Errorf("merge: tensor %s: which experts' weights were in NF4 differs between versions of transformers: want a %s that lists them", name, trainingName)
			}
			listed = len(t.shape) == 2 && strings.HasSuffix(name, ".weight") && !isEmbedding(name) && name != headName
		}
		if !listed || t.replaced {
			continue
		}
		if o.DoubleQuant && len(modules) > 0 {
			f := float32(offset)
			o.Offset = &f
		}
		t.nf4 = &nf4Source{w: t.w, options: o}
		used++
	}
	if used < len(modules) {
		missing := slices.DeleteFunc(sortedKeys(modules), func(path string) bool { return b.targets[path+".weight"] != nil })
		return fmt.Errorf("merge: %s lists modules that the base does not have: %s", trainingName, strings.Join(missing, ", "))
	}
	return nil
}
