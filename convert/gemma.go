package convert

import (
	"slices"
	"strings"
)

// gemma3 is conversion/gemma.py's Gemma3Model: norms stored minus one, four
// norms per block, and embedding rows beyond the tokenizer's vocabulary cut.
var gemma3 = arch{
	hf: "Gemma3ForCausalLM", name: "gemma3", modelTypes: []string{"gemma3_text"}, vocab: vocabGemma3, bare: true,
	rules: plusOneNorms(standardRules(attention, attentionBias, headNorms, feedForward, []rule{
		{hf: "input_layernorm.weight", gguf: "attn_norm.weight", shape: []dim{dimEmbd}},
		{hf: "post_attention_layernorm.weight", gguf: "post_attention_norm.weight", shape: []dim{dimEmbd}},
		{hf: "pre_feedforward_layernorm.weight", gguf: "ffn_norm.weight", shape: []dim{dimEmbd}},
		{hf: "post_feedforward_layernorm.weight", gguf: "post_ffw_norm.weight", shape: []dim{dimEmbd}},
	})),
	keys: gemma3Keys,
}

// plusOneNorms marks the norms for + 1 and the embedding for its cut.
func plusOneNorms(rules []rule) []rule {
	rules = slices.Clone(rules)
	for i, r := range rules {
		switch {
		case strings.HasSuffix(r.hf, "norm.weight"):
			rules[i].op = opAddOne
		case r.gguf == embedding.gguf:
			rules[i].op = opCutRows
		}
	}
	return rules
}

// gemma3Keys writes the common keys once more, with Gemma 3's own defaults
// where config.json and the class defaults leave one out, then the keys only
// Gemma 3 has.
func gemma3Keys(b *kvBuilder) error {
	ropeTheta := float32(1_000_000)
	if v, ok := b.rope.full().get("rope_theta"); ok {
		f, err := asFloat32(v)
		if err != nil {
			return b.c.errorf("rope_theta", "%v", err)
		}
		ropeTheta = f
	}
	if v, _ := b.c.get("attn_logit_softcapping"); v != nil {
		return b.c.errorf("attn_logit_softcapping", "unsupported: got a value, want null for Gemma 3")
	}
	softcap, _, err := b.c.float32("final_logit_softcapping")
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return b.u32Default("context_length", "max_position_embeddings", 131072) },
		func() error { return b.u32Default("attention.head_count", "num_attention_heads", 8) },
		func() error { return b.f32Default("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6) },
		func() error { return b.u32Default("attention.key_length", "head_dim", 256) },
		func() error { return b.u32Default("attention.value_length", "head_dim", 256) },
		func() error { return b.set("rope.freq_base", ropeTheta) },
		func() error {
			if softcap == 0 {
				return nil
			}
			return b.set("final_logit_softcapping", softcap)
		},
		func() error {
			if v, _ := b.c.get("sliding_window_pattern"); v == int64(1) {
				return nil
			}
			return b.u32Needed("attention.sliding_window", "sliding_window")
		},
		func() error { return b.u32Default("attention.head_count_kv", "num_key_value_heads", 4) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
