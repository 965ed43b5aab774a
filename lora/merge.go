package lora

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// Source is an adapter folder and how strongly it acts.
type Source struct {
	Dir    string
	Weight float64 // 1 as trained
}

// Values of Options.BaseQuant.
const (
	QuantAuto = ""     // as training.json says the base was loaded; none without it
	QuantNone = "none" // the base as it lies in its files
	QuantNF4  = "nf4"  // what bitsandbytes gives after quantizing it to NF4 and back
)

// Options are the choices of a merge.
type Options struct {
	BaseQuant   string            // QuantAuto, QuantNone or QuantNF4
	DoubleQuant bool              // NF4 only: the absmax values are quantized too; a recorded choice counts first
	DType       safetensors.DType // of the merged weights; empty keeps the base's
	Warn        func(msg string)  // told what the caller should know about; nil drops it
}

// Merge is a base with adapters, ready to be read. Its methods may be called from
// many goroutines at once, Close after all others.
type Merge struct {
	Base      string // folder
	BaseQuant string // QuantNone or QuantNF4: which weights the adapters are added to
	Recorded  bool   // whether BaseQuant is what training.json says

	adapters []*Adapter
	base     *safetensors.Model
	model    *safetensors.Model
	shards   []shard
	targets  map[string]*target
	edits    []edit // of config.json
	opts     Options
}

// shard is one file of the output.
type shard struct {
	name    string
	tensors []*safetensors.Tensor // in file order
}

