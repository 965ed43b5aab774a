package tinymodel

import (
	"fmt"
	"hash/fnv"
	"math"
)

// The special tokens of every tiny model: 256, 257 and 258, behind the 256 bytes.
const (
	EndOfText = "<|endoftext|>" // BOS
	Start     = "<|im_start|>"
	End       = "<|im_end|>" // EOS
)

// Options says what a random model is like; the zero value is a Qwen3 of two
// blocks of hidden size 32.
type Options struct {
	Arch     string // "qwen3" (default) or "llama"
	Seed     string // other seeds give other weights
	Blocks   int
	Embd     int
	Heads    int
	KVHeads  int
	HeadDim  int
	FF       int
	Context  int
	RopeBase float32
	AddBOS   bool
	Tied     bool     // no output.weight
	Extra    []string // more tokens behind the special ones
	Merges   []string // "a b": pairs that become one token, which must be in Extra
}

func (o *Options) defaults() {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.Blocks, 2}, {&o.Embd, 32}, {&o.Heads, 4}, {&o.KVHeads, 2}, {&o.HeadDim, 16}, {&o.FF, 64}, {&o.Context, 1024}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Arch == "" {
		o.Arch = "qwen3"
	}
	if o.RopeBase == 0 {
		o.RopeBase = 1e6
	}
}

// Random is a model whose weights are pseudo-random: what it generates makes no
// sense, and depends on every earlier token.
func Random(o Options) *Model {
	o.defaults()
	m := &Model{}
	m.Set("general.architecture", o.Arch)
	m.Set("general.name", "tiny")
	key := func(name string) string { return o.Arch + "." + name }
	m.Set(key("block_count"), uint32(o.Blocks))
	m.Set(key("context_length"), uint32(o.Context))
	m.Set(key("embedding_length"), uint32(o.Embd))
	m.Set(key("feed_forward_length"), uint32(o.FF))
	m.Set(key("attention.head_count"), uint32(o.Heads))
	m.Set(key("attention.head_count_kv"), uint32(o.KVHeads))
	m.Set(key("attention.key_length"), uint32(o.HeadDim))
	m.Set(key("attention.value_length"), uint32(o.HeadDim))
	m.Set(key("attention.layer_norm_rms_epsilon"), float32(1e-6))
	m.Set(key("rope.freq_base"), o.RopeBase)
	if o.Arch == "llama" {
		m.Set(key("rope.dimension_count"), uint32(o.HeadDim))
	}
	m.setVocab(o)

	tokens := len(m.Get("tokenizer.ggml.tokens").([]string))
	add := func(name string, ne ...int) { m.Tensors = append(m.Tensors, random(o.Seed, name, ne)) }
	add("token_embd.weight", o.Embd, tokens)
	add("output_norm.weight", o.Embd)
	if !o.Tied {
		add("output.weight", o.Embd, tokens)
	}
	for i := range o.Blocks {
		blk := func(name string, ne ...int) { add(fmt.Sprintf("blk.%d.%s.weight", i, name), ne...) }
		blk("attn_norm", o.Embd)
		blk("attn_q", o.Embd, o.Heads*o.HeadDim)
		blk("attn_k", o.Embd, o.KVHeads*o.HeadDim)
		blk("attn_v", o.Embd, o.KVHeads*o.HeadDim)
		blk("attn_output", o.Heads*o.HeadDim, o.Embd)
		if o.Arch == "qwen3" {
			blk("attn_q_norm", o.HeadDim)
			blk("attn_k_norm", o.HeadDim)
		}
		blk("ffn_norm", o.Embd)
		blk("ffn_gate", o.Embd, o.FF)
		blk("ffn_up", o.Embd, o.FF)
		blk("ffn_down", o.FF, o.Embd)
	}
	return m
}

