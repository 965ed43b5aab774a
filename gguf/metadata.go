package gguf

import (
	"fmt"
	"iter"
	"slices"
)

// KV is one key of the metadata with its value. The Go type of the value is
// the type in the file: uint8, int8, uint16, int16, uint32, int32, uint64,
// int64, float32, float64, bool, string, or a slice of one of them.
type KV struct {
	Key   string
	Value any
}

// Metadata is the ordered list of keys of a GGUF file. The zero value is an
// empty list. Values are shared, not copied: treat slices in it as read-only.
// It may be read from many goroutines at once, but not while it is changed. Do
// not copy a Metadata: use Clone.
type Metadata struct {
	kvs   []KV
	index map[string]int
}

// Len gives the number of keys.
func (m *Metadata) Len() int { return len(m.kvs) }

// At gives the key at position i, 0 ≤ i < Len.
func (m *Metadata) At(i int) KV { return m.kvs[i] }

// All iterates over keys and values in the order of the file.
func (m *Metadata) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, kv := range m.kvs {
			if !yield(kv.Key, kv.Value) {
				return
			}
		}
	}
}

// Get gives the value of key.
func (m *Metadata) Get(key string) (any, bool) {
	i, ok := m.index[key]
	if !ok {
		return nil, false
	}
	return m.kvs[i].Value, true
}

// String gives the value of key if it is a string.
func (m *Metadata) String(key string) (string, bool) { return typed[string](m, key) }

// Bool gives the value of key if it is a bool.
func (m *Metadata) Bool(key string) (bool, bool) { return typed[bool](m, key) }

// Strings gives the value of key if it is an array of strings.
func (m *Metadata) Strings(key string) ([]string, bool) { return typed[[]string](m, key) }

// Uint gives the value of key if it is an integer of any type and not negative.
func (m *Metadata) Uint(key string) (uint64, bool) {
	v, _ := m.Get(key)
	switch v := v.(type) {
	case uint8:
		return uint64(v), true
	case uint16:
		return uint64(v), true
	case uint32:
		return uint64(v), true
	case uint64:
		return v, true
	case int8:
		return uint64(v), v >= 0
	case int16:
		return uint64(v), v >= 0
	case int32:
		return uint64(v), v >= 0
	case int64:
		return uint64(v), v >= 0
	}
	return 0, false
}

// Float gives the value of key if it is a float32 or float64.
func (m *Metadata) Float(key string) (float64, bool) {
	v, _ := m.Get(key)
	switch v := v.(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// Set gives key the value v. A key that is present keeps its position, a new
// one goes to the end: what the converter's writer does (gguf-py add_key_value).
func (m *Metadata) Set(key string, v any) error {
	if err := checkKV(key, v); err != nil {
		return fmt.Errorf("set metadata: %w", err)
	}
	m.put(key, v)
	return nil
}

// SetLast gives key the value v at the end of the list, whether it was present
// or not: what ggml's gguf_set_val_* do.
func (m *Metadata) SetLast(key string, v any) error {
	if err := checkKV(key, v); err != nil {
		return fmt.Errorf("set metadata: %w", err)
	}
	m.Remove(key)
	m.put(key, v)
	return nil
}

// Remove takes key out and reports whether it was there.
func (m *Metadata) Remove(key string) bool {
	i, ok := m.index[key]
	if !ok {
		return false
	}
	m.kvs = slices.Delete(m.kvs, i, i+1)
	delete(m.index, key)
	for j := i; j < len(m.kvs); j++ {
		m.index[m.kvs[j].Key] = j
	}
	return true
}

// Clone gives a list that can be changed without changing m. Slice values are shared.
func (m *Metadata) Clone() *Metadata {
	c := &Metadata{kvs: slices.Clone(m.kvs), index: make(map[string]int, len(m.kvs))}
	for i, kv := range c.kvs {
		c.index[kv.Key] = i
	}
	return c
}

// put stores a checked pair.
func (m *Metadata) put(key string, v any) {
	if i, ok := m.index[key]; ok {
		m.kvs[i].Value = v
		return
	}
	if m.index == nil {
		m.index = make(map[string]int)
	}
	m.index[key] = len(m.kvs)
	m.kvs = append(m.kvs, KV{key, v})
}

// alignment gives the alignment that the metadata asks for.
func (m *Metadata) alignment() int64 {
	if a, ok := typed[uint32](m, keyAlignment); ok {
		return int64(a)
	}
	return DefaultAlignment
}

// checkKV checks a key and that its value can be written.
func checkKV(key string, v any) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := checkValue(v); err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if key == keyAlignment {
		a, ok := v.(uint32)
		if !ok {
			return fmt.Errorf("key %q: got a value of type %T, want uint32", key, v)
		}
		if err := checkAlignment(int64(a)); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	return nil
}

func typed[T any](m *Metadata, key string) (T, bool) {
	v, _ := m.Get(key)
	t, ok := v.(T)
	return t, ok
}
