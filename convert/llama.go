package convert

import "slices"

// llamaAttention permutes q and k: Hugging Face rotates the halves of a head,
// llama.cpp's llama graph rotates neighbouring pairs.
var llamaAttention = func() []rule {
	rules := slices.Concat(attention, attentionBias)
	for i := range rules {
		switch rules[i].gguf {
		case "attn_q.weight", "attn_q.bias":
			rules[i].op = opPermuteQ
		case "attn_k.weight", "attn_k.bias":
			rules[i].op = opPermuteK
		}
	}
	return rules
}()

var feedForwardBias = []rule{
	{hf: "mlp.gate_proj.bias", gguf: "ffn_gate.bias", shape: []dim{dimFF}, need: needMLPBias},
	{hf: "mlp.up_proj.bias", gguf: "ffn_up.bias", shape: []dim{dimFF}, need: needMLPBias},
	{hf: "mlp.down_proj.bias", gguf: "ffn_down.bias", shape: []dim{dimEmbd}, need: needMLPBias},
}

// llamaArch is conversion/llama.py's LlamaModel.
var llamaArch = arch{
	hf: "LlamaForCausalLM", name: "llama", modelTypes: []string{"llama", "mistral"}, vocab: vocabLlama, bare: true,
	rules:     standardRules(llamaAttention, preNorms, feedForward, feedForwardBias),
	ropeFreqs: &ropeFreqDefaults{factor: 8},
	keys:      llamaKeys,
	check:     refuseEagle,
}

// mistral is the same class under Mistral's name.
var mistral = arch{
	hf: "MistralForCausalLM", name: "llama", modelTypes: []string{"mistral", "llama"}, vocab: vocabLlama, bare: true,
	rules:     llamaArch.rules,
	ropeFreqs: llamaArch.ropeFreqs,
	keys:      llamaKeys,
	check:     refuseEagle,
}

func llamaKeys(b *kvBuilder) error {
	if err := b.u32Needed("vocab_size", "vocab_size"); err != nil {
		return err
	}
	_, _, headDim, err := headCounts(b.c)
	if err != nil {
		return err
	}
	if headDim%2 != 0 {
		return b.c.errorf("head_dim", "got %d, want an even number", headDim)
	}
	return b.set("rope.dimension_count", uint32(headDim))
}

// refuseEagle stops where the reference would take the folder for an EAGLE-3
// draft model.
func refuseEagle(c *config) error {
	if _, ok := c.get("draft_vocab_size"); ok {
		return c.errorf("draft_vocab_size", "unsupported: EAGLE-3 draft models cannot be converted")
	}
	return nil
}
