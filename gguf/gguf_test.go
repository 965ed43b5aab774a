package gguf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestOpen(t *testing.T) {
	for _, version := range []byte{2, 3} {
		b := good()
		b[4] = version
		f := mustOpen(t, writeTemp(t, "good.gguf", b))
		if f.Version != uint32(version) || f.Alignment != 32 || f.DataOffset != 224 || f.Size != int64(len(b)) {
			t.Errorf("got version %d alignment %d data offset %d size %d", f.Version, f.Alignment, f.DataOffset, f.Size)
		}
		if s, ok := f.Meta.String("general.architecture"); !ok || s != "qwen3" {
			t.Errorf("general.architecture: got %q, %v", s, ok)
		}
		if v, _ := f.Meta.Get("t.ids"); !reflect.DeepEqual(v, []int32{5, 6}) {
			t.Errorf("t.ids: got %v, want [5 6] as int32", v)
		}
		want := []TensorInfo{{"a.weight", F32, []int64{3, 2}, 0}, {"b.weight", Q8_0, []int64{32, 2}, 32}}
		if !reflect.DeepEqual(f.Tensors, want) {
			t.Errorf("tensors: got %v, want %v", f.Tensors, want)
		}
		tensor, ok := f.Tensor("b.weight")
		if !ok || tensor.Bytes() != 68 || tensor.Elements() != 64 || tensor.Rows() != 2 {
			t.Errorf("b.weight: got %v, %v", tensor, ok)
		}
		if _, ok := f.Tensor("c"); ok {
			t.Error("tensor c: got one, want none")
		}
	}
}

// TestOpenScalar reads a tensor without dimensions, as gguf-py writes a single number.
func TestOpenScalar(t *testing.T) {
	f := mustOpen(t, writeTemp(t, "x.gguf", head(1, 0).tensor("scale", F32, 0).data(32, 4)))
	if want := []int64{1}; !reflect.DeepEqual(f.Tensors[0].NE, want) {
		t.Errorf("ne: got %v, want %v", f.Tensors[0].NE, want)
	}
}

func TestRead(t *testing.T) {
	b := good()
	f := mustOpen(t, writeTemp(t, "x.gguf", b))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for _, tensor := range f.Tensors {
				begin := f.DataOffset + int64(tensor.Offset)
				p := make([]byte, tensor.Bytes()-int64(i))
				if err := f.ReadTensorAt(tensor, p, int64(i)); err != nil {
					t.Error(err)
				}
				if want := b[begin+int64(i) : begin+tensor.Bytes()]; !bytes.Equal(p, want) {
					t.Errorf("%s from %d: got %v, want %v", tensor.Name, i, p, want)
				}
				data, err := f.Data(tensor)
				if err != nil {
					t.Error(err)
				}
				if want := b[begin : begin+tensor.Bytes()]; !bytes.Equal(data, want) || cap(data) != len(data) {
					t.Errorf("%s mapped: got %v, want %v", tensor.Name, data, want)
				}
			}
		})
	}
	wg.Wait()
	whole, err := f.Map()
	if err != nil || !bytes.Equal(whole, b) {
		t.Errorf("map: got %d bytes, %v, want the file", len(whole), err)
	}
}

