package quant

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxOverrideBytes is the longest key and the longest string value of an
// override: struct llama_model_kv_override in include/llama.h has room for 128 bytes.
const maxOverrideBytes = 127

// KVOverride sets a metadata key in the output; the model's numbers that decide
// about types (block_count, expert_count, …) are read through it, too.
type KVOverride struct {
	Key string
	// Value is an int64 (stored as a u32 of its magnitude, as llama-quantize
	// does), a float64 (stored as f32), a bool or a string.
	Value any
}

// ParseKVOverride reads KEY=TYPE:VALUE with the types int, float, bool and str,
// as the flag --override-kv of llama-quantize. It is stricter: the whole of VALUE must be a
// number, and an int must fit 32 bits.
func ParseKVOverride(s string) (KVOverride, error) {
	bad := func(format string, args ...any) (KVOverride, error) {
		return KVOverride{}, fmt.Errorf("override %q: "+format, append([]any{s}, args...)...)
	}
	key, rest, ok := strings.Cut(s, "=")
	kind, text, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return bad("want KEY=TYPE:VALUE")
	}
	o := KVOverride{Key: key}
	switch kind {
	case "int":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return bad("value: got %q, want an integer", text)
		}
		o.Value = n
	case "float":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return bad("value: got %q, want a number", text)
		}
		o.Value = f
	case "bool":
		if text != "true" && text != "false" {
			return bad("value: got %q, want true or false", text)
		}
		o.Value = text == "true"
	case "str":
		o.Value = text
	default:
		return bad("type: got %q, want int, float, bool or str", kind)
	}
	if err := o.check(); err != nil {
		return KVOverride{}, err
	}
	return o, nil
}

func (o KVOverride) check() error {
	if o.Key == "" || len(o.Key) > maxOverrideBytes || strings.IndexByte(o.Key, 0) >= 0 {
		return fmt.Errorf("override %q: key: got %d bytes, want 1 to %d without zero bytes", o.Key, len(o.Key), maxOverrideBytes)
	}
	switch o.Key {
	case keySplitNo, keySplitCount, keySplitTensors:
		return fmt.Errorf("override %s: this key belongs to the layout of the files and cannot be set", o.Key)
	}
	switch v := o.Value.(type) {
	case int64:
		if v < -math.MaxUint32 || v > math.MaxUint32 {
			return fmt.Errorf("override %s: got %d, want a magnitude of 32 bits", o.Key, v)
		}
	case string:
		if len(v) > maxOverrideBytes || strings.IndexByte(v, 0) >= 0 {
			return fmt.Errorf("override %s: got %d bytes, want at most %d without zero bytes", o.Key, len(v), maxOverrideBytes)
		}
	case float64, bool:
	default:
		return fmt.Errorf("override %s: got a value of type %T, want int64, float64, bool or string", o.Key, v)
	}
	return nil
}

// stored gives the value as it goes into the file.
func (o KVOverride) stored() any {
	switch o.Key {
	case keySplitNo, keySplitCount, keySplitTensors:
		return fmt.Errorf("override %s: this key belongs to the layout of the files and cannot be set", o.Key)
	}
	switch v := o.Value.(type) {
	case int64:
		if v < 0 {
			v = -v
		}
		return uint32(v)
	case float64:
		return float32(v)
	}
	return o.Value
}