// Chain is a model that has learnt one thing: which token follows which, whatever
// came before. next gives it as text; a text that is no token is a mistake in the
// test. Logits are peak for the token that follows and 0 for all others.
//
// It is made by hand: embeddings are unit vectors, attention and feed-forward add
// nothing, and row t of the output matrix picks the tokens that t follows.
func Chain(o Options, peak float32, next func(token string) string) *Model {
	o.defaults()
	o.Blocks, o.Tied = 1, false
	probe := &Model{}
	probe.setVocab(o)
	texts := Texts(probe)
	o.Embd = (len(texts) + 31) / 32 * 32
	m := Random(o)
	for _, name := range []string{"blk.0.attn_output.weight", "blk.0.ffn_down.weight"} {
		clear(m.Tensor(name))
	}
	embd, output, norm := m.Tensor("token_embd.weight"), m.Tensor("output.weight"), m.Tensor("output_norm.weight")
	clear(embd)
	clear(output)
	for i := range norm {
		norm[i] = 1
	}
	ids := map[string]int{}
	for id, text := range texts {
		ids[text] = id
	}
	scale := peak / float32(math.Sqrt(float64(o.Embd))) // the norm makes √n_embd of a unit vector
	for id, text := range texts {
		follower, ok := ids[next(text)]
		if !ok {
			panic(fmt.Sprintf("tinymodel: %q is no token", next(text)))
		}
		embd[id*o.Embd+id] = 1
		output[follower*o.Embd+id] = scale
	}
	return m
}

// Texts lists what each token of a model stands for, by id. Special tokens stand
// for themselves.
func Texts(m *Model) []string {
	tokens := m.Get("tokenizer.ggml.tokens").([]string)
	bytes := map[rune]byte{}
	for b := range 256 {
		bytes[byteRune(byte(b))] = byte(b)
	}
	special := map[string]bool{EndOfText: true, Start: true, End: true}
	texts := make([]string, len(tokens))
	for i, token := range tokens {
		if special[token] {
			texts[i] = token
			continue
		}
		var text []byte
		for _, r := range token {
			text = append(text, bytes[r])
		}
		texts[i] = string(text)
	}
	return texts
}

// LoRA is an adapter for the query and output projections of every block of m,
// of the given rank and alpha = rank.
func LoRA(m *Model, seed string, rank int) *Model {
	a := &Model{}
	a.Set("general.architecture", m.Get("general.architecture"))
	a.Set("general.type", "adapter")
	a.Set("adapter.type", "lora")
	a.Set("adapter.lora.alpha", float32(rank))
	for _, t := range m.Tensors {
		var block int
		var name string
		if n, _ := fmt.Sscanf(t.Name, "blk.%d.%s", &block, &name); n != 2 || (name != "attn_q.weight" && name != "attn_output.weight") {
			continue
		}
		a.Tensors = append(a.Tensors,
			random(seed, t.Name+".lora_a", []int{t.NE[0], rank}),
			random(seed, t.Name+".lora_b", []int{rank, t.NE[1]}))
	}
	return a
}

// setVocab writes a byte-level BPE vocabulary: 256 bytes, the special tokens,
// extra tokens.
func (m *Model) setVocab(o Options) {
	const normal, control = 1, 3
	var tokens []string
	var types []int32
	for b := range 256 {
		tokens, types = append(tokens, string(byteRune(byte(b)))), append(types, normal)
	}
	for _, special := range []string{EndOfText, Start, End} {
		tokens, types = append(tokens, special), append(types, control)
	}
	for _, extra := range o.Extra {
		text := ""
		for _, b := range []byte(extra) {
			text += string(byteRune(b))
		}
		tokens, types = append(tokens, text), append(types, normal)
	}
	m.Set("tokenizer.ggml.model", "gpt2")
	m.Set("tokenizer.ggml.pre", "qwen2")
	m.Set("tokenizer.ggml.tokens", tokens)
	m.Set("tokenizer.ggml.token_type", types)
	m.Set("tokenizer.ggml.merges", append([]string{}, o.Merges...))
	m.Set("tokenizer.ggml.bos_token_id", uint32(256))
	m.Set("tokenizer.ggml.eos_token_id", uint32(258))
	m.Set("tokenizer.ggml.padding_token_id", uint32(256))
	m.Set("tokenizer.ggml.add_bos_token", o.AddBOS)
}

