package convert

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// configClass is a configuration class of transformers 4.57: the values it
// gives to keys that config.json leaves out, as far as the converter reads
// them, and what its constructor computes or refuses.
type configClass struct {
	defaults []entry
	// finish computes values after the defaults are in. An error means that
	// the class would refuse the file; the reference then reads config.json
	// as it stands, without defaults.
	finish func(o *object) error
}

type entry struct {
	key string
	val any
}

// configClasses holds the classes by model_type. Checked against
// AutoConfig.from_pretrained(...).to_dict() of transformers 4.57.6.
var configClasses = map[string]configClass{
	"qwen3": {
		defaults: []entry{
			{"vocab_size", int64(151936)}, {"hidden_size", int64(4096)}, {"intermediate_size", int64(22016)},
			{"num_hidden_layers", int64(32)}, {"num_attention_heads", int64(32)}, {"num_key_value_heads", int64(32)},
			{"head_dim", int64(128)}, {"max_position_embeddings", int64(32768)}, {"rms_norm_eps", 1e-6},
			{"tie_word_embeddings", false}, {"rope_theta", 10000.0}, {"rope_scaling", nil}, {"attention_bias", false},
		},
		finish: finishQwen,
	},
	"qwen2": {
		defaults: []entry{
			{"vocab_size", int64(151936)}, {"hidden_size", int64(4096)}, {"intermediate_size", int64(22016)},
			{"num_hidden_layers", int64(32)}, {"num_attention_heads", int64(32)}, {"num_key_value_heads", int64(32)},
			{"max_position_embeddings", int64(32768)}, {"rms_norm_eps", 1e-6},
			{"tie_word_embeddings", false}, {"rope_theta", 10000.0}, {"rope_scaling", nil},
		},
		finish: finishQwen,
	},
	"qwen3_moe": {
		defaults: []entry{
			{"vocab_size", int64(151936)}, {"hidden_size", int64(2048)}, {"intermediate_size", int64(6144)},
			{"num_hidden_layers", int64(24)}, {"num_attention_heads", int64(32)}, {"num_key_value_heads", int64(4)},
			{"max_position_embeddings", int64(32768)}, {"rms_norm_eps", 1e-6},
			{"tie_word_embeddings", false}, {"rope_theta", 10000.0}, {"rope_scaling", nil}, {"attention_bias", false},
			{"moe_intermediate_size", int64(768)}, {"num_experts_per_tok", int64(8)}, {"num_experts", int64(128)},
		},
		finish: finishRope,
	},
	"llama": {
		defaults: []entry{
			{"vocab_size", int64(32000)}, {"hidden_size", int64(4096)}, {"intermediate_size", int64(11008)},
			{"num_hidden_layers", int64(32)}, {"num_attention_heads", int64(32)}, {"num_key_value_heads", nil},
			{"max_position_embeddings", int64(2048)}, {"rms_norm_eps", 1e-6}, {"tie_word_embeddings", false},
			{"rope_theta", 10000.0}, {"rope_scaling", nil}, {"attention_bias", false}, {"mlp_bias", false}, {"head_dim", nil},
			{"bos_token_id", int64(1)}, {"eos_token_id", int64(2)},
		},
		finish: finishLlama,
	},
	"mistral": {
		defaults: []entry{
			{"vocab_size", int64(32000)}, {"hidden_size", int64(4096)}, {"intermediate_size", int64(14336)},
			{"num_hidden_layers", int64(32)}, {"num_attention_heads", int64(32)}, {"num_key_value_heads", int64(8)},
			{"head_dim", nil}, {"max_position_embeddings", int64(131072)}, {"rms_norm_eps", 1e-6},
			{"tie_word_embeddings", false}, {"rope_theta", 10000.0}, {"sliding_window", int64(4096)},
			{"bos_token_id", int64(1)}, {"eos_token_id", int64(2)},
		},
		finish: finishMistral,
	},
	"gemma3_text": {
		defaults: []entry{
			{"vocab_size", int64(262208)}, {"hidden_size", int64(2304)}, {"intermediate_size", int64(9216)},
			{"num_hidden_layers", int64(26)}, {"num_attention_heads", int64(8)}, {"num_key_value_heads", int64(4)},
			{"head_dim", int64(256)}, {"max_position_embeddings", int64(131072)}, {"rms_norm_eps", 1e-6},
			{"pad_token_id", int64(0)}, {"eos_token_id", int64(1)}, {"bos_token_id", int64(2)},
			{"tie_word_embeddings", true}, {"rope_theta", 1000000.0}, {"attention_bias", false},
			{"sliding_window", int64(4096)}, {"final_logit_softcapping", nil}, {"attn_logit_softcapping", nil},
			{"rope_scaling", nil}, {"rope_local_base_freq", 10000.0}, {"use_bidirectional_attention", false},
		},
		finish: finishGemma3,
	},
	"exaone4": {
		defaults: []entry{
			{"vocab_size", int64(102400)}, {"hidden_size", int64(4096)}, {"intermediate_size", int64(16384)},
			{"num_hidden_layers", int64(32)}, {"num_attention_heads", int64(32)}, {"num_key_value_heads", int64(32)},
			{"max_position_embeddings", int64(2048)}, {"rms_norm_eps", 1e-5}, {"bos_token_id", int64(0)},
			{"eos_token_id", int64(2)}, {"tie_word_embeddings", false}, {"rope_theta", 10000.0}, {"rope_scaling", nil},
			{"sliding_window", int64(4096)}, {"sliding_window_pattern", int64(4)},
		},
		finish: finishExaone4,
	},
}

