package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// segment is a run of rows of one source tensor. Rows are counted over all
// dimensions but the innermost.
type segment struct {
	src         *safetensors.Tensor
	first, rows int64
}

// tensor is one tensor of the output with the way to its values.
type tensor struct {
	gguf.TensorInfo
	segs   []segment
	op     op
	group  int64     // rows that must stay together: those of a head when permuting
	values []float32 // computed here instead of read, when segs is empty
}

// cols is the length of a row.
func (t *tensor) cols() int64 { return t.NE[0] }

// source is one tensor of the files, matched with its rule.
type source struct {
	*safetensors.Tensor
	rule     *rule
	bid, xid int64
}

// mapper turns the files' tensors into the output's.
type mapper struct {
	c       *config
	a       *arch
	d       dims
	blocks  int64
	outType gguf.Type
	rows    int64 // of the embedding that stay, where they are cut
	byKey   map[string]*rule
	found   map[string]*safetensors.Tensor // by canonical name, with "model."
	experts map[int64][]source             // per block, until complete
	out     []*tensor
	bare    bool
}

// mapTensors checks every tensor of the files against the architecture's table
// and returns the output's tensors in the reference's order.
func mapTensors(c *config, a *arch, model *safetensors.Model, outType gguf.Type, cut int64) ([]*tensor, error) {
	m, err := newMapper(c, a, outType)
	if err != nil {
		return nil, err
	}
	m.rows = cut
	for _, t := range model.Tensors() {
		if err := m.add(t); err != nil {
			return nil, err
		}
	}
	if len(m.found) == 0 {
		return nil, fmt.Errorf("read %s: no weights: got 0 tensors of %s", model.Dir, a.hf)
	}
	if err := m.checkMissing(int64(len(model.Tensors()))); err != nil {
		return nil, err
	}
	return m.out, m.checkNames()
}

// newMapper reads the sizes and indexes the architecture's table.
func newMapper(c *config, a *arch, outType gguf.Type) (*mapper, error) {
	d, err := a.dims(c)
	if err != nil {
		return nil, err
	}
	blocks, err := blockCount(c)
	if err != nil {
		return nil, err
	}
	m := &mapper{c: c, a: a, d: d, blocks: blocks, outType: outType,
		byKey: map[string]*rule{}, found: map[string]*safetensors.Tensor{}, experts: map[int64][]source{}}
	for i := range a.rules {
		r := &a.rules[i]
		m.byKey[r.hf] = r
		if r.op == opGateUp || strings.HasSuffix(r.hf, "experts.down_proj") {
			m.byKey[r.hf+".weight"] = r // transformers writes no suffix, some tools do
		}
	}
	return m, nil
}

// unused are name endings that the reference passes over: buffers that old
// checkpoints hold.
var unused = []string{".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"}

// add maps one tensor of the files.
func (m *mapper) add(t *safetensors.Tensor) error {
	for _, suffix := range unused {
		if strings.HasSuffix(t.Name, suffix) {
			return nil
		}
	}
	s, canonical, err := m.match(t)
	if err != nil {
		return err
	}
	if other, ok := m.found[canonical]; ok {
		return fmt.Errorf("read %s: tensor %s: the same tensor as %s of %s", t.File.Path, t.Name, other.Name, other.File.Path)
	}
	m.found[canonical] = t
	if err := m.check(s); err != nil {
		return err
	}
	switch s.rule.op {
	case opExpert:
		m.addExpert(s)
	case opGateUp:
		m.addGateUp(s)
	default:
		m.addPlain(s)
	}
	return nil
}

// match finds the rule for a name. Numbers between dots stand for {bid} and
// {xid}; nothing else varies, so that a name matches as a whole or not at all.
func (m *mapper) match(t *safetensors.Tensor) (source, string, error) {
	name := t.Name
	r, bid, xid := m.lookup(name)
	if r == nil && m.a.bare {
		if r, bid, xid = m.lookup("model." + name); r != nil {
			name = "model." + name
			m.bare = true
		}
	}
	if r == nil {
		return source{}, "", fmt.Errorf("read %s: tensor %s: unknown tensor: %s has none of that name", t.File.Path, t.Name, m.a.hf)
	}
	if bid >= m.blocks {
		return source{}, "", fmt.Errorf("read %s: tensor %s: block out of range: got %d, want less than %d (num_hidden_layers)", t.File.Path, t.Name, bid, m.blocks)
	}
	if xid >= 0 && xid >= m.d[dimExperts] {
		return source{}, "", fmt.Errorf("read %s: tensor %s: expert out of range: got %d, want less than %d (%s)", t.File.Path, t.Name, xid, m.d[dimExperts], expertCountKeys[1])
	}
	return source{t, r, bid, xid}, name, nil
}

