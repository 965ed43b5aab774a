package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the configuration classes of transformers compute and refuse, beyond
// the plain defaults of configClasses.

// torchDtypes are the values of torch_dtype that PyTorch knows.
var torchDtypes = []string{
	"float32", "float", "float64", "double", "float16", "half", "bfloat16", "float8_e4m3fn", "float8_e5m2",
	"int8", "int16", "short", "int32", "int", "int64", "long", "uint8", "bool", "complex64", "complex128",
}

// checkCommon is what the base class of all configurations refuses
// (transformers' PretrainedConfig).
func checkCommon(o *object) error {
	for _, key := range []string{"dtype", "torch_dtype"} {
		if s, ok := o.string(key); ok && !slices.Contains(torchDtypes, s) {
			return fmt.Errorf("%s %q is not one of PyTorch's", key, s)
		}
	}
	for _, key := range []string{"label2id", "id2label", "pruned_heads"} {
		v, _ := o.get(key)
		if v == nil {
			continue
		}
		m, ok := v.(*object)
		if !ok {
			return fmt.Errorf("%s is %s", key, jsonKind(v))
		}
		for k := range m.all() {
			if _, err := strconv.Atoi(pyStrip(k)); err != nil && key != "label2id" {
				return fmt.Errorf("%s has the key %q, which is no number", key, k)
			}
		}
	}
	known := []string{"regression", "single_label_classification", "multi_label_classification"}
	if v, _ := o.get("problem_type"); v != nil {
		if s, _ := v.(string); !slices.Contains(known, s) {
			return fmt.Errorf("problem_type is %v", v)
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