// Open checks adapters against the base and plans the merged model. Nothing is
// computed before tensors are read, except that NF4 takes a sweep over a tensor when
// it is first touched, and that a tied lm_head is compared with the embedding.
func Open(ctx context.Context, base string, adapters []Source, o Options) (*Merge, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	m := &Merge{Base: base, opts: o}
	if err := m.open(ctx, adapters); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close closes the files. Closing twice is fine.
func (m *Merge) Close() error {
	var errs []error
	for _, a := range m.adapters {
		errs = append(errs, a.file.Close())
	}
	m.adapters = nil
	if m.base != nil {
		errs = append(errs, m.base.Close())
		m.base = nil
	}
	return errors.Join(errs...)
}

// Model is the merged model: the base's tensors in its order, shard by shard, and a
// new lm_head, if there is one, in the last shard.
func (m *Merge) Model() *safetensors.Model { return m.model }

func (m *Merge) open(ctx context.Context, sources []Source) error {
	if len(sources) == 0 {
		return errors.New("merge: got no adapter, want one or more")
	}
	switch m.opts.DType {
	case "", safetensors.F32, safetensors.F16, safetensors.BF16:
	default:
		return fmt.Errorf("merge: dtype: got %s, want F32, F16 or BF16", m.opts.DType)
	}
	var err error
	if m.base, err = safetensors.OpenModel(m.Base); err != nil {
		return err
	}
	b, err := newBinder(m.base, m.opts.DType)
	if err != nil {
		return err
	}
	for _, s := range sources {
		a, err := openAdapter(s.Dir, s.Weight)
		if err != nil {
			return err
		}
		m.adapters = append(m.adapters, a)
		m.warnBase(a)
		if err := b.bind(a); err != nil {
			return err
		}
	}
	if err := m.quantize(b); err != nil {
		return err
	}
	if err := m.tie(ctx, b); err != nil {
		return err
	}
	return m.layOut(b)
}

// warnBase says when the adapter names another base.
func (m *Merge) warnBase(a *Adapter) {
	name := a.Config.BaseModel
	if name == "" || filepath.Base(filepath.Clean(name)) == filepath.Base(filepath.Clean(absolute(m.Base))) {
		return
	}
	m.opts.Warn(fmt.Sprintf("adapter %s was trained on %s, and is merged into %s", a.Dir, name, m.Base))
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// tie decides whether the output projection is the embedding's, and drops a copy.
func (m *Merge) tie(ctx context.Context, b *binder) error {
	tied, err := m.isTied(b)
	if err != nil || b.embed == "" {
		return err
	}
	embed, head := b.targets[b.embed], b.targets[headName]
	m.resize(embed)
	if tied && b.noHead && embed.changesAlone() && !m.keepsTied() {
		head = b.untieFrom(embed)
	}
	if head == nil {
		return nil
	}
	if head.shape[0] != embed.shape[0] {
		return fmt.Errorf("merge into %s: tensor %s: got %d rows, want the %d of %s", m.Base, headName, head.shape[0], embed.shape[0], b.embed)
	}
	if !tied {
		return nil
	}
	if m.keepsTied() && len(head.parts) > 0 {
		return fmt.Errorf("merge into %s: tensor %s: ensure_weight_tying together with LoRA on lm_head is not supported", m.Base, headName)
	}
	same, err := equal(ctx, embed, head)
	switch {
	case err != nil:
		return err
	case same:
		delete(b.targets, headName)
	case b.noHead || embed.isChanged() || head.isChanged():
		m.edits = append(m.edits, edit{"tie_word_embeddings", "false"})
		m.opts.Warn("the adapter separates lm_head from the embedding: the merged model holds both, and tie_word_embeddings becomes false")
	}
	return nil
}

// changesAlone: an update of the embedding that PEFT does not carry over to a tied
// head. Replacement rows it does carry over.
func (t *target) changesAlone() bool { return t.replaced || len(t.parts) > 0 || t.dora != nil }

func (t *target) isChanged() bool { return t.changesAlone() || t.tokens != nil }

func (m *Merge) keepsTied() bool {
	for _, a := range m.adapters {
		if a.Config.EnsureWeightTying {
			return true
		}
	}
	return false
}

// untieFrom is the head of a tied model whose embedding alone is trained: it keeps
// the weights from before. Those of an embedding that was resized and saved beside its
// LoRA are the adapter's copy.
func (b *binder) untieFrom(embed *target) *target {
	head := b.untie()
	if !head.isChanged() && embed.shape[0] != head.shape[0] {
		head.w, head.shape, head.replaced = embed.w, embed.shape, true
	}
	return head
}

// resize notes a new vocabulary size.
func (m *Merge) resize(embed *target) {
	w, _ := m.base.Tensor(embed.name)
	if embed.shape[0] != w.Shape[0] {
		m.edits = append(m.edits, edit{"vocab_size", fmt.Sprint(embed.shape[0])})
		m.opts.Warn(fmt.Sprintf("the adapter changes the vocabulary from %d to %d rows", w.Shape[0], embed.shape[0]))
	}
}

// equal compares two tensors of the output byte by byte.
func equal(ctx context.Context, a, b *target) (bool, error) {
	if a.dtype != b.dtype || !sameShape(a.shape, b.shape) {
		return false, nil
	}
	const most = 4 << 20
	rowBytes := a.rowLen() * a.dtype.Size()
	step := max(1, most/rowBytes)
	x, y := make([]byte, step*rowBytes), make([]byte, step*rowBytes)
	for first := int64(0); first < a.rows(); first += step {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := min(step, a.rows()-first) * rowBytes
		if err := errors.Join(a.readAt(x[:n], first*rowBytes), b.readAt(y[:n], first*rowBytes)); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

func sameShape(a, b []int64) bool {
	ok := len(a) == len(b)
	for i := 0; ok && i < len(a); i++ {
		ok = a[i] == b[i]
	}
	return ok
}

// layOut makes the shards and the model. What is not changed is read as it is.
func (m *Merge) layOut(b *binder) error {
	var all []*safetensors.Tensor
	add := func(t *target) (*safetensors.Tensor, error) {
		t.untouched = !t.isChanged() && t.nf4 == nil && t.dtype == t.w.DType
		made, err := safetensors.NewTensor(t.name, t.dtype, t.shape, t.file, t.readAt)
		if err == nil {
			made.From(t.w)
		}
		return made, err
	}
	head := b.targets[headName]
	m.targets = b.targets
	for i, f := range m.base.Files {
		s := shard{name: filepath.Base(f.Path)}
		if rel, err := filepath.Rel(m.Base, f.Path); err == nil {
			s.name = rel
		}
		list := f.Tensors
		if i == len(m.base.Files)-1 && head != nil && b.noHead {
			list = append(list[:len(list):len(list)], &safetensors.Tensor{Name: headName})
		}
		for _, src := range list {
			t := b.targets[src.Name]
			if t == nil {
				continue // an lm_head that equals the embedding
			}
			made, err := add(t)
			if err != nil {
				return err
			}
			s.tensors = append(s.tensors, made)
		}
		if len(s.tensors) > 0 {
			m.shards = append(m.shards, s)
			all = append(all, sortedByName(s.tensors)...)
		}
	}
	var err error
	m.model, err = safetensors.NewModel(m.Base, all)
	return err
}
