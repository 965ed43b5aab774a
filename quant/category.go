package quant

import (
	"slices"
	"strings"
)

// category is the role of a tensor, as far as the choice of its type goes.
type category int

const (
	catOther category = iota
	catOutput
	catTokenEmbd
	catAttnQKV
	catAttnKVB
	catAttnV
	catAttnK
	catAttnQ
	catAttnOutput
	catFFNUp
	catFFNGate
	catFFNDown
)

// isAttnV is true for what holds the attention's values, alone or with other parts.
func (c category) isAttnV() bool { return c == catAttnV || c == catAttnQKV || c == catAttnKVB }

const (
	outputName        = "output.weight"
	tokenEmbdName     = "token_embd.weight"
	perLayerTokenEmbd = "per_layer_token_embd.weight"
	positionEmbdName  = "position_embd.weight"
	tokenTypesName    = "token_types.weight"
	weightSuffix      = "weight"
	normSuffix        = "_norm.weight"
)

// categoryParts maps a part of the name to the category; the first hit counts
// (tensor_get_category in src/llama-quant.cpp).
var categoryParts = []struct {
	part string
	cat  category
}{
	{"attn_qkv.weight", catAttnQKV},
	{"attn_kv_b.weight", catAttnKVB},
	{"attn_v.weight", catAttnV},
	{"attn_k.weight", catAttnK},
	{"attn_q.weight", catAttnQ},
	{"attn_output.weight", catAttnOutput},
	{"ffn_up", catFFNUp},
	{"ffn_gate", catFFNGate},
	{"ffn_down", catFFNDown},
}

func categoryOf(name string) category {
	switch name {
	case outputName:
		return catOutput
	case tokenEmbdName, perLayerTokenEmbd:
		return catTokenEmbd
	}
	for _, c := range categoryParts {
		if strings.Contains(name, c.part) {
			return c.cat
		}
	}
	return catOther
}

// keptParts are parts of names of weights that are never quantized: norms,
// routers, position tables, convolutions and other small ones
// (tensor_allows_quantization in src/llama-quant.cpp).
var keptParts = []string{
	normSuffix,
	"ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",
	"altup", "laurel", "per_layer_model_proj",
	"ssm_conv1d", "shortconv.conv.weight",
	"indexer.k_proj.weight", "indexer.q_proj.weight",
	"time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
	"time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight",
	"time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
	"time_mix_g1.weight", "time_mix_g2.weight",
	"time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
	"attn_rel_b.weight",
	".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
	"a.rvq.codebook", "mm.a.code_embd",
}

// isQuantizable reports whether a tensor's type may be changed at all. ne is
// without trailing ones.
func isQuantizable(name string, ne []int64, leaveOutput bool) bool {
	// The reference compares a position of "weight" with the length less six, which
	// wraps for names of five bytes so that they pass too.
	if len(ne) < 2 || !strings.HasSuffix(name, weightSuffix) && len(name) != 5 {
		return false
	}
	switch name {
	case positionEmbdName, tokenTypesName:
		return false
	case outputName:
		return !leaveOutput
	}
	return !slices.ContainsFunc(keptParts, func(part string) bool { return strings.Contains(name, part) })
}
