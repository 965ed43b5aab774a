package quant

import (
	"errors"
	"fmt"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// lowestTypes need an importance matrix to be of any use, and llama-quantize
// insists on it (tensor_requires_imatrix in src/llama-quant.cpp).
var lowestTypes = map[gguf.Type]bool{
	gguf.IQ3_XXS: true, gguf.IQ2_XXS: true, gguf.IQ2_XS: true, gguf.IQ2_S: true, gguf.IQ1_M: true, gguf.IQ1_S: true,
}

// wantsImatrix is true for a tensor that must not be encoded without importances.
func (p *Plan) wantsImatrix(t *PlannedTensor) bool {
	switch t.Name {
	case tokenEmbdName, perLayerTokenEmbd, outputName:
		return false
	}
	return lowestTypes[t.Type] || t.Type == gguf.Q2_K && p.target.ftype == ftypeQ2_K_S
}

// checkTensors finds each tensor's importances and refuses what cannot be encoded.
func (p *Plan) checkTensors() error {
	without := 0
	for i := range p.Tensors {
		t := &p.Tensors[i]
		err := p.checkTensor(t)
		if err != nil {
			err = fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		switch {
		case err == nil:
		case !p.o.DryRun:
			return err
		case p.blocked == nil:
			p.blocked = err
			p.warn("writing would fail: %v", err)
		}
		if t.Type != t.SourceType && p.imatrix != nil && t.imatrix == nil {
			without++
		}
	}
	if without > 0 {
		p.warn("imatrix %s: no entry for %d tensors, which are encoded without", p.imatrix.Path, without)
	}
	return nil
}

func (p *Plan) checkTensor(t *PlannedTensor) error {
	changeable := !p.target.copy && isQuantizable(t.Name, t.NE, p.o.LeaveOutputTensor)
	if p.imatrix == nil && changeable && p.wantsImatrix(t) {
		return fmt.Errorf("type %s: %w", t.Type, ErrImatrix)
	}
	if t.Type == t.SourceType {
		return nil
	}
	if err := p.checkTypes(t); err != nil {
		return err
	}
	if p.imatrix != nil {
		var err error
		if t.imatrix, err = p.importances(t); err != nil {
			return err
		}
		t.Imatrix = t.imatrix != nil
	}
	if t.imatrix == nil && (p.wantsImatrix(t) || llama.RequiresImatrix(uint32(t.Type))) {
		if p.imatrix == nil {
			return fmt.Errorf("type %s: %w", t.Type, ErrImatrix)
		}
		return fmt.Errorf("type %s: %w: %s has no entry for it", t.Type, ErrImatrix, p.imatrix.Path)
	}
	return nil
}

func (p *Plan) checkTypes(t *PlannedTensor) error {
	if t.SourceType.IsQuantized() && !p.o.AllowRequantize {
		return fmt.Errorf("%w: got %s, want f32, f16 or bf16 unless requantizing is allowed", ErrQuantized, t.SourceType)
	}
	if !llama.TensorType(t.SourceType).CanDecode() {
		return fmt.Errorf("type %s: cannot be converted", t.SourceType)
	}
	if !llama.TensorType(t.Type).CanEncode() {
		return fmt.Errorf("type %s: cannot be written: there is no encoder for it", t.Type)
	}
	if len(t.NE) > 3 {
		return errors.New("got 4 dimensions, want 2 or 3")
	}
	_, err := t.Type.RowSize(t.NE[0])
	return err
}

// importances gives the tensor's entry of the importance matrix, nil if there is none.
func (p *Plan) importances(t *PlannedTensor) ([]float32, error) {
	name := t.SourceName
	v, ok := p.imatrix.Entries[name]
	if !ok {
		return nil, nil
	}
	experts := int64(1)
	if len(t.NE) > 2 {
		experts = t.NE[2]
	}
	if want := t.NE[0] * experts; int64(len(v)) != want {
		if t.Name == tokenEmbdName || t.Name == perLayerTokenEmbd {
			return nil, nil // always differs there: the reference goes on without
		}
		return nil, fmt.Errorf("imatrix %s: got %d values, want %d", p.imatrix.Path, len(v), want)
	}
	return v, nil
}
