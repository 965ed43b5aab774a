package testmodel

import "fmt"

// dims are the sizes of a model. Zero means "the family has no such thing".
type dims struct {
	blocks, hidden, ffn, heads, kvHeads, headDim, vocab int64
	experts, expertFFN                                  int64
	tied                                                bool // no lm_head among the tensors
	fused                                               bool // experts as gate_up_proj and down_proj
	extraRows                                           int64
}

// layout lists the tensors of a model in the order of its network, which is
// neither the byte order of the names nor that of the GGUF file.
type layout func(d dims) []tensor

func weight(name string, shape ...int64) tensor { return tensor{name, shape, roleWeight} }
func norm(name string, n int64) tensor          { return tensor{name, []int64{n}, roleNorm} }
func bias(name string, n int64) tensor          { return tensor{name, []int64{n}, roleBias} }

// around puts embeddings, final norm and head around the blocks.
func around(d dims, block func(p string) []tensor) []tensor {
	ts := []tensor{weight("model.embed_tokens.weight", d.vocab+d.extraRows, d.hidden)}
	for i := range d.blocks {
		ts = append(ts, block(fmt.Sprintf("model.layers.%d.", i))...)
	}
	ts = append(ts, norm("model.norm.weight", d.hidden))
	if !d.tied {
		ts = append(ts, weight("lm_head.weight", d.vocab+d.extraRows, d.hidden))
	}
	return ts
}

func attention(d dims, p string) []tensor {
	return []tensor{
		weight(p+"self_attn.q_proj.weight", d.heads*d.headDim, d.hidden),
		weight(p+"self_attn.k_proj.weight", d.kvHeads*d.headDim, d.hidden),
		weight(p+"self_attn.v_proj.weight", d.kvHeads*d.headDim, d.hidden),
		weight(p+"self_attn.o_proj.weight", d.hidden, d.heads*d.headDim),
	}
}

func headNorms(d dims, p string) []tensor {
	return []tensor{norm(p+"self_attn.q_norm.weight", d.headDim), norm(p+"self_attn.k_norm.weight", d.headDim)}
}

func feedForward(d dims, p string) []tensor {
	return []tensor{
		weight(p+"mlp.gate_proj.weight", d.ffn, d.hidden),
		weight(p+"mlp.up_proj.weight", d.ffn, d.hidden),
		weight(p+"mlp.down_proj.weight", d.hidden, d.ffn),
	}
}

func preNorms(d dims, p string) []tensor {
	return []tensor{norm(p+"input_layernorm.weight", d.hidden), norm(p+"post_attention_layernorm.weight", d.hidden)}
}

func join(parts ...[]tensor) []tensor {
	var out []tensor
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func llamaTensors(d dims) []tensor {
	return around(d, func(p string) []tensor {
		return join(attention(d, p), feedForward(d, p), preNorms(d, p))
	})
}

func qwen2Tensors(d dims) []tensor {
	return around(d, func(p string) []tensor {
		biases := []tensor{bias(p+"self_attn.q_proj.bias", d.heads*d.headDim), bias(p+"self_attn.k_proj.bias", d.kvHeads*d.headDim),
			bias(p+"self_attn.v_proj.bias", d.kvHeads*d.headDim)}
		return join(attention(d, p), biases, feedForward(d, p), preNorms(d, p))
	})
}

func qwen3Tensors(d dims) []tensor {
	return around(d, func(p string) []tensor {
		return join(attention(d, p), headNorms(d, p), feedForward(d, p), preNorms(d, p))
	})
}

func qwen3MoeTensors(d dims) []tensor {
	return around(d, func(p string) []tensor {
		return join(attention(d, p), headNorms(d, p), experts(d, p), preNorms(d, p))
	})
}

// experts lists a router and its experts: one tensor per expert and
// projection, or the fused form with the expert as outermost dimension.
func experts(d dims, p string) []tensor {
	ts := []tensor{weight(p+"mlp.gate.weight", d.experts, d.hidden)}
	if d.fused {
		return append(ts,
			weight(p+"mlp.experts.gate_up_proj", d.experts, 2*d.expertFFN, d.hidden),
			weight(p+"mlp.experts.down_proj", d.experts, d.hidden, d.expertFFN))
	}
	for e := range d.experts {
		q := fmt.Sprintf("%smlp.experts.%d.", p, e)
		ts = append(ts, weight(q+"gate_proj.weight", d.expertFFN, d.hidden), weight(q+"up_proj.weight", d.expertFFN, d.hidden),
			weight(q+"down_proj.weight", d.hidden, d.expertFFN))
	}
	return ts
}

func gemma3Tensors(d dims) []tensor {
	ts := around(d, func(p string) []tensor {
		return join(attention(d, p), headNorms(d, p), feedForward(d, p), preNorms(d, p),
			[]tensor{norm(p+"pre_feedforward_layernorm.weight", d.hidden), norm(p+"post_feedforward_layernorm.weight", d.hidden)})
	})
	for i := range ts {
		if ts[i].role == roleNorm {
			ts[i].role = roleShifted
		}
	}
	return ts
}

func exaoneTensors(d dims) []tensor {
	ts := []tensor{weight("transformer.wte.weight", d.vocab, d.hidden)}
	for i := range d.blocks {
		p := fmt.Sprintf("transformer.h.%d.", i)
		a := p + "attn.attention."
		ts = append(ts, norm(p+"ln_1.weight", d.hidden),
			weight(a+"q_proj.weight", d.heads*d.headDim, d.hidden), weight(a+"k_proj.weight", d.kvHeads*d.headDim, d.hidden),
			weight(a+"v_proj.weight", d.kvHeads*d.headDim, d.hidden), weight(a+"out_proj.weight", d.hidden, d.heads*d.headDim),
			norm(p+"ln_2.weight", d.hidden),
			weight(p+"mlp.c_fc_0.weight", d.ffn, d.hidden), weight(p+"mlp.c_fc_1.weight", d.ffn, d.hidden),
			weight(p+"mlp.c_proj.weight", d.hidden, d.ffn))
	}
	ts = append(ts, norm("transformer.ln_f.weight", d.hidden))
	if !d.tied {
		ts = append(ts, weight("lm_head.weight", d.vocab, d.hidden))
	}
	return ts
}

func exaone4Tensors(d dims) []tensor {
	return around(d, func(p string) []tensor {
		return join(attention(d, p), headNorms(d, p), feedForward(d, p),
			[]tensor{norm(p+"post_attention_layernorm.weight", d.hidden), norm(p+"post_feedforward_layernorm.weight", d.hidden)})
	})
}
