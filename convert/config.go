// Package convert turns a Hugging Face model folder into a GGUF file, byte for
// byte the one that llama.cpp's convert_hf_to_gguf.py writes for the same
// folder and output type.
package convert

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// config is the model's hyperparameters as the reference sees them: config.json
// with the class defaults of its model type filled in (transformers'
// AutoConfig) and text_config lifted to the top level. Key order is the file's,
// defaults follow.
//
// The find functions take several names for one thing and use the first that
// is present; a null counts as present and gives ok == false, as in the
// reference's find_hparam.
type config struct {
	*object         // merged view, what the reference calls hparams
	dir     string  // the model folder as the caller gave it
	path    string  // of config.json, for error texts
	raw     *object // config.json as it stands
	hfArch  string  // architectures[0], for example Qwen3ForCausalLM
	class   bool    // class defaults were filled in (AutoConfig would load it)
	readme  string  // README.md, empty when there is none
}

// modelType returns config.json's model_type.
func (c *config) modelType() string {
	s, _ := c.raw.string("model_type")
	return s
}

// nameOrPath returns what the reference sees as _name_or_path: AutoConfig puts
// the folder's path there, the raw file may hold anything.
func (c *config) nameOrPath() string {
	if c.class {
		return c.dir
	}
	s, _ := c.raw.string("_name_or_path")
	return s
}

// find returns the value of the first key that is present.
func (o *object) find(keys ...string) (key string, v any) {
	for _, k := range keys {
		if v, ok := o.get(k); ok {
			return k, v
		}
	}
	return "", nil
}

// errorf builds an error about one key of config.json.
func (c *config) errorf(key, format string, args ...any) error {
	return fmt.Errorf("read %s: %s: %s", c.path, key, fmt.Sprintf(format, args...))
}

// uint32 returns the first present of keys as an unsigned 32-bit integer.
func (c *config) uint32(keys ...string) (v uint32, ok bool, err error) {
	key, val := c.find(keys...)
	if val == nil {
		return 0, false, nil
	}
	v, err = asUint32(val)
	if err != nil {
		return 0, false, c.errorf(key, "%v", err)
	}
	return v, true, nil
}

// needUint32 is uint32 for a key that must be there.
func (c *config) needUint32(keys ...string) (uint32, error) {
	v, ok, err := c.uint32(keys...)
	if err == nil && !ok {
		err = c.errorf(strings.Join(keys, " or "), "missing or null")
	}
	return v, err
}

// float32 returns the first present of keys as a 32-bit float; integers count.
func (c *config) float32(keys ...string) (v float32, ok bool, err error) {
	key, val := c.find(keys...)
	if val == nil {
		return 0, false, nil
	}
	v, err = asFloat32(val)
	if err != nil {
		return 0, false, c.errorf(key, "%v", err)
	}
	return v, true, nil
}

// text returns the string under key; ok is false when it is absent or null.
func (c *config) text(key string) (s string, ok bool, err error) {
	val, _ := c.get(key)
	switch v := val.(type) {
	case nil:
		return "", false, nil
	case string:
		return v, true, nil
	}
	return "", false, c.errorf(key, "got %s, want a string", jsonKind(val))
}

// boolean returns the boolean under key; ok is false when it is absent or null.
func (c *config) boolean(key string) (b, ok bool, err error) {
	val, _ := c.get(key)
	switch v := val.(type) {
	case nil:
		return false, false, nil
	case bool:
		return v, true, nil
	}
	return false, false, c.errorf(key, "got %s, want a boolean", jsonKind(val))
}

// asUint32 converts a JSON integer that fits 32 bits without sign.
func asUint32(val any) (uint32, error) {
	i, ok := val.(int64)
	if !ok {
		if b, big := val.(*big.Int); big {
			return 0, fmt.Errorf("got %s, want an integer from 0 to %d", b, uint32(math.MaxUint32))
		}
		if f, isFloat := val.(float64); isFloat {
			return 0, fmt.Errorf("got %v, want an integer", f)
		}
		return 0, fmt.Errorf("got %s, want an integer", jsonKind(val))
	}
	if i < 0 || i > math.MaxUint32 {
		return 0, fmt.Errorf("got %d, want an integer from 0 to %d", i, uint32(math.MaxUint32))
	}
	return uint32(i), nil
}

// asFloat64 converts a JSON number.
func asFloat64(val any) (float64, error) {
	switch v := val.(type) {
	case int64:
		return float64(v), nil
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		if !math.IsInf(f, 0) {
			return f, nil
		}
		return 0, fmt.Errorf("integer does not fit a 64-bit float")
	case float64:
		return v, nil
	}
	return 0, fmt.Errorf("got %s, want a number", jsonKind(val))
}

// asFloat32 converts a JSON number that stays finite as a 32-bit float.
func asFloat32(val any) (float32, error) {
	f, err := asFloat64(val)
	if err != nil {
		return 0, err
	}
	if math.IsInf(float64(float32(f)), 0) {
		return 0, fmt.Errorf("%v does not fit a 32-bit float", f)
	}
	return float32(f), nil
}
