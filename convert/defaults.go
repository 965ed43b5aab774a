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

// torchDtypes are the values of torch_dtype that PyTorch knows.
var torchDtypes = []string{
	"float32", "float", "float64", "double", "float16", "half", "bfloat16", "float8_e4m3fn", "float8_e5m2",
	"int8", "int16", "short", "int32", "int", "int64", "long", "uint8", "bool", "complex64", "complex128",
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
	if err = checkDtype(o); err == nil {
		err = class.finish(o)
	}
	if err != nil {
		warn(fmt.Sprintf("%s: transformers would not load it (%v): class defaults are not filled in, as by the reference", c.path, err))
		return nil
	}
	c.object, c.class = o, true
	return checkLayerTypes(c)
}

func checkDtype(o *object) error {
	for _, key := range []string{"dtype", "torch_dtype"} {
		if s, ok := o.string(key); ok && !slices.Contains(torchDtypes, s) {
			return fmt.Errorf("%s %q is not one of PyTorch's", key, s)
		}
	}
	return nil
}

var layerTypes = []string{"full_attention", "sliding_attention", "chunked_attention", "linear_attention"}

// checkLayerTypes refuses a layer_types list that contradicts the number of
// blocks or holds unknown words.
func checkLayerTypes(c *config) error {
	v, _ := c.get("layer_types")
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return c.errorf("layer_types", "got %s, want an array", jsonKind(v))
	}
	for i, t := range list {
		if s, _ := t.(string); !slices.Contains(layerTypes, s) {
			return c.errorf("layer_types", "entry %d: got %v, want one of %s", i, t, strings.Join(layerTypes, ", "))
		}
	}
	n, err := blockCount(c)
	if err == nil && n != int64(len(list)) {
		err = c.errorf("layer_types", "got %d entries, want %d as num_hidden_layers", len(list), n)
	}
	return err
}

// ropeRequired lists the keys that transformers demands in rope_scaling by
// rope type, besides rope_type itself.
var ropeRequired = map[string][]string{
	"default": nil, "linear": {"factor"}, "dynamic": {"factor"}, "yarn": {"factor"},
	"longrope": {"short_factor", "long_factor"},
	"llama3":   {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"},
}

// checkRope is transformers' rope_config_validation as far as it raises.
func checkRope(o *object) error {
	v, _ := o.get("rope_scaling")
	if v == nil {
		return nil
	}
	scaling, ok := v.(*object)
	if !ok {
		return fmt.Errorf("rope_scaling is %s", jsonKind(v))
	}
	_, kind := scaling.find("rope_type", "type")
	name, _ := kind.(string)
	if kind == nil {
		name = "default"
	}
	required, known := ropeRequired[name]
	if !known {
		return nil
	}
	for _, key := range append([]string{"rope_type"}, required...) {
		if _, ok := scaling.get(key); !ok {
			return fmt.Errorf("rope_scaling of type %q lacks %s", name, key)
		}
	}
	return nil
}

// finishRope copies rope_scaling's old key "type" to "rope_type", then checks.
func finishRope(o *object) error {
	if scaling := o.object("rope_scaling"); scaling != nil {
		if t, ok := scaling.get("type"); ok {
			scaling = scaling.clone()
			scaling.set("rope_type", t)
			o.set("rope_scaling", scaling)
		}
	}
	return checkRope(o)
}

// finishQwen also gives every query head a key/value head where the config
// says null.
func finishQwen(o *object) error {
	defaultKVHeads(o)
	return finishRope(o)
}

func defaultKVHeads(o *object) {
	if v, _ := o.get("num_key_value_heads"); v == nil {
		heads, _ := o.get("num_attention_heads")
		o.set("num_key_value_heads", heads)
	}
}

// finishLlama also computes head_dim.
func finishLlama(o *object) error {
	defaultKVHeads(o)
	if v, _ := o.get("head_dim"); v == nil {
		hidden, _ := o.get("hidden_size")
		heads, _ := o.get("num_attention_heads")
		h, ok1 := hidden.(int64)
		n, ok2 := heads.(int64)
		if !ok1 || !ok2 || n == 0 {
			return fmt.Errorf("hidden_size or num_attention_heads is not a positive integer")
		}
		o.set("head_dim", h/n)
	}
	return finishRope(o)
}

// finishMistral has no rope check.
func finishMistral(o *object) error {
	defaultKVHeads(o)
	return nil
}

// finishGemma3 halves the window of bidirectional models, and divides block
// numbers by sliding_window_pattern.
func finishGemma3(o *object) error {
	if v, _ := o.get("use_bidirectional_attention"); v == true {
		w, _ := o.get("sliding_window")
		n, ok := w.(int64)
		if !ok {
			return fmt.Errorf("sliding_window is %s", jsonKind(w))
		}
		o.set("sliding_window", n/2+1)
	}
	if err := checkRope(o); err != nil {
		return err
	}
	p, given := o.get("sliding_window_pattern")
	if list, _ := o.get("layer_types"); list != nil || !given {
		return nil
	}
	if every, err := asFloat64(p); err != nil || every == 0 {
		return fmt.Errorf("sliding_window_pattern is %v and layer_types is missing", p)
	}
	return nil
}

// finishExaone4 computes layer_types from the sliding window's pattern; the
// class fails where there is no window, no number to divide by, and no list.
func finishExaone4(o *object) error {
	if v, _ := o.get("layer_types"); v != nil {
		return nil
	}
	p, _ := o.get("sliding_window_pattern")
	if w, _ := o.get("sliding_window"); w == nil {
		p = int64(0)
	}
	every, ok := p.(int64)
	if !ok {
		return fmt.Errorf("sliding_window_pattern is %s and layer_types is missing", jsonKind(p))
	}
	if every == 0 {
		return fmt.Errorf("layer_types and sliding_window are missing")
	}
	v, _ := o.get("num_hidden_layers")
	n, ok := v.(int64)
	if !ok || n < 0 || n > 1<<20 {
		return fmt.Errorf("num_hidden_layers is %v", v)
	}
	list := make([]any, n)
	for i := range list {
		list[i] = "full_attention"
		if (int64(i)+1)%every != 0 {
			list[i] = "sliding_attention"
		}
	}
	o.set("layer_types", list)
	return nil
}