func (m *mapper) lookup(name string) (r *rule, bid, xid int64) {
	bid, xid = -1, -1
	fields := strings.Split(name, ".")
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 32)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != f {
			continue
		}
		switch {
		case bid < 0:
			bid, fields[i] = n, "{bid}"
		case xid < 0:
			xid, fields[i] = n, "{xid}"
		default:
			return nil, -1, -1
		}
	}
	return m.byKey[strings.Join(fields, ".")], bid, xid
}

// readable are the dtypes that can be converted.
var readable = map[safetensors.DType]gguf.Type{
	safetensors.F32: gguf.F32, safetensors.F16: gguf.F16, safetensors.BF16: gguf.BF16,
}

// check compares dtype and shape with what the config promises.
func (m *mapper) check(s source) error {
	if _, ok := readable[s.DType]; !ok {
		return fmt.Errorf("read %s: tensor %s: unsupported dtype: got %s, want F32, F16 or BF16", s.File.Path, s.Name, s.DType)
	}
	want := s.rule.shapeOf(m.d)
	if s.rule.op == opCutRows && len(s.Shape) == len(want) && s.Shape[0] > want[0] {
		want[0] = s.Shape[0] // rows beyond the vocabulary are what is cut
	}
	if !slices.Equal(s.Shape, want) {
		return fmt.Errorf("read %s: tensor %s: shape contradicts %s: got %s, want %s", s.File.Path, s.Name, m.c.path, formatShape(s.Shape), formatShape(want))
	}
	return nil
}

// ggufName fills in the block number.
func ggufName(pattern string, bid int64) string {
	return strings.ReplaceAll(pattern, "{bid}", strconv.FormatInt(bid, 10))
}

// reversed turns a shape, outermost first, into ne, innermost first.
func reversed(shape []int64) []int64 {
	ne := slices.Clone(shape)
	slices.Reverse(ne)
	return ne
}

// emit appends a tensor of the given shape, with the type that the reference
// gives it.
func (m *mapper) emit(name string, shape []int64, t tensor) {
	t.Name, t.NE = name, reversed(shape)
	t.Type = tensorType(name, shape, m.outType)
	t.group = max(t.group, 1)
	m.out = append(m.out, &t)
}

func rowsOf(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape[:len(shape)-1] {
		n *= d
	}
	return n
}

func (m *mapper) addPlain(s source) {
	shape := slices.Clone(s.Shape)
	t := tensor{op: s.rule.op}
	switch s.rule.op {
	case opCutRows:
		shape[0] = min(shape[0], m.rows)
	case opPermuteQ, opPermuteK:
		t.group = m.d[dimHead]
	}
	t.segs = []segment{{src: s.Tensor, rows: rowsOf(shape)}}
	m.emit(ggufName(s.rule.gguf, s.bid), shape, t)
}

// addGateUp splits a tensor [experts, 2·ff, embd] into its halves.
func (m *mapper) addGateUp(s source) {
	ff := m.d[dimExpertFF]
	for half, word := range []string{"gate", "up"} {
		var segs []segment
		for x := range m.d[dimExperts] {
			segs = append(segs, segment{src: s.Tensor, first: (2*x + int64(half)) * ff, rows: ff})
		}
		name := ggufName(strings.ReplaceAll(s.rule.gguf, "{half}", word), s.bid)
		m.emit(name, []int64{m.d[dimExperts], ff, m.d[dimEmbd]}, tensor{segs: segs})
	}
}

// addExpert collects the experts of a block; the last one to come makes the
// three stacked tensors, in the order down, gate, up.
func (m *mapper) addExpert(s source) {
	list := append(m.experts[s.bid], s)
	m.experts[s.bid] = list
	n := m.d[dimExperts]
	if int64(len(list)) < 3*n {
		return
	}
	delete(m.experts, s.bid)
	slices.SortFunc(list, func(a, b source) int {
		if a.rule != b.rule {
			return strings.Compare(a.rule.hf, b.rule.hf)
		}
		return int(a.xid - b.xid)
	})
	for ; len(list) > 0; list = list[n:] {
		first := list[0]
		var segs []segment
		for _, e := range list[:n] {
			segs = append(segs, segment{src: e.Tensor, rows: rowsOf(e.Shape)})
		}
		m.emit(ggufName(first.rule.gguf, s.bid), append([]int64{n}, first.Shape...), tensor{segs: segs})
	}
}

