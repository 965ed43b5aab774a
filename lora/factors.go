package lora

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// Factor is the update of one weight of the base: W + Alpha/R · B·A with the file's
// Alpha, whatever the adapter's own scaling is.
type Factor struct {
	Weight *safetensors.Tensor // of the base, [out, in]
	A      *safetensors.Tensor // [r, in]
	B      *safetensors.Tensor // [out, r], with what the scale differs from Alpha/R folded in
}

// Factors is an adapter as pairs of factors.
type Factors struct {
	Alpha   float64
	Factors []Factor // in the base's order

	merge *Merge
}

// Close closes the files.
func (f *Factors) Close() error { return f.merge.Close() }

// ReadFactors reads an adapter for use beside its base instead of in it. llama.cpp scales
// by alpha/rank with one alpha a file; rsLoRA and alpha_pattern scale otherwise, and the
// difference goes into B. What is no product of two factors is refused: DoRA, whole
// tensors, biases, replacement rows, and experts.
func ReadFactors(ctx context.Context, base, dir string, warn func(string)) (*Factors, error) {
	m, err := Open(ctx, base, []Source{{Dir: dir, Weight: 1}}, Options{BaseQuant: QuantNone, Warn: warn})
	if err != nil {
		return nil, err
	}
	f := &Factors{Alpha: m.adapters[0].Config.Alpha, merge: m}
	if f.Alpha == 0 {
		return nil, errors.Join(fmt.Errorf("read %s: lora_alpha: got 0, want another: the adapter would have no effect", m.adapters[0].Config.Path), m.Close())
	}
	for _, t := range m.base.Tensors() {
		target := m.targets[t.Name]
		if target == nil || !target.isChanged() {
			continue
		}
		made, err := target.factor(t, f.Alpha)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("adapter %s: tensor %s: %w", dir, t.Name, err), m.Close())
		}
		f.Factors = append(f.Factors, made)
	}
	if m.targets[headName] != nil && m.targets[headName].isChanged() && len(f.Factors) > 0 {
		if _, ok := m.base.Tensor(headName); !ok {
			return nil, errors.Join(fmt.Errorf("adapter %s: tensor %s: the base has none of its own, it is tied: merge the adapter instead", dir, headName), m.Close())
		}
	}
	return f, nil
}

// factor gives the pair, or says why there is none.
func (t *target) factor(w *safetensors.Tensor, alpha float64) (Factor, error) {
	instead := ": merge the adapter instead"
	switch {
	case t.dora != nil:
		return Factor{}, errors.New("DoRA is no product of two factors" + instead)
	case t.replaced || t.tokens != nil:
		return Factor{}, errors.New("the adapter holds whole rows, not two factors" + instead)
	case len(t.parts) != 1 || t.parts[0].vector != nil || t.parts[0].left.experts > 0 || t.parts[0].high != t.rows():
		return Factor{}, errors.New("biases and experts cannot be applied at run time" + instead)
	case t.parts[0].right.transpose:
		return Factor{}, errors.New("the embedding cannot be adapted at run time" + instead)
	}
	p := t.parts[0]
	f := Factor{Weight: w, A: p.right.t, B: p.left.t}
	fold := float32(float64(p.scale) * float64(p.right.r) / alpha)
	if math.Abs(float64(fold)-1) < 1e-6 {
		return f, nil
	}
	b := f.B
	read := func(dst []byte, off int64) error {
		v := make([]float32, len(dst)/4)
		if err := readFloats(v, b, off/4); err != nil {
			return err
		}
		for i := range v {
			v[i] *= fold
		}
		return encode(dst, v, safetensors.F32)
	}
	var err error
	f.B, err = safetensors.NewTensor(b.Name, safetensors.F32, b.Shape, b.File, read)
	return f, err
}
