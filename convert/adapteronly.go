package convert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// NewAdapterPlan plans a GGUF file of a LoRA adapter alone, which llama.cpp applies at run
// time to a GGUF file of the base in the folder base. Output types are those that the
// converter writes itself; empty and auto are f32. The factors go through the base's
// transformations (Llama's permutation moves the rows of B), and scales that differ from
// alpha/rank are in B (lora.ReadFactors, which also says what is refused).
func NewAdapterPlan(ctx context.Context, base, adapter string, o Options) (*Plan, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.OutType == "" || o.OutType == "auto" {
		o.OutType = "f32"
	}
	if _, ok := outTypes[o.OutType]; !ok {
		return nil, fmt.Errorf("convert adapter %s: output type: got %q, want f32, f16, bf16 or q8_0", adapter, o.OutType)
	}
	p := &Plan{Dir: base, folder: base, opts: o, OutType: o.OutType}
	if err := p.buildAdapter(ctx, adapter); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Plan) buildAdapter(ctx context.Context, dir string) error {
	c, a, err := p.readConfig()
	if err != nil {
		return err
	}
	factors, err := lora.ReadFactors(ctx, p.Dir, dir, p.opts.Warn)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, factors)
	m, err := newMapper(c, a, outTypes[p.OutType])
	if err != nil {
		return err
	}
	var sources []*safetensors.Tensor
	for _, f := range factors.Factors {
		if err := p.addFactor(m, f); err != nil {
			return err
		}
		sources = append(sources, f.A, f.B)
	}
	if len(p.tensors) == 0 {
		return fmt.Errorf("convert adapter %s: got no factors, want a LoRA adapter's", dir)
	}
	if p.model, err = safetensors.NewModel(dir, sources); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	p.Meta = &gguf.Metadata{}
	for _, kv := range []gguf.KV{
		{Key: "general.architecture", Value: a.name}, {Key: "general.type", Value: "adapter"},
		{Key: "general.name", Value: filepath.Base(abs)},
		{Key: "adapter.type", Value: "lora"}, {Key: "adapter.lora.alpha", Value: float32(factors.Alpha)},
	} {
		if err := p.Meta.Set(kv.Key, kv.Value); err != nil {
			return err
		}
	}
	if p.OutFile, err = adapterFile(dir, filepath.Base(abs), p.opts.OutFile, p.OutType); err != nil {
		return err
	}
	return p.planFile()
}

// adapterFile is the name of the output: given, or NAME-LoRA-TYPE.gguf in the given folder
// or the adapter's.
func adapterFile(dir, name, given, outType string) (string, error) {
	if given == "" {
		given = dir
	}
	if st, err := os.Stat(given); err == nil && st.IsDir() {
		given = filepath.Join(given, name+"-LoRA-{FTYPE}.gguf")
	}
	parent, file := filepath.Split(given)
	file, err := fillTemplate(file, outType)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", given, err)
	}
	return filepath.Join(parent, file), nil
}

// addFactor adds A and B of one weight. Their types follow the rule for matrices.
func (p *Plan) addFactor(m *mapper, f lora.Factor) error {
	s, _, err := m.match(f.Weight)
	if err != nil {
		return err
	}
	if err := m.check(s); err != nil {
		return err
	}
	name := ggufName(s.rule.gguf, s.bid)
	switch s.rule.op {
	case opNone, opPermuteQ, opPermuteK:
	default:
		return fmt.Errorf("adapter: tensor %s: its weight is changed on conversion in a way that factors cannot follow: merge the adapter instead", f.Weight.Name)
	}
	for _, part := range []struct {
		suffix string
		t      *safetensors.Tensor
		op     op
	}{{".lora_a", f.A, opNone}, {".lora_b", f.B, s.rule.op}} {
		t := &tensor{op: part.op, group: 1, segs: []segment{{src: part.t, rows: rowsOf(part.t.Shape)}}}
		t.Name, t.NE, t.Type = name+part.suffix, reversed(part.t.Shape), m.outType
		if t.Type == gguf.Q8_0 && t.NE[0]%gguf.Q8_0.BlockSize() != 0 {
			t.Type = gguf.F16
		}
		if t.op != opNone {
			t.group = m.d[dimHead]
		}
		p.tensors = append(p.tensors, t)
	}
	return nil
}