// checkMissing looks for every tensor that has to be there.
func (m *mapper) checkMissing(have int64) error {
	if m.blocks > have {
		return m.c.errorf(blockCountKeys[1], "got %d blocks, but the files hold only %d tensors", m.blocks, have)
	}
	for i := range m.a.rules {
		r := &m.a.rules[i]
		if r.op == opExpert || !m.isNeeded(r) {
			continue
		}
		n := int64(1)
		if strings.Contains(r.hf, "{bid}") {
			n = m.blocks
		}
		for bid := range n {
			name := ggufName(r.hf, bid)
			if _, ok := m.found[name]; !ok {
				return fmt.Errorf("read %s: tensor %s: missing%s", m.c.dir, name, becauseOf[r.need])
			}
		}
	}
	return m.checkExperts()
}

// becauseOf says which key of config.json demands a tensor.
var becauseOf = map[need]string{
	needUntied:  ", although tie_word_embeddings is not true",
	needBias:    ", although attention_bias is true",
	needMLPBias: ", although mlp_bias is true",
}

func (m *mapper) isNeeded(r *rule) bool {
	flag := func(key string, def bool) bool {
		v, ok := m.c.get(key)
		if !ok {
			return def
		}
		b, _ := v.(bool)
		return b
	}
	switch r.need {
	case needAlways:
		return true
	case needUntied:
		return !m.bare && !flag("tie_word_embeddings", true)
	case needBias:
		return flag("attention_bias", false)
	case needMLPBias:
		return flag("mlp_bias", false)
	}
	return false
}

// checkExperts names the first expert tensor that is missing.
func (m *mapper) checkExperts() error {
	if !m.a.usesExperts() {
		return nil
	}
	stacked := map[string]bool{}
	for _, t := range m.out {
		stacked[t.Name] = true
	}
	for bid := range m.blocks {
		for i := range m.a.rules {
			r := &m.a.rules[i]
			if r.op != opExpert || stacked[ggufName(r.gguf, bid)] {
				continue
			}
			for xid := range m.d[dimExperts] {
				name := strings.ReplaceAll(ggufName(r.hf, bid), "{xid}", strconv.FormatInt(xid, 10))
				if _, ok := m.found[name]; !ok {
					return fmt.Errorf("read %s: tensor %s: missing", m.c.dir, name)
				}
			}
		}
	}
	return nil
}

// checkNames refuses two sources for one output tensor.
func (m *mapper) checkNames() error {
	seen := map[string]bool{}
	for _, t := range m.out {
		if seen[t.Name] {
			return fmt.Errorf("read %s: tensor %s: made twice: the files hold it in two forms", m.c.dir, t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}

// tensorType is the type that the reference gives a tensor
// (conversion/base.py, prepare_tensors).
func tensorType(name string, shape []int64, out gguf.Type) gguf.Type {
	switch {
	case len(shape) <= 1, strings.HasSuffix(name, "_norm.weight"),
		strings.HasSuffix(name, ".ffn_gate_inp.weight"), !strings.HasSuffix(name, ".weight"):
		return gguf.F32
	case out == gguf.Q8_0 && shape[len(shape)-1]%32 != 0:
		return gguf.F16
	}
	return out
}

// guessType is the rule of output type auto: the first BF16 or F16 matrix
// decides, F16 if there is none (conversion/base.py, ModelBase.__init__).
func guessType(model *safetensors.Model) string {
	for _, t := range model.Tensors() {
		if len(t.Shape) < 2 {
			continue
		}
		switch t.DType {
		case safetensors.BF16:
			return "bf16"
		case safetensors.F16:
			return "f16"
		}
	}
	return "f16"
}

// countParams counts weights as the reference's size label does
// (gguf-py/gguf/gguf_writer.py, get_total_parameter_count).
func countParams(tensors []*tensor) paramCounts {
	var n paramCounts
	var sum, stacks int64
	for _, t := range tensors {
		size := t.Elements()
		n.total += size
		if strings.Contains(t.Name, "_exps.") && len(t.NE) >= 3 {
			n.expert += size / t.NE[2]
			sum += t.NE[2]
			stacks++
			continue
		}
		n.shared += size
	}
	if stacks > 0 {
		n.experts = sum / stacks
	}
	return n
}
