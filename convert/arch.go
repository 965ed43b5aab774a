package convert

import (
	"fmt"
	"slices"
	"strings"
)

// dim names one dimension of a tensor's shape; its value comes from the
// config (dims).
type dim int

const (
	dimVocab     dim = iota // rows of the embedding
	dimEmbd                 // hidden size
	dimFF                   // feed-forward width
	dimQ                    // query heads × head size
	dimKV                   // key/value heads × head size
	dimHead                 // head size
	dimExperts              // number of experts
	dimExpertFF             // feed-forward width of one expert
	dim2ExpertFF            // gate and up of one expert side by side
	numDims
)

// dims holds the value of every dim.
type dims [numDims]int64

// op is what happens to a tensor's values besides the change of type.
type op int

const (
	opNone     op = iota
	opPermuteQ    // rows of each query head: halves → interleaved pairs
	opPermuteK    // the same per key/value head
	opAddOne      // every value + 1 (Gemma norms)
	opCutRows     // rows beyond the real vocabulary are dropped (Gemma 3 embedding)
	opExpert      // one expert's part of a stacked tensor
	opGateUp      // gate and up of all experts in one tensor, split in halves
)

// need says when a tensor has to be there.
type need int

const (
	needAlways  need = iota
	needUntied       // unless the embedding is tied or the files hold a bare model
	needBias         // when attention_bias is set; welcome otherwise
	needMLPBias      // when mlp_bias is set; welcome otherwise
	needNever        // optional
)

// rule maps one Hugging Face tensor name to its GGUF name. {bid} stands for
// the block number, {xid} for the expert number.
type rule struct {
	hf    string
	gguf  string
	shape []dim // outermost first, as in the safetensors file
	op    op
	need  need
}

// arch describes one supported architecture: data that the rest of the package
// interprets.
type arch struct {
	hf         string      // class name in config.json
	name       string      // general.architecture
	modelTypes []string    // accepted model_type values
	vocab      vocabFamily // how the tokenizer is read
	rules      []rule
	bare       bool                     // names without the leading "model." are known too
	ropeFreqs  *ropeFreqDefaults        // llama3 rope factors become a tensor
	keys       func(b *kvBuilder) error // keys after the common ones
	check      func(c *config) error    // refuses what cannot be converted
}

// archs lists the supported architectures.
var archs = []*arch{
	&qwen3, &qwen2, &qwen3moe, &llamaArch, &mistral, &gemma3, &exaone, &exaone4,
}

// findArch returns the table of a class name, or an error that lists the
// supported ones.
func findArch(c *config) (*arch, error) {
	for _, a := range archs {
		if a.hf == c.hfArch {
			return a, nil
		}
	}
	names := make([]string, len(archs))
	for i, a := range archs {
		names[i] = a.hf
	}
	slices.Sort(names)
	return nil, c.errorf("architectures", "unsupported architecture: got %s, want one of %s", c.hfArch, strings.Join(names, ", "))
}

// dims reads the sizes that tensor shapes are checked against.
func (a *arch) dims(c *config) (dims, error) {
	var d dims
	read := func(at dim, keys ...string) error {
		v, err := c.needUint32(keys...)
		if err == nil && v == 0 {
			err = c.errorf(keys[0], "got 0, want a positive integer")
		}
		d[at] = int64(v)
		return err
	}
	if err := read(dimVocab, "vocab_size"); err != nil {
		return d, err
	}
	if err := read(dimEmbd, hiddenSizeKeys...); err != nil {
		return d, err
	}
	if err := read(dimFF, feedForwardKeys...); err != nil {
		return d, err
	}
	heads, kvHeads, headDim, err := headCounts(c)
	if err != nil {
		return d, err
	}
	d[dimQ], d[dimKV], d[dimHead] = heads*headDim, kvHeads*headDim, headDim
	if a.usesExperts() {
		if err := read(dimExperts, expertCountKeys...); err != nil {
			return d, err
		}
		if err := read(dimExpertFF, "moe_intermediate_size"); err != nil {
			return d, err
		}
		d[dim2ExpertFF] = 2 * d[dimExpertFF]
	}
	return d, nil
}

// usesExperts reports whether any tensor of the architecture has an expert
// dimension.
func (a *arch) usesExperts() bool {
	return slices.ContainsFunc(a.rules, func(r rule) bool { return r.op == opExpert })
}

// headCounts reads the attention's query heads, key/value heads and head size.
func headCounts(c *config) (heads, kvHeads, headDim int64, err error) {
	h, err := c.needUint32(headCountKeys...)
	if err != nil {
		return 0, 0, 0, err
	}
	kv, ok, err := c.uint32(headCountKVKeys...)
	if err != nil {
		return 0, 0, 0, err
	}
	if !ok {
		kv = h
	}
	if h == 0 || kv == 0 || kv > h || h%kv != 0 {
		return 0, 0, 0, c.errorf("num_key_value_heads", "got %d, want a divisor of num_attention_heads %d", kv, h)
	}
	hd, ok, err := c.uint32("head_dim")
	if err != nil {
		return 0, 0, 0, err
	}
	if !ok {
		n, err := c.needUint32(hiddenSizeKeys...)
		if err != nil {
			return 0, 0, 0, err
		}
		hd = n / h
	}
	if hd == 0 {
		return 0, 0, 0, c.errorf("head_dim", "got 0, want a positive integer")
	}
	return int64(h), int64(kv), int64(hd), nil
}

// blockCount reads the number of transformer blocks.
func blockCount(c *config) (int64, error) {
	n, err := c.needUint32(blockCountKeys...)
	if err == nil && n == 0 {
		err = c.errorf(blockCountKeys[1], "got 0, want a positive integer")
	}
	return int64(n), err
}

// block returns the rules of one decoder block, named under prefix in the
// files and under "blk.{bid}." in the GGUF.
func block(prefix string, rules ...rule) []rule {
	for i := range rules {
		rules[i].hf = prefix + rules[i].hf
		rules[i].gguf = "blk.{bid}." + rules[i].gguf
	}
	return rules
}

// shapeOf evaluates a rule's shape.
func (r *rule) shapeOf(d dims) []int64 {
	s := make([]int64, len(r.shape))
	for i, at := range r.shape {
		s[i] = d[at]
	}
	return s
}

func formatShape(s []int64) string {
	parts := make([]string, len(s))
	for i, n := range s {
		parts[i] = fmt.Sprint(n)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