// loadConfig reads config.json the way the reference does: through its model
// type's class where transformers knows it, with text_config on top.
func loadConfig(dir string, warn func(string)) (*config, error) {
	path := filepath.Join(dir, "config.json")
	raw, err := readObject(path)
	if err != nil {
		return nil, err
	}
	c := &config{object: raw.clone(), dir: dir, path: path, raw: raw}
	if err := c.findClassName(); err != nil {
		return nil, err
	}
	if err := c.refuseQuantized(); err != nil {
		return nil, err
	}
	if err := c.fillDefaults(warn); err != nil {
		return nil, err
	}
	for k, v := range c.object.object("text_config").all() {
		c.set(k, v)
	}
	return c, nil
}

// findClassName sets hfArch from architectures, or from text_config's.
func (c *config) findClassName() error {
	for _, o := range []*object{c.raw.object("text_config"), c.raw} {
		v, _ := o.get("architectures")
		list, _ := v.([]any)
		if len(list) == 0 {
			continue
		}
		name, ok := list[0].(string)
		if !ok {
			return c.errorf("architectures", "got %s, want a string", jsonKind(list[0]))
		}
		c.hfArch = name
		return nil
	}
	return c.errorf("architectures", "missing: cannot tell the architecture")
}

// refuseQuantized stops at checkpoints whose weights are already quantized.
func (c *config) refuseQuantized() error {
	v, _ := c.get("quantization_config")
	if o, ok := v.(*object); ok && o.len() == 0 {
		v = nil
	}
	if v == nil {
		return nil
	}
	method := "unknown"
	if o, ok := v.(*object); ok {
		if s, ok := o.string("quant_method"); ok {
			method = s
		}
	}
	return c.errorf("quantization_config", "unsupported: the weights are quantized (quant_method %s), want F32, F16 or BF16 weights", method)
}

// fillDefaults merges the class defaults into c, unless the class would refuse
// the file.
func (c *config) fillDefaults(warn func(string)) error {
	mt := c.modelType()
	a, err := findArch(c)
	if err != nil {
		return err
	}
	if !slices.Contains(a.modelTypes, mt) {
		return c.errorf("model_type", "got %q, want %s for %s", mt, strings.Join(a.modelTypes, " or "), a.hf)
	}
	class, ok := configClasses[mt]
	if !ok {
		return nil
	}
	if _, ok := c.get("layer_types"); ok && mt == "mistral" {
		return c.errorf("layer_types", "unsupported: Mistral models with alternating attention cannot be converted")
	}
	o := c.object.clone()
	for _, d := range class.defaults {
		if _, ok := o.get(d.key); !ok {
			o.set(d.key, d.val)
		}
	}
	if err = checkCommon(o); err == nil {
		err = class.finish(o)
	}
	if err != nil {
		warn(fmt.Sprintf("%s: transformers would not load it (%v): class defaults are not filled in, as by the reference", c.path, err))
		return nil
	}
	c.object, c.class = o, true
	return checkLayerTypes(c)
}
