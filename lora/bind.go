package lora

import (
	"fmt"
	"math"
	"strings"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// binder finds the place of every tensor of the adapters in the base.
type binder struct {
	base    *safetensors.Model
	targets map[string]*target
	factors *cache
	embed   string // name of the input embedding in the base
	noHead  bool   // the base has no lm_head: its embedding serves as one
}

// headName is the output projection's tensor.
const headName = "lm_head.weight"

// newBinder makes a target of every tensor of the base.
func newBinder(base *safetensors.Model, dtype safetensors.DType) (*binder, error) {
	b := &binder{base: base, targets: map[string]*target{}, factors: new(cache), noHead: true}
	for _, t := range base.Tensors() {
		out := dtype
		switch t.DType {
		case safetensors.F32, safetensors.F16, safetensors.BF16:
			if out == "" {
				out = t.DType
			}
		default:
			return nil, fmt.Errorf("read %s: tensor %s: unsupported dtype: got %s, want F32, F16 or BF16 (a quantized base cannot be merged into; use the model it was made from)", t.File.Path, t.Name, t.DType)
		}
		b.targets[t.Name] = &target{name: t.Name, dtype: out, shape: t.Shape, w: t, file: t.File, factors: b.factors}
		if isEmbedding(t.Name) && len(t.Shape) == 2 {
			b.embed = t.Name
		}
		if t.Name == headName {
			b.noHead = false
		}
	}
	return b, nil
}

func isEmbedding(name string) bool {
	return isModule(name, "embed_tokens.weight") || isModule(name, "wte.weight")
}

// find gives the base's tensor of a name that the adapter uses: the same, or the one
// of a bare model, whose names lack the leading "model.". lm_head of a tied base is
// made when it is asked for.
func (b *binder) find(name string) *target {
	short, long := strings.TrimPrefix(name, "model."), "model."+name
	for _, n := range []string{name, short, long} {
		if t := b.targets[n]; t != nil {
			return t
		}
	}
	if name == headName && b.noHead && b.embed != "" {
		return b.untie()
	}
	return nil
}

// untie gives a tied model an output projection of its own, equal to the base's embedding.
func (b *binder) untie() *target {
	if head := b.targets[headName]; head != nil {
		return head
	}
	e := b.base
	w, _ := e.Tensor(b.embed)
	head := &target{name: headName, dtype: b.targets[b.embed].dtype, shape: w.Shape, w: w, file: w.File, factors: b.factors}
	b.targets[headName] = head
	return head
}

// bind adds one adapter.
func (b *binder) bind(a *Adapter) error {
	for _, path := range sortedKeys(a.modules) {
		if err := b.bindModule(a, a.modules[path]); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(a.full) {
		if err := b.bindFull(a, name, a.full[name]); err != nil {
			return err
		}
	}
	return b.checkTargeted(a)
}

func (b *binder) bindModule(a *Adapter, m *module) error {
	if m.baseWeight != nil {
		if err := b.bindFull(a, weightOf(m.path), m.baseWeight); err != nil {
			return err
		}
	}
	if m.baseBias != nil {
		if err := b.bindFull(a, m.path+".bias", m.baseBias); err != nil {
			return err
		}
	}
	for _, level := range sortedInts(m.levels) {
		p := m.levels[level]
		if p.a == nil || p.b == nil {
			return fmt.Errorf("read %s: module %s: got only one of lora_A and lora_B, want both", a.file.Path, m.path)
		}
		if err := b.bindPair(a, m, p); err != nil {
			return err
		}
	}
	if m.tokens != nil {
		if err := b.bindTokens(a, m); err != nil {
			return err
		}
	}
	if m.magnitude != nil {
		return b.bindMagnitude(a, m)
	}
	if a.Config.UseDoRA && len(m.levels) > 0 {
		return fmt.Errorf("read %s: module %s: use_dora is true: got no lora_magnitude_vector, want one", a.file.Path, m.path)
	}
	return nil
}

func (b *binder) bindPair(a *Adapter, m *module, p *pair) error {
	t := b.find(weightOf(m.path))
	if t == nil {
		return b.bindExperts(a, m, p)
	}
	if len(t.shape) != 2 {
		return a.errorf(p.a, "the base's tensor %s: got shape %v, want a matrix", t.name, t.shape)
	}
	if len(m.levels) > 1 {
		return a.errorf(p.a, "two updates of one matrix: want one for %s", t.name)
	}
	if p.embedding {
		return b.bindEmbedding(a, m, p, t)
	}
	path := m.path
	if a.Config.targetsParameter(path + ".weight") {
		path += ".weight" // patterns are matched against the parameter's path
	}
	r := int64(a.rank(path))
	if err := expectShape(a, p.a, r, t.shape[1]); err != nil {
		return err
	}
	if err := expectShape(a, p.b, t.shape[0], r); err != nil {
		return err
	}
	scale := float32(a.scale(path))
	t.parts = append(t.parts, part{scale: scale, high: t.rows(), left: left{t: p.b, r: r}, right: &right{t: p.a, r: r, cols: t.rowLen()}})
	return b.bindBias(a, m, p, scale)
}

// bindBias: lora_bias adds s·bias to the layer's own.
func (b *binder) bindBias(a *Adapter, m *module, p *pair, scale float32) error {
	if p.bias == nil {
		if a.Config.LoraBias {
			return a.errorf(p.b, "lora_bias is true: got no lora_B.bias beside it, want one")
		}
		return nil
	}
	t := b.find(m.path + ".bias")
	if t == nil {
		return a.errorf(p.bias, "the base has no tensor %s.bias to add it to: such an adapter cannot be merged", m.path)
	}
	if err := expectShape(a, p.bias, t.shape...); err != nil {
		return err
	}
	t.parts = append(t.parts, part{scale: scale, high: 1, vector: p.bias})
	return nil
}

func (b *binder) bindEmbedding(a *Adapter, m *module, p *pair, t *target) error {
	r := int64(a.rank(m.path))
	if err := expectShape(a, p.a, r, t.shape[0]); err != nil {
		return err
	}
	if err := expectShape(a, p.b, t.shape[1], r); err != nil {
		return err
	}
	t.parts = append(t.parts, part{
		scale: float32(a.scale(m.path)), high: t.rows(),
		left: left{t: p.a, r: r, columns: true}, right: &right{t: p.b, r: r, cols: t.rowLen(), transpose: true},
	})
	return nil
}

func (b *binder) bindMagnitude(a *Adapter, m *module) error {
	t := b.find(weightOf(m.path))
	p := m.levels[0]
	switch {
	case t == nil || p == nil:
		return a.errorf(m.magnitude, "got no lora_A and lora_B of its module, want both")
	case t.dora != nil || len(t.parts) > 1 || a.Weight != 1:
		return a.errorf(m.magnitude, "DoRA with a weight other than 1, or with another adapter on the same tensor, is no sum of updates: merge it alone")
	}
	t.dora = &dora{magnitude: m.magnitude, columns: p.embedding}
	want := t.rows()
	if p.embedding {
		want = t.rowLen()
	}
	return expectShape(a, m.magnitude, want)
}

// bindTokens replaces rows of an embedding.
func (b *binder) bindTokens(a *Adapter, m *module) error {
	t := b.find(weightOf(m.path))
	ids := a.Config.tokensOf(m.path)
	switch {
	case t == nil || len(t.shape) != 2:
		return a.errorf(m.tokens, "the base has no matrix %s", weightOf(m.path))
	case a.Weight != 1 || t.tokens != nil:
		return a.errorf(m.tokens, "replacement rows with a weight other than 1, or of two adapters: want one adapter with weight 1")
	case t.name == headName && b.noHead:
		return a.errorf(m.tokens, "rows of lm_head alone, whose weights are the embedding's: such an adapter cannot be merged")
	}
	if err := expectShape(a, m.tokens, int64(len(ids)), t.shape[1]); err != nil {
		return err
	}
	t.tokens = &tokenRows{t: m.tokens, row: map[int64]int64{}}
	for i, id := range ids {
		if id < 0 || id >= t.shape[0] {
			return a.errorf(m.tokens, "token id: got %d, want 0 to %d", id, t.shape[0]-1)
		}
		t.tokens.row[id] = int64(i)
	}
	return nil
}

// bindFull replaces a whole tensor.
func (b *binder) bindFull(a *Adapter, name string, w *safetensors.Tensor) error {
	t := b.find(name)
	switch {
	case t == nil:
		return a.errorf(w, "unknown tensor: the base has no %s", name)
	case a.Weight != 1:
		return a.errorf(w, "a whole tensor with weight %v: want 1, since it replaces the base's", a.Weight)
	case t.replaced:
		return a.errorf(w, "the same tensor in two adapters: want it in one")
	}
	resizes := len(w.Shape) == 2 && (isEmbedding(t.name) || t.name == headName)
	if !resizes {
		if err := expectShape(a, w, t.shape...); err != nil {
			return err
		}
	} else if len(t.shape) != 2 || w.Shape[1] != t.shape[1] {
		return expectShape(a, w, t.shape...)
	}
	t.w, t.shape, t.replaced = w, w.Shape, true
	return nil
}

// bindExperts spreads an update of a parameter that holds all experts.
func (b *binder) bindExperts(a *Adapter, m *module, p *pair) error {
	for _, param := range []string{"gate_up_proj", "down_proj"} {
		stacked := b.find(m.path + "." + param)
		if stacked == nil {
			stacked = b.find(m.path + "." + param + ".weight")
		}
		if stacked != nil && len(stacked.shape) == 3 {
			if ok, err := b.bindStacked(a, m, p, param, stacked); ok || err != nil {
				return err
			}
			continue
		}
		if ok, err := b.bindSingle(a, m, p, param); ok || err != nil {
			return err
		}
	}
	return a.errorf(p.a, "the base has no tensor %s, and no experts of these shapes (A %v, B %v)", weightOf(m.path), p.a.Shape, p.b.Shape)
}

// fitsExperts checks the shapes of an update of n experts [rows, cols] each.
func (a *Adapter) fitsExperts(p *pair, path string, n, rows, cols int64) (r int64, ok bool) {
	r = int64(a.rank(path))
	return r, len(p.a.Shape) == 2 && len(p.b.Shape) == 2 &&
		p.a.Shape[0] == r*n && p.a.Shape[1] == cols && p.b.Shape[0] == rows && p.b.Shape[1] == r*n
}

// bindStacked: the base holds the parameter as it was adapted, [experts, rows, cols].
func (b *binder) bindStacked(a *Adapter, m *module, p *pair, param string, t *target) (bool, error) {
	n, rows, cols := t.shape[0], t.shape[1], t.shape[2]
	path := m.path + "." + param
	r, ok := a.fitsExperts(p, path, n, rows, cols)
	if !ok || p.embedding {
		return false, nil
	}
	for e := range n {
		t.parts = append(t.parts, a.expertPart(p, path, r, n, e, e*rows, (e+1)*rows, 0, cols))
	}
	return true, nil
}

// expertPart is expert e's update of rows low … high-1; rowB is the row of B for the first of them.
func (a *Adapter) expertPart(p *pair, path string, r, n, e, low, high, rowB, cols int64) part {
	return part{
		scale: float32(a.scale(path)), low: low, high: high,
		left:  left{t: p.b, r: r, first: rowB, experts: n, expert: e},
		right: &right{t: p.a, first: e * r, r: r, cols: cols},
	}
}

// bindSingle: the base holds every expert's matrices by themselves; gate_up_proj is
// gate and up, one below the other.
func (b *binder) bindSingle(a *Adapter, m *module, p *pair, param string) (bool, error) {
	words := []string{"down_proj"}
	if param == "gate_up_proj" {
		words = []string{"gate_proj", "up_proj"}
	}
	var n int64
	for b.find(fmt.Sprintf("%s.%d.%s.weight", m.path, n, words[0])) != nil && n < math.MaxInt16 {
		n++
	}
	if n == 0 {
		return false, nil
	}
	first := b.find(fmt.Sprintf("%s.0.%s.weight", m.path, words[0]))
	rows, cols := first.rows(), first.rowLen()
	path := m.path + "." + param
	r, ok := a.fitsExperts(p, path, n, rows*int64(len(words)), cols)
	if !ok || p.embedding {
		return false, nil
	}
	for e := range n {
		for i, word := range words {
			name := fmt.Sprintf("%s.%d.%s.weight", m.path, e, word)
			t := b.find(name)
			if t == nil || t.rows() != rows || t.rowLen() != cols {
				return false, a.errorf(p.a, "the base's tensor %s: missing, or not [%d, %d] like its like", name, rows, cols)
			}
			t.parts = append(t.parts, a.expertPart(p, path, r, n, e, 0, rows, int64(i)*rows, cols))
		}
	}
	return true, nil
}