// byteRune is the letter that byte-level BPE writes for a byte (GPT-2's
// bytes_to_unicode): itself where it is printable, else the next from 256 on.
func byteRune(b byte) rune {
	printable := func(b int) bool {
		return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff)
	}
	if printable(int(b)) {
		return rune(b)
	}
	n := rune(256)
	for i := range int(b) {
		if !printable(i) {
			n++
		}
	}
	return n
}

// random fills a tensor: norms are near 1, matrices have rows of length about 1.
// The stream of numbers is splitmix64, seeded by the name.
func random(seed, name string, ne []int) Tensor {
	n := 1
	for _, x := range ne {
		n *= x
	}
	h := fnv.New64a()
	h.Write([]byte(seed + "\x00" + name))
	state := h.Sum64()
	uniform := func() float64 { // in [-1, 1)
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return float64(int64(z^z>>31)) / (1 << 63)
	}
	data := make([]float32, n)
	for i := range data {
		if len(ne) == 1 {
			data[i] = float32(1 + 0.25*uniform())
		} else {
			data[i] = float32(uniform() * math.Sqrt(3/float64(ne[0])))
		}
	}
	if name == "output.weight" { // logits that differ by a few units
		for i := range data {
			data[i] *= 3
		}
	}
	return Tensor{Name: name, NE: ne, Data: data}
}

// Mamba is a random recurrent model: its memory is one state, which cannot go
// back to an earlier token.
func Mamba(o Options) *Model {
	o.defaults()
	const conv, state, rank = 4, 8, 2
	inner := 2 * o.Embd
	m := &Model{}
	m.Set("general.architecture", "mamba")
	m.Set("general.name", "tiny")
	for _, kv := range []struct {
		key   string
		value int
	}{
		{"block_count", o.Blocks}, {"context_length", o.Context}, {"embedding_length", o.Embd},
		{"feed_forward_length", 0}, {"attention.head_count", 0},
		{"ssm.conv_kernel", conv}, {"ssm.inner_size", inner}, {"ssm.state_size", state}, {"ssm.time_step_rank", rank},
	} {
		m.Set("mamba."+kv.key, uint32(kv.value))
	}
	m.Set("mamba.attention.layer_norm_rms_epsilon", float32(1e-5))
	m.setVocab(o)

	tokens := len(m.Get("tokenizer.ggml.tokens").([]string))
	add := func(name string, ne ...int) []float32 {
		t := random(o.Seed, name, ne)
		m.Tensors = append(m.Tensors, t)
		return t.Data
	}
	add("token_embd.weight", o.Embd, tokens)
	add("output_norm.weight", o.Embd)
	add("output.weight", o.Embd, tokens)
	for i := range o.Blocks {
		blk := func(name string, ne ...int) []float32 { return add(fmt.Sprintf("blk.%d.%s", i, name), ne...) }
		blk("attn_norm.weight", o.Embd)
		blk("ssm_in.weight", o.Embd, 2*inner)
		blk("ssm_conv1d.weight", conv, inner)
		blk("ssm_conv1d.bias", inner)
		blk("ssm_x.weight", inner, rank+2*state)
		blk("ssm_dt.weight", rank, inner)
		blk("ssm_dt.bias", inner)
		for j, a := range blk("ssm_a", state, inner) { // negative, so that the state fades
			m.Tensors[len(m.Tensors)-1].Data[j] = -0.1 - a*a
		}
		blk("ssm_d", inner)
		blk("ssm_out.weight", inner, o.Embd)
	}
	return m
}