func TestReadErrors(t *testing.T) {
	f := mustOpen(t, writeTemp(t, "x.gguf", good()))
	a, b := f.Tensors[0], f.Tensors[1]
	moved := b
	moved.Offset = 0
	tests := []struct {
		tensor TensorInfo
		n      int
		off    int64
		want   string
	}{
		{a, 25, 0, "got 25 bytes at 0, want a part of its 24 bytes"},
		{a, 1, 24, "got 1 bytes at 24, want a part of its 24 bytes"},
		{a, 0, 25, "got 0 bytes at 25, want a part of its 24 bytes"},
		{a, 1, -1, "got 1 bytes at -1, want a part of its 24 bytes"},
		{moved, 1, 0, "got offset 0 and 68 bytes, want 32 and 68 as in this file"},
		{TensorInfo{Name: "c"}, 1, 0, "not in this file"},
	}
	for _, test := range tests {
		err := f.ReadTensorAt(test.tensor, make([]byte, test.n), test.off)
		want := fmt.Sprintf("read gguf %s: tensor %q: %s", f.Path, test.tensor.Name, test.want)
		if err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
	if _, err := f.Data(moved); err == nil || !strings.Contains(err.Error(), "as in this file") {
		t.Errorf("data of a foreign tensor: got error %v", err)
	}
}

func TestClose(t *testing.T) {
	f := mustOpen(t, writeTemp(t, "x.gguf", good()))
	if _, err := f.Map(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := f.ReadTensorAt(f.Tensors[0], make([]byte, 1), 0); err == nil || !strings.Contains(err.Error(), os.ErrClosed.Error()) {
		t.Errorf("read after close: got error %v, want %v", err, os.ErrClosed)
	}
	if _, err := f.Data(f.Tensors[0]); err == nil || !strings.Contains(err.Error(), os.ErrClosed.Error()) {
		t.Errorf("data after close: got error %v, want %v", err, os.ErrClosed)
	}
}

// allTypes has a key of every value type, an empty and a filled array of every element type.
func allTypes(t testing.TB) *Metadata {
	t.Helper()
	m := new(Metadata)
	values := []any{
		uint8(200), int8(-100), uint16(60000), int16(-30000), uint32(4e9), int32(-2e9), float32(1.1), true, false, "",
		"백설공주 Snow White", uint64(1<<64 - 1), int64(-1 << 63), 1.1,
		[]uint8{1, 255}, []int8{-1, 1}, []uint16{1, 65535}, []int16{-2}, []uint32{1 << 31}, []int32{-5, 7}, []float32{0.5, -1.25},
		[]bool{true, false, true}, []string{"a", "", "거울아", strings.Repeat("x", 70000), "z"}, []uint64{1 << 63}, []int64{-1}, []float64{1e300},
		[]uint8{}, []int8{}, []uint16{}, []int16{}, []uint32{}, []int32{}, []float32{}, []bool{}, []string{}, []uint64{}, []int64{}, []float64{},
		strings.Repeat("long ", 100000),
	}
	for i, v := range values {
		if err := m.Set(fmt.Sprintf("key.%d", i), v); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestValues writes and reads every value type; nothing, empty strings and arrays included, may be lost.
func TestValues(t *testing.T) {
	m := allTypes(t)
	l, err := NewLayout(m, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.WriteHeader(&b); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, writeTemp(t, "x.gguf", b.Bytes()))
	if f.Meta.Len() != m.Len() {
		t.Fatalf("got %d keys, want %d", f.Meta.Len(), m.Len())
	}
	for i := range m.Len() {
		if got, want := f.Meta.At(i), m.At(i); !reflect.DeepEqual(got, want) {
			t.Errorf("key %d: got %.100v, want %.100v", i, got, want)
		}
	}
}

// BenchmarkOpenVocabulary opens a file with the vocabulary of a real Qwen3:
// 151,936 tokens and types and 151,387 merges.
func BenchmarkOpenVocabulary(b *testing.B) {
	tokens, types, merges := make([]string, 151936), make([]int32, 151936), make([]string, 151387)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("token%d", i)
	}
	for i := range merges {
		merges[i] = fmt.Sprintf("tok en%d", i)
	}
	m := new(Metadata)
	for key, v := range map[string]any{"tokens": tokens, "types": types, "merges": merges} {
		if err := m.Set(key, v); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "vocab.gguf")
	l, err := NewLayout(m, nil, 0)
	if err != nil {
		b.Fatal(err)
	}
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.WriteHeader(out); err != nil {
		b.Fatal(err)
	}
	out.Close()
	b.SetBytes(l.FileSize)
	b.ReportAllocs()
	for b.Loop() {
		f, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
