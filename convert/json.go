package convert

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"math/big"
	"os"
	"slices"
)

// Limits on the JSON files of a model folder. The largest real one is a
// tokenizer.json of about 35 MB.
const (
	maxJSONSize  = 512 << 20
	maxJSONDepth = 64
)

// object is a JSON object that remembers the order of its keys. A key that
// stands twice keeps its first position and takes its last value, as in
// Python's json module, through which the reference reads every file.
//
// Values are nil, bool, int64, *big.Int (integers beyond int64), float64,
// string, []any and *object.
type object struct {
	keys  []string
	vals  []any
	index map[string]int // place of every key; nil while there are few
}

// fewKeys are found as fast by comparing.
const fewKeys = 8

func newObject() *object { return &object{} }

// newObjectOf makes an object of keys and values, some of which may stand twice.
func newObjectOf(keys []string, vals []any) *object {
	o := &object{keys: keys, vals: vals}
	if len(keys) > fewKeys {
		if o.index = indexOf(keys); len(o.index) == len(keys) {
			return o
		}
	} else if !hasDouble(keys) {
		return o
	}
	o = newObject()
	for i, k := range keys {
		o.set(k, vals[i])
	}
	return o
}

// indexOf gives the last place of every key.
func indexOf(keys []string) map[string]int {
	index := make(map[string]int, len(keys))
	for i, k := range keys {
		index[k] = i
	}
	return index
}

// hasDouble is for few keys.
func hasDouble(keys []string) bool {
	for i, k := range keys {
		if slices.Contains(keys[:i], k) {
			return true
		}
	}
	return false
}

// place gives the place of key.
func (o *object) place(key string) (int, bool) {
	if o == nil {
		return 0, false
	}
	if o.index != nil {
		i, ok := o.index[key]
		return i, ok
	}
	i := slices.Index(o.keys, key)
	return i, i >= 0
}

// get returns the value of key and whether the key is present; a JSON null is
// present with the value nil. It may be called on a nil object.
func (o *object) get(key string) (any, bool) {
	i, ok := o.place(key)
	if !ok {
		return nil, false
	}
	return o.vals[i], true
}

// set stores v under key, at the end when the key is new.
func (o *object) set(key string, v any) {
	if i, ok := o.place(key); ok {
		o.vals[i] = v
		return
	}
	o.keys, o.vals = append(o.keys, key), append(o.vals, v)
	if o.index != nil {
		o.index[key] = len(o.keys) - 1
	} else if len(o.keys) > fewKeys {
		o.index = indexOf(o.keys)
	}
}

// len returns the number of keys; 0 for a nil object.
func (o *object) len() int {
	if o == nil {
		return 0
	}
	return len(o.keys)
}

// all yields keys and values in file order.
func (o *object) all() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		if o == nil {
			return
		}
		for i, k := range o.keys {
			if !yield(k, o.vals[i]) {
				return
			}
		}
	}
}

// clone returns a copy whose top level may be changed; nested values are
// shared.
func (o *object) clone() *object {
	if o == nil {
		return newObject()
	}
	return &object{keys: slices.Clone(o.keys), vals: slices.Clone(o.vals), index: maps.Clone(o.index)}
}

// object returns the nested object under key, or nil when it is absent or
// something else.
func (o *object) object(key string) *object {
	v, _ := o.get(key)
	n, _ := v.(*object)
	return n
}

// string returns the string under key and whether there is one.
func (o *object) string(key string) (string, bool) {
	v, _ := o.get(key)
	s, ok := v.(string)
	return s, ok
}

// readJSON reads and parses a JSON file. Errors name the file and, for syntax
// errors, line and column. A missing file satisfies errors.Is(err, fs.ErrNotExist).
func readJSON(path string) (any, error) {
	data, err := readLimited(path, maxJSONSize)
	if err != nil {
		return nil, err
	}
	v, err := parseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return v, nil
}

// readObject reads a JSON file whose top level must be an object.
func readObject(path string) (*object, error) {
	v, err := readJSON(path)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*object)
	if !ok {
		return nil, fmt.Errorf("parse %s: top level: got %s, want an object", path, jsonKind(v))
	}
	return o, nil
}

// readLimited reads a whole regular file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("read %s: file too large: got %d bytes, want at most %d", path, st.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: file too large: want at most %d bytes", path, limit)
	}
	return data, nil
}

// jsonKind names the JSON type of a parsed value in error messages.
func jsonKind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case int64, *big.Int:
		return "an integer"
	case float64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	case *object:
		return "an object"
	}
	return fmt.Sprintf("%T", v)
}
