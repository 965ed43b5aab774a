package convert

import (
	"fmt"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// Names that config.json uses for one hyperparameter, in the reference's order
// of preference (conversion/base.py, TextModel).
var (
	blockCountKeys  = []string{"n_layers", "num_hidden_layers", "n_layer", "num_layers"}
	contextKeys     = []string{"max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length"}
	hiddenSizeKeys  = []string{"hidden_size", "n_embd", "dim"}
	feedForwardKeys = []string{"prefix_dense_intermediate_size", "dense_intermediate_size", "intermediate_size", "n_inner", "hidden_dim"}
	headCountKeys   = []string{"num_attention_heads", "n_head", "n_heads"}
	headCountKVKeys = []string{"num_key_value_heads", "n_kv_heads"}
	expertCountKeys = []string{"num_local_experts", "num_experts", "n_routed_experts"}
	expertUsedKeys  = []string{"num_experts_per_tok", "num_experts_per_token", "top_k_experts"}
	scoreFuncKeys   = []string{"score_function", "scoring_func", "score_func", "moe_router_activation", "moe_router_activation_func", "expert_selection_fn"}
)

// fileTypes gives general.file_type of each output type (ggml's ftype numbers).
var fileTypes = map[string]uint32{"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}

// expertGatingFuncs gives the numbers of llama.cpp's gating functions.
var expertGatingFuncs = map[string]uint32{"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}

// kvBuilder collects the model's keys in the reference's order of writing.
type kvBuilder struct {
	c       *config
	a       *arch
	m       *gguf.Metadata
	rope    *ropeParams
	outType string
	warn    func(string)
}

// key prefixes an architecture key.
func (b *kvBuilder) key(k string) string { return b.a.name + "." + k }

// set writes an architecture key.
func (b *kvBuilder) set(key string, v any) error { return b.m.Set(b.key(key), v) }

// u32Optional writes the first present of from as a u32; absent or null writes
// nothing.
func (b *kvBuilder) u32Optional(key string, from ...string) error {
	v, ok, err := b.c.uint32(from...)
	if err != nil || !ok {
		return err
	}
	return b.set(key, v)
}

// u32Needed writes a u32 that must be there.
func (b *kvBuilder) u32Needed(key, from string) error {
	v, err := b.c.needUint32(from)
	if err != nil {
		return err
	}
	return b.set(key, v)
}

// u32Default writes a u32, or def where the key is absent. A null is an error,
// as in the reference, which cannot pack it.
func (b *kvBuilder) u32Default(key, from string, def uint32) error {
	if _, ok := b.c.get(from); ok {
		return b.u32Needed(key, from)
	}
	return b.set(key, def)
}

// f32Default is u32Default for floats.
func (b *kvBuilder) f32Default(key, from string, def float32) error {
	if _, ok := b.c.get(from); !ok {
		return b.set(key, def)
	}
	v, ok, err := b.c.float32(from)
	if err == nil && !ok {
		err = b.c.errorf(from, "got null, want a number")
	}
	if err != nil {
		return err
	}
	return b.set(key, v)
}

func (b *kvBuilder) f32Optional(key string, from ...string) error {
	v, ok, err := b.c.float32(from...)
	if err != nil || !ok {
		return err
	}
	return b.set(key, v)
}

// write sets every architecture key: the common ones, general.file_type, then
// the architecture's own.
func (b *kvBuilder) write() error {
	steps := []func() error{
		func() error { return b.u32Optional("block_count", blockCountKeys...) },
		func() error { return b.u32Optional("context_length", contextKeys...) },
		func() error { return b.u32Optional("embedding_length", hiddenSizeKeys...) },
		func() error { return b.u32Optional("feed_forward_length", feedForwardKeys...) },
		func() error { return b.u32Optional("attention.head_count", headCountKeys...) },
		func() error { return b.u32Optional("attention.head_count_kv", headCountKVKeys...) },
		b.causal,
		b.ropeKeys,
		func() error { return b.f32Optional("attention.layer_norm_rms_epsilon", "rms_norm_eps", "norm_eps") },
		func() error {
			return b.f32Optional("attention.layer_norm_epsilon", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
		},
		func() error { return b.u32Optional("expert_count", expertCountKeys...) },
		func() error { return b.u32Optional("expert_used_count", expertUsedKeys...) },
		func() error { return b.u32Optional("expert_group_count", "n_group") },
		func() error { return b.u32Optional("expert_group_used_count", "topk_group") },
		b.gatingFunc,
		func() error { return b.u32Optional("attention.key_length", "head_dim") },
		func() error { return b.u32Optional("attention.value_length", "head_dim") },
		func() error { return b.m.Set("general.file_type", fileTypes[b.outType]) },
		func() error { return b.a.keys(b) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// causal writes attention.causal only to switch it off.
func (b *kvBuilder) causal() error {
	v, ok, err := b.c.boolean("is_causal")
	if err != nil || !ok || v {
		return err
	}
	return b.set("attention.causal", false)
}

func (b *kvBuilder) gatingFunc() error {
	key, v := b.c.find(scoreFuncKeys...)
	if v == nil {
		return nil
	}
	name, _ := v.(string)
	n, ok := expertGatingFuncs[name]
	if !ok {
		return b.c.errorf(key, "unsupported expert gating function: got %v, want softmax, sigmoid or sqrtsoftplus", v)
	}
	return b.set("expert_gating_func", n)
}

// ropeKeys writes the rope.* keys.
func (b *kvBuilder) ropeKeys() error {
	full := b.rope.full()
	if err := b.ropeScaling(full); err != nil {
		return err
	}
	if v, ok := b.rope.get("mrope_section"); ok {
		sections, err := mropeSections(v)
		if err != nil {
			return b.c.errorf("mrope_section", "%v", err)
		}
		if err := b.set("rope.dimension_sections", sections); err != nil {
			return err
		}
	}
	if err := b.ropeFloat(full, "rope.freq_base", "rope_theta"); err != nil {
		return err
	}
	if v, ok := b.rope.get("sliding_attention"); ok {
		local, isObject := v.(*object)
		if !isObject {
			return b.c.errorf("sliding_attention", "got %s, want an object", jsonKind(v))
		}
		return b.ropeFloat(local, "rope.freq_base_swa", "rope_theta")
	}
	return nil
}

// ropeFloat writes the first present of names in o as a float; absent or null
// writes nothing.
func (b *kvBuilder) ropeFloat(o *object, key string, names ...string) error {
	name, v := o.find(names...)
	if v == nil {
		return nil
	}
	f, err := asFloat32(v)
	if err != nil {
		return b.c.errorf(name, "%v", err)
	}
	return b.set(key, f)
}

func (b *kvBuilder) ropeScaling(full *object) error {
	v, _ := full.get("rope_type")
	if v == nil {
		return nil
	}
	kind, ok := v.(string)
	if !ok {
		return b.c.errorf("rope_type", "got %s, want a string", jsonKind(v))
	}
	factor, _ := full.get("factor")
	switch {
	case kind == "linear" && factor != nil:
		if err := b.set("rope.scaling.type", "linear"); err != nil {
			return err
		}
		return b.ropeFloat(full, "rope.scaling.factor", "factor")
	case kind == "yarn" && factor != nil:
		return b.yarn(full)
	case kind == "su" || kind == "longrope":
		return b.set("rope.scaling.type", "longrope")
	case kind == "default" || kind == "dynamic" || strings.EqualFold(kind, "llama3"):
		return nil
	}
	b.warn(fmt.Sprintf("%s: rope type %q is unknown or incomplete: no rope scaling is written, as by the reference", b.c.path, kind))
	return nil
}

func (b *kvBuilder) yarn(full *object) error {
	if err := b.set("rope.scaling.type", "yarn"); err != nil {
		return err
	}
	if err := b.ropeFloat(full, "rope.scaling.factor", "factor"); err != nil {
		return err
	}
	v, _ := full.get("original_max_position_embeddings")
	if v == nil {
		return b.c.errorf("original_max_position_embeddings", "missing: yarn rope scaling needs it")
	}
	ctxLen, err := asUint32(v)
	if err != nil {
		return b.c.errorf("original_max_position_embeddings", "%v", err)
	}
	if err := b.set("rope.scaling.original_context_length", ctxLen); err != nil {
		return err
	}
	for _, k := range []struct {
		key   string
		names []string
	}{
		{"rope.scaling.yarn_ext_factor", []string{"extrapolation_factor"}},
		{"rope.scaling.yarn_attn_factor", []string{"attention_factor", "attn_factor"}},
		{"rope.scaling.yarn_beta_fast", []string{"beta_fast"}},
		{"rope.scaling.yarn_beta_slow", []string{"beta_slow"}},
	} {
		if err := b.ropeFloat(full, k.key, k.names...); err != nil {
			return err
		}
	}
	return nil
}

// mropeSections pads to four sections: time, height, width, extra.
func mropeSections(v any) ([]int32, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("got %s, want an array", jsonKind(v))
	}
	out := make([]int32, 4)
	for i, e := range list[:min(4, len(list))] {
		n, err := asUint32(e)
		if err != nil || n > 1<<31-1 {
			return nil, fmt.Errorf("entry %d: got %v, want a small integer", i, e)
		}
		out[i] = int32(n)
	}
	return out, nil
}
