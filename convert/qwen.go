package convert

import (
	"slices"
	"strings"
)

// Tensor names of llama-like models in Hugging Face's layout. The GGUF names
// are those of llama.cpp's gguf-py/gguf/tensor_mapping.py.
var (
	embedding  = rule{hf: "model.embed_tokens.weight", gguf: "token_embd.weight", shape: []dim{dimVocab, dimEmbd}}
	outputNorm = rule{hf: "model.norm.weight", gguf: "output_norm.weight", shape: []dim{dimEmbd}}
	output     = rule{hf: "lm_head.weight", gguf: "output.weight", shape: []dim{dimVocab, dimEmbd}, need: needUntied}

	attention = []rule{
		{hf: "self_attn.q_proj.weight", gguf: "attn_q.weight", shape: []dim{dimQ, dimEmbd}},
		{hf: "self_attn.k_proj.weight", gguf: "attn_k.weight", shape: []dim{dimKV, dimEmbd}},
		{hf: "self_attn.v_proj.weight", gguf: "attn_v.weight", shape: []dim{dimKV, dimEmbd}},
		{hf: "self_attn.o_proj.weight", gguf: "attn_output.weight", shape: []dim{dimEmbd, dimQ}},
	}
	attentionBias = []rule{
		{hf: "self_attn.q_proj.bias", gguf: "attn_q.bias", shape: []dim{dimQ}, need: needBias},
		{hf: "self_attn.k_proj.bias", gguf: "attn_k.bias", shape: []dim{dimKV}, need: needBias},
		{hf: "self_attn.v_proj.bias", gguf: "attn_v.bias", shape: []dim{dimKV}, need: needBias},
		{hf: "self_attn.o_proj.bias", gguf: "attn_output.bias", shape: []dim{dimEmbd}, need: needBias},
	}
	headNorms = []rule{
		{hf: "self_attn.q_norm.weight", gguf: "attn_q_norm.weight", shape: []dim{dimHead}},
		{hf: "self_attn.k_norm.weight", gguf: "attn_k_norm.weight", shape: []dim{dimHead}},
	}
	preNorms = []rule{
		{hf: "input_layernorm.weight", gguf: "attn_norm.weight", shape: []dim{dimEmbd}},
		{hf: "post_attention_layernorm.weight", gguf: "ffn_norm.weight", shape: []dim{dimEmbd}},
	}
	feedForward = []rule{
		{hf: "mlp.gate_proj.weight", gguf: "ffn_gate.weight", shape: []dim{dimFF, dimEmbd}},
		{hf: "mlp.up_proj.weight", gguf: "ffn_up.weight", shape: []dim{dimFF, dimEmbd}},
		{hf: "mlp.down_proj.weight", gguf: "ffn_down.weight", shape: []dim{dimEmbd, dimFF}},
	}
	experts = []rule{
		{hf: "mlp.gate.weight", gguf: "ffn_gate_inp.weight", shape: []dim{dimExperts, dimEmbd}},
		{hf: "mlp.experts.{xid}.down_proj.weight", gguf: "ffn_down_exps.weight", shape: []dim{dimEmbd, dimExpertFF}, op: opExpert},
		{hf: "mlp.experts.{xid}.gate_proj.weight", gguf: "ffn_gate_exps.weight", shape: []dim{dimExpertFF, dimEmbd}, op: opExpert},
		{hf: "mlp.experts.{xid}.up_proj.weight", gguf: "ffn_up_exps.weight", shape: []dim{dimExpertFF, dimEmbd}, op: opExpert},
		{hf: "mlp.experts.down_proj", gguf: "ffn_down_exps.weight", shape: []dim{dimExperts, dimEmbd, dimExpertFF}, need: needNever},
		{hf: "mlp.experts.gate_up_proj", gguf: "ffn_{half}_exps.weight", shape: []dim{dimExperts, dim2ExpertFF, dimEmbd}, op: opGateUp, need: needNever},
	}
)

// standardLayers is the usual place of the blocks.
const standardLayers = "model.layers.{bid}."

// standardRules puts the rules of one block between embedding and output.
func standardRules(blockRules ...[]rule) []rule {
	return slices.Concat([]rule{embedding, outputNorm, output}, block(standardLayers, slices.Concat(blockRules...)...))
}

// needed returns the rules with another need.
func needed(n need, rules []rule) []rule {
	out := slices.Clone(rules)
	for i := range out {
		out[i].need = n
	}
	return out
}

// qwen3 is conversion/qwen.py's Qwen3Model.
var qwen3 = arch{
	hf: "Qwen3ForCausalLM", name: "qwen3", modelTypes: []string{"qwen3"}, vocab: vocabQwen, bare: true,
	rules: standardRules(attention, attentionBias, headNorms, preNorms, feedForward),
	keys:  (*kvBuilder).poolingType,
	check: refuseReranker,
}

// qwen2 is conversion/qwen.py's Qwen2Model: biases on q, k and v, no head
// norms.
var qwen2 = arch{
	hf: "Qwen2ForCausalLM", name: "qwen2", modelTypes: []string{"qwen2"}, vocab: vocabQwen, bare: true,
	rules: standardRules(attention, needed(needAlways, attentionBias[:3]), needed(needNever, attentionBias[3:]), preNorms, feedForward),
	keys:  (*kvBuilder).poolingType,
}

// qwen3moe is conversion/qwen.py's Qwen3MoeModel: every block has experts.
var qwen3moe = arch{
	hf: "Qwen3MoeForCausalLM", name: "qwen3moe", modelTypes: []string{"qwen3_moe"}, vocab: vocabGPT2,
	rules: standardRules(attention, attentionBias, headNorms, preNorms, experts),
	keys: func(b *kvBuilder) error {
		if err := b.u32Optional("expert_feed_forward_length", "moe_intermediate_size"); err != nil {
			return err
		}
		return b.u32Optional("expert_shared_feed_forward_length", "shared_expert_intermediate_size")
	},
}

// refuseReranker stops where the reference would switch to its reranker mode,
// which cuts a classifier out of the output matrix.
func refuseReranker(c *config) error {
	hints := []string{pathName(c.dir), c.nameOrPath(), c.modelType()}
	for _, h := range hints {
		h = strings.ToLower(h)
		if strings.Contains(h, "qwen3-reranker") || strings.Contains(h, "qwen3-vl-reranker") {
			return c.errorf("architectures", "unsupported: %q makes this a Qwen3 reranker, which needs a classifier head", h)
		}
	}
	card := strings.ToLower(c.readme)
	if strings.Contains(card, "# qwen3-reranker") || strings.Contains(card, "# qwen3-vl-reranker") {
		return c.errorf("architectures", "unsupported: README.md calls this a Qwen3 reranker, which needs a classifier head")
	}
	return nil
}
