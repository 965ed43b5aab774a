package convert

import "math/big"

// exaone is conversion/exaone.py's ExaoneModel: EXAONE 3.x, whose class is not
// part of transformers, so config.json is used as it stands.
var exaone = arch{
	hf: "ExaoneForCausalLM", name: "exaone", modelTypes: []string{"exaone"}, vocab: vocabGPT2,
	rules: append([]rule{
		{hf: "transformer.wte.weight", gguf: "token_embd.weight", shape: []dim{dimVocab, dimEmbd}},
		{hf: "transformer.ln_f.weight", gguf: "output_norm.weight", shape: []dim{dimEmbd}},
		output,
	}, block("transformer.h.{bid}.",
		rule{hf: "ln_1.weight", gguf: "attn_norm.weight", shape: []dim{dimEmbd}},
		rule{hf: "ln_2.weight", gguf: "ffn_norm.weight", shape: []dim{dimEmbd}},
		rule{hf: "attn.attention.q_proj.weight", gguf: "attn_q.weight", shape: []dim{dimQ, dimEmbd}},
		rule{hf: "attn.attention.k_proj.weight", gguf: "attn_k.weight", shape: []dim{dimKV, dimEmbd}},
		rule{hf: "attn.attention.v_proj.weight", gguf: "attn_v.weight", shape: []dim{dimKV, dimEmbd}},
		rule{hf: "attn.attention.out_proj.weight", gguf: "attn_output.weight", shape: []dim{dimEmbd, dimQ}},
		rule{hf: "mlp.c_fc_0.weight", gguf: "ffn_gate.weight", shape: []dim{dimFF, dimEmbd}},
		rule{hf: "mlp.c_fc_1.weight", gguf: "ffn_up.weight", shape: []dim{dimFF, dimEmbd}},
		rule{hf: "mlp.c_proj.weight", gguf: "ffn_down.weight", shape: []dim{dimEmbd, dimFF}},
	)...),
	ropeFreqs: &ropeFreqDefaults{factor: 8, wantBand: true},
	keys:      exaoneKeys,
}

func exaoneKeys(b *kvBuilder) error {
	act, _, err := b.c.text("activation_function")
	if err != nil {
		return err
	}
	if act != "silu" {
		return b.c.errorf("activation_function", "got %q, want \"silu\"", act)
	}
	factor := 1.0
	if v, _ := b.rope.get("partial_rotary_factor"); v != nil {
		if factor, err = asFloat64(v); err != nil {
			return b.c.errorf("partial_rotary_factor", "%v", err)
		}
		if factor <= 0 || factor > 1 {
			return b.c.errorf("partial_rotary_factor", "got %v, want a number above 0 and up to 1", factor)
		}
	}
	embd, err := b.c.needUint32("hidden_size")
	if err != nil {
		return err
	}
	heads, err := b.c.needUint32("num_attention_heads")
	if err != nil {
		return err
	}
	return b.set("rope.dimension_count", uint32(factor*float64(embd/heads)))
}

// fixExaoneNorm deals with a key that the reference gets wrong: it writes
// EXAONE 3.5's layer_norm_epsilon under the LayerNorm key, but llama.cpp's
// exaone graph demands the RMS key and refuses to load such a file.
func fixExaoneNorm(b *kvBuilder, fix bool) error {
	const rmsKey, normKey = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
	if b.a != &exaone {
		return nil
	}
	eps, hasNorm := b.m.Get(b.key(normKey))
	if _, hasRMS := b.m.Get(b.key(rmsKey)); hasRMS || !hasNorm {
		return nil
	}
	if !fix {
		b.warn("llama.cpp will not load this file: it has " + b.key(normKey) + ", as the reference converter writes it, but no " + b.key(rmsKey) + "; fixing keys adds it")
		return nil
	}
	return b.m.Set(b.key(rmsKey), eps)
}

// exaone4 is conversion/exaone.py's Exaone4Model: norms after attention and
// feed-forward instead of before, and sliding windows on some blocks.
var exaone4 = arch{
	hf: "Exaone4ForCausalLM", name: "exaone4", modelTypes: []string{"exaone4"}, vocab: vocabGPT2, bare: true,
	rules: standardRules(attention, headNorms, feedForward, []rule{
		{hf: "post_attention_layernorm.weight", gguf: "post_attention_norm.weight", shape: []dim{dimEmbd}},
		{hf: "post_feedforward_layernorm.weight", gguf: "post_ffw_norm.weight", shape: []dim{dimEmbd}},
	}),
	ropeFreqs: &ropeFreqDefaults{factor: 16},
	keys:      exaone4Keys,
}

func exaone4Keys(b *kvBuilder) error {
	if err := b.u32Needed("vocab_size", "vocab_size"); err != nil {
		return err
	}
	if v, _ := b.c.get("sliding_window"); v == nil {
		return nil
	}
	if err := b.u32Needed("attention.sliding_window", "sliding_window"); err != nil {
		return err
	}
	pattern, err := slidingPattern(b.c)
	if err != nil || len(pattern) == 0 {
		return err
	}
	return b.set("attention.sliding_window_pattern", pattern)
}

// slidingPattern tells for each block whether its attention slides: from
// layer_types, else from a pattern, either a string such as "LLLG" (L slides)
// or a number n (every n-th block does not).
func slidingPattern(c *config) ([]bool, error) {
	n, err := blockCount(c)
	if err != nil {
		return nil, err
	}
	var out []bool
	if v, ok := c.get("layer_types"); ok {
		list, isList := v.([]any)
		if !isList {
			return nil, c.errorf("layer_types", "got %s, want an array", jsonKind(v))
		}
		for _, t := range list {
			out = append(out, t == "sliding_attention")
		}
		return out, nil
	}
	v, _ := c.get("sliding_window_pattern")
	switch p := v.(type) {
	case string:
		letters := []rune(p)
		if len(letters) == 0 {
			return nil, c.errorf("sliding_window_pattern", "got an empty string, want letters such as \"LLLG\"")
		}
		for i := range n {
			out = append(out, letters[i%int64(len(letters))] == 'L')
		}
	case int64:
		if p == 0 {
			return nil, c.errorf("sliding_window_pattern", "got 0, want a positive integer")
		}
		for i := range n {
			out = append(out, (i+1)%p != 0)
		}
	case nil:
	case *big.Int, float64, bool, []any, *object:
		return nil, c.errorf("sliding_window_pattern", "got %s, want a string or an integer", jsonKind(v))
	}
	return out, nil
}
