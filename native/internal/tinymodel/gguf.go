// Package tinymodel writes GGUF models of a few thousand weights for tests:
// [Random], whose every weight is a function of tensor name and index, and
// [Chain], whose answers are known beforehand. It knows no other package, so that
// what it writes is not read by the code that wrote it.
package tinymodel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"os"
)

// Model is a GGUF file in memory.
type Model struct {
	KV      []KV
	Tensors []Tensor
}

// KV is one key and its value: string, bool, uint32, float32, []string or []int32.
type KV struct {
	Key   string
	Value any
}

// Tensor is an F32 tensor; NE is in ggml's order, innermost first.
type Tensor struct {
	Name string
	NE   []int
	Data []float32
}

// Set gives key a value, in place if the model has it already.
func (m *Model) Set(key string, value any) {
	for i := range m.KV {
		if m.KV[i].Key == key {
			m.KV[i].Value = value
			return
		}
	}
	m.KV = append(m.KV, KV{key, value})
}

// Get returns the value of key, or nil.
func (m *Model) Get(key string) any {
	for _, kv := range m.KV {
		if kv.Key == key {
			return kv.Value
		}
	}
	return nil
}

// Tensor returns the data of a tensor, for changes. A name that is not there is
// a mistake in the test.
func (m *Model) Tensor(name string) []float32 {
	for _, t := range m.Tensors {
		if t.Name == name {
			return t.Data
		}
	}
	panic("tinymodel: no tensor " + name)
}

// Write writes the model as GGUF version 3 (ggml/docs/gguf.md).
func (m *Model) Write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &writer{w: bufio.NewWriter(f)}
	m.write(w)
	if err := w.w.Flush(); w.err == nil {
		w.err = err
	}
	if err := f.Close(); w.err == nil {
		w.err = err
	}
	return w.err
}

const alignment = 32

func (m *Model) write(w *writer) {
	w.bytes([]byte("GGUF"))
	w.u32(3)
	w.u64(uint64(len(m.Tensors)))
	w.u64(uint64(len(m.KV)))
	for _, kv := range m.KV {
		w.string(kv.Key)
		w.value(kv.Value)
	}
	offset := uint64(0)
	for _, t := range m.Tensors {
		w.string(t.Name)
		w.u32(uint32(len(t.NE)))
		n := 1
		for _, ne := range t.NE {
			w.u64(uint64(ne))
			n *= ne
		}
		if n != len(t.Data) {
			panic(fmt.Sprintf("tinymodel: tensor %s: got %d values, want %d", t.Name, len(t.Data), n))
		}
		w.u32(0) // F32
		w.u64(offset)
		offset += uint64(4*n+alignment-1) / alignment * alignment
	}
	for _, t := range m.Tensors {
		w.align()
		for _, x := range t.Data {
			w.u32(math.Float32bits(x))
		}
	}
	w.align()
}

// writer counts bytes and keeps the first error.
type writer struct {
	w   *bufio.Writer
	n   int
	err error
}

func (w *writer) bytes(p []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(p)
	}
	w.n += len(p)
}

func (w *writer) u32(x uint32) { w.bytes(binary.LittleEndian.AppendUint32(nil, x)) }
func (w *writer) u64(x uint64) { w.bytes(binary.LittleEndian.AppendUint64(nil, x)) }

func (w *writer) string(s string) {
	w.u64(uint64(len(s)))
	w.bytes([]byte(s))
}

func (w *writer) align() {
	for w.n%alignment != 0 {
		w.bytes([]byte{0})
	}
}

// The type numbers of GGUF values.
const (
	typeUint32  = 4
	typeInt32   = 5
	typeFloat32 = 6
	typeBool    = 7
	typeString  = 8
	typeArray   = 9
)

func (w *writer) value(v any) {
	switch v := v.(type) {
	case uint32:
		w.u32(typeUint32)
		w.u32(v)
	case float32:
		w.u32(typeFloat32)
		w.u32(math.Float32bits(v))
	case bool:
		w.u32(typeBool)
		b := byte(0)
		if v {
			b = 1
		}
		w.bytes([]byte{b})
	case string:
		w.u32(typeString)
		w.string(v)
	case []string:
		w.array(typeString, len(v))
		for _, s := range v {
			w.string(s)
		}
	case []int32:
		w.array(typeInt32, len(v))
		for _, x := range v {
			w.u32(uint32(x))
		}
	default:
		panic(fmt.Sprintf("tinymodel: value of type %T", v))
	}
}

func (w *writer) array(elem uint32, n int) {
	w.u32(typeArray)
	w.u32(elem)
	w.u64(uint64(n))
}
