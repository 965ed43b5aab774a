package gguf_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// TestTypesEqualGGML compares the type table with the C library, for every
// number that it has and some beyond, removed types included.
func TestTypesEqualGGML(t *testing.T) {
	if len(gguf.Types()) == 0 || llama.TensorTypeCount < len(gguf.Types()) {
		t.Fatalf("got %d types, ggml has numbers up to %d", len(gguf.Types()), llama.TensorTypeCount)
	}
	for n := range uint32(llama.TensorTypeCount + 10) {
		typ := gguf.Type(n)
		if typ.BlockSize() != llama.BlockSize(n) || typ.TypeSize() != llama.TypeSize(n) {
			t.Errorf("%s: got block %d of %d bytes, ggml has %d of %d", typ, typ.BlockSize(), typ.TypeSize(), llama.BlockSize(n), llama.TypeSize(n))
		}
		if typ.Valid() && typ.String() != llama.TypeName(n) {
			t.Errorf("type %d: got name %s, ggml has %s", n, typ, llama.TypeName(n))
		}
		if typ.Valid() != (llama.BlockSize(n) > 0) {
			t.Errorf("type %d: got valid %v, ggml has block size %d", n, typ.Valid(), llama.BlockSize(n))
		}
	}
}

// oracleModel is a model file that llama.cpp accepts, with a key of every
// value type and tensors of many types and shapes.
func oracleModel(t *testing.T) (*gguf.Metadata, []gguf.TensorInfo) {
	m := new(gguf.Metadata)
	for _, kv := range []gguf.KV{
		{Key: "general.architecture", Value: "qwen3"}, {Key: "general.name", Value: "백설공주"},
		{Key: "qwen3.block_count", Value: uint32(1)}, {Key: "qwen3.context_length", Value: uint32(64)}, {Key: "qwen3.embedding_length", Value: uint32(256)},
		{Key: "qwen3.feed_forward_length", Value: uint32(256)}, {Key: "qwen3.attention.head_count", Value: uint32(4)},
		{Key: "qwen3.attention.layer_norm_rms_epsilon", Value: float32(1e-6)}, {Key: "tokenizer.ggml.model", Value: "none"}, {Key: "qwen3.vocab_size", Value: uint32(8)},
		{Key: "t.u8", Value: uint8(200)}, {Key: "t.i8", Value: int8(-100)}, {Key: "t.u16", Value: uint16(60000)}, {Key: "t.i16", Value: int16(-30000)},
		{Key: "t.u32", Value: uint32(4e9)}, {Key: "t.i32", Value: int32(-2e9)}, {Key: "t.u64", Value: uint64(1<<64 - 1)}, {Key: "t.i64", Value: int64(-1 << 63)},
		{Key: "t.f32", Value: float32(0.5)}, {Key: "t.f64", Value: 0.25}, {Key: "t.bool", Value: true}, {Key: "t.empty", Value: ""},
		{Key: "t.strings", Value: []string{"a", "", "거울아"}}, {Key: "t.i32s", Value: []int32{1, -2}}, {Key: "t.f32s", Value: []float32{0.5, -1}},
		{Key: "t.bools", Value: []bool{true, false}}, {Key: "t.u8s", Value: []uint8{1, 255}}, {Key: "t.f64s", Value: []float64{1e300}},
		{Key: "t.none", Value: []uint32{}}, {Key: "t.no-strings", Value: []string{}},
	} {
		if err := m.Set(kv.Key, kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	var tensors []gguf.TensorInfo
	for i, typ := range gguf.Types() {
		if typ == gguf.Q8_1 {
			continue // lives in memory only: ggml_validate_row_data refuses it in a file
		}
		ne := [][]int64{{256}, {256, 3}, {512, 2, 3}, {256, 1, 2, 2}}[i%4]
		tensors = append(tensors, gguf.TensorInfo{Name: fmt.Sprintf("t%02d.%s.weight", i, typ), Type: typ, NE: ne})
	}
	return m, tensors
}

// pattern gives data that differs from tensor to tensor. Its bytes are small, so
// that no scale and no number is infinite, which llama.cpp would refuse.
func pattern(t gguf.TensorInfo) []byte {
	b := make([]byte, t.Bytes())
	for i := range b {
		b[i] = byte(i*31+int(t.Type)*7+1) % 64
	}
	return b
}

func writeModel(t *testing.T, path string, m *gguf.Metadata, tensors []gguf.TensorInfo) {
	t.Helper()
	l, err := gguf.NewLayout(m, tensors, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := l.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, ti := range l.Tensors {
		if err := w.WriteTensor(ti.Name, pattern(ti)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestLlamaCppReadsWhatWeWrite has llama-quantize copy a file of ours: what it
// read comes back as it writes it, so every key, shape and byte must be the same.
func TestLlamaCppReadsWhatWeWrite(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.gguf"), filepath.Join(dir, "out.gguf")
	m, tensors := oracleModel(t)
	writeModel(t, in, m, tensors)
	if log, err := exec.Command("../bin/llama-quantize", "--allow-requantize", in, out, "COPY").CombinedOutput(); err != nil {
		t.Fatalf("llama-quantize: %v\n%s", err, log)
	}
	f, err := gguf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range m.All() {
		if got, ok := f.Meta.Get(key); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("key %q: llama.cpp made %v (%T) of %v (%T)", key, got, got, want, want)
		}
	}
	if len(f.Tensors) != len(tensors) {
		t.Errorf("llama.cpp found %d tensors of %d", len(f.Tensors), len(tensors))
	}
	for _, want := range tensors {
		got, ok := f.Tensor(want.Name)
		if !ok || got.Type != want.Type || !slices.Equal(got.NE, gguf.TrimNE(want.NE)) {
			t.Errorf("llama.cpp made %+v of %+v", got, want)
			continue
		}
		if data, err := f.Data(got); err != nil || !bytes.Equal(data, pattern(want)) {
			t.Errorf("tensor %q: llama.cpp read other bytes, %v", want.Name, err)
		}
	}
}

// TestLlamaCppOpensWhatWeWrite loads a file of ours in this process, without its tensors.
func TestLlamaCppOpensWhatWeWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	m, tensors := oracleModel(t)
	writeModel(t, path, m, tensors)
	params := llama.DefaultModelParams()
	params.VocabOnly = true
	model, err := llama.LoadModel(path, params)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	got := model.MetaAll()
	for key, v := range m.All() {
		_, _, _, ok := gguf.TypeOf(v)
		if !ok || reflect.TypeOf(v).Kind() == reflect.Slice || strings.HasPrefix(reflect.TypeOf(v).Kind().String(), "float") {
			continue // llama.cpp prints numbers with a fraction, and arrays, its own way
		}
		if want := fmt.Sprint(v); got[key] != want {
			t.Errorf("key %q: llama.cpp has %q, want %q", key, got[key], want)
		}
	}
}
