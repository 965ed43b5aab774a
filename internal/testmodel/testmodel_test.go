package testmodel

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func allSpecs() []Spec { return append(Specs(), VocabSpecs()...) }

// TestWriteTwice writes every folder twice and compares the bytes.
func TestWriteTwice(t *testing.T) {
	seen := map[string]bool{}
	for _, spec := range allSpecs() {
		if seen[spec.Name] {
			t.Errorf("spec %s: name stands twice", spec.Name)
		}
		seen[spec.Name] = true
		a, b := t.TempDir(), t.TempDir()
		for _, dir := range []string{a, b} {
			if err := Write(dir, spec); err != nil {
				t.Fatalf("%s: %v", spec.Name, err)
			}
		}
		files := 0
		err := filepath.WalkDir(a, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			files++
			one, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(a, path)
			if err != nil {
				return err
			}
			two, err := os.ReadFile(filepath.Join(b, rel))
			if err != nil {
				return err
			}
			if !bytes.Equal(one, two) {
				t.Errorf("%s: %s differs between two runs", spec.Name, rel)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if files < 3 {
			t.Errorf("%s: got %d files, want config, tokenizer and weights", spec.Name, files)
		}
	}
}

// TestCheckpoint reads the weights back by the format's rules: offsets meet,
// every element is the one that Value names, and none is zero.
func TestCheckpoint(t *testing.T) {
	spec, err := Find("qwen3-f32-head")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(data)
	var head map[string]struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+n], &head); err != nil {
		t.Fatal(err)
	}
	body := data[8+n:]
	var end, denormal, large int64
	for _, ts := range spec.layout(spec.dims) {
		e, ok := head[ts.name]
		if !ok || e.DType != "F32" || e.Offsets[0] != end || e.Offsets[1]-e.Offsets[0] != 4*ts.elements() {
			t.Fatalf("%s: got %+v, want F32 at %d with %d bytes", ts.name, e, end, 4*ts.elements())
		}
		for i := range ts.elements() {
			v := math.Float32frombits(binary.LittleEndian.Uint32(body[end+4*i:]))
			plain := Value(ts.name, i, ts.role)
			switch {
			case v == 0:
				t.Fatalf("%s[%d]: got 0", ts.name, i)
			case v == plain:
			case math.Abs(float64(v)) < 0x1p-126:
				denormal++
			case math.Abs(float64(v)) > 65504:
				large++
			case ts.role != roleWeight:
				t.Fatalf("%s[%d]: got %v, want %v", ts.name, i, v, plain)
			}
		}
		end = e.Offsets[1]
	}
	if int64(len(body)) != end {
		t.Errorf("data: got %d bytes, want %d", len(body), end)
	}
	if denormal == 0 || large == 0 {
		t.Errorf("extremes: got %d denormal and %d large values, want some of each", denormal, large)
	}
}

func TestRounding(t *testing.T) {
	for _, c := range []struct {
		v    float32
		half uint16
		bf   uint16
	}{
		{1, 0x3c00, 0x3f80},
		{-2, 0xc000, 0xc000},
		{65504, 0x7bff, 0x4780},
		{65519, 0x7bff, 0x4780},
		{65520, 0x7c00, 0x4780},
		{1e6, 0x7c00, 0x4974},
		{1 + 0x1p-11, 0x3c00, 0x3f80},       // tie, to even
		{1 + 3*0x1p-11, 0x3c02, 0x3f80},     // tie, to even upwards
		{1 + 0x1p-8, 0x3c04, 0x3f80},        // tie for BF16
		{1 + 3*0x1p-8, 0x3c0c, 0x3f82},      // tie for BF16, upwards
		{0x1p-14, 0x0400, 0x3880},           // smallest normal half
		{0x1p-14 - 0x1p-26, 0x0400, 0x3880}, // rounds up to it
		{0x1p-24, 0x0001, 0x3380},           // smallest denormal half
		{0x1p-25, 0x0000, 0x3300},           // tie with zero
		{0x1p-25 + 0x1p-40, 0x0001, 0x3300}, // above the tie
		{-0x1p-30, 0x8000, 0xb080},          // below half of it
		{float32(0x1p-140), 0x0000, 0x0000}, // F32 denormal
	} {
		if got := toF16(c.v); got != c.half {
			t.Errorf("toF16(%g): got %04x, want %04x", c.v, got, c.half)
		}
		if got := toBF16(c.v); got != c.bf {
			t.Errorf("toBF16(%g): got %04x, want %04x", c.v, got, c.bf)
		}
	}
}

// TestLargeChunks checks that a chunk's bytes do not depend on where the
// tensor was cut, and that the distribution is the promised one.
func TestLargeChunks(t *testing.T) {
	const n = 1 << 16
	table := normalTable()
	whole := make([]byte, 2*n)
	fillNormal(whole, table, nameHash("t"), 0)
	part := make([]byte, 2*1000)
	fillNormal(part, table, nameHash("t"), 4000)
	if !bytes.Equal(part, whole[8000:10000]) {
		t.Error("a chunk differs from the same elements of the whole tensor")
	}
	odd := make([]byte, 2*1003)
	fillNormal(odd, table, nameHash("t"), 0)
	if !bytes.Equal(odd, whole[:2006]) {
		t.Error("a chunk whose length is no multiple of 4 differs")
	}
	var sum, squares float64
	for i := range n {
		v := float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(whole[2*i:])) << 16))
		if v == 0 {
			t.Fatalf("element %d is 0", i)
		}
		sum += v
		squares += v * v
	}
	if mean, dev := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.0005 || math.Abs(dev-0.02) > 0.0005 {
		t.Errorf("distribution: got mean %g and deviation %g, want 0 and 0.02", mean, dev)
	}
}

// TestQwen3 writes the smallest shape and checks sizes; a cancelled context
// stops it.
func TestQwen3(t *testing.T) {
	shape, err := FindShape("tiny")
	if err != nil {
		t.Fatal(err)
	}
	const vocab = "../../llamacpp/models/ggml-vocab-qwen2.gguf"
	dir := t.TempDir()
	if err := Qwen3(context.Background(), dir, vocab, shape); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(len(data)) - 8 - int64(binary.LittleEndian.Uint64(data)); got != shape.Bytes() {
		t.Errorf("weights: got %d bytes, want %d", got, shape.Bytes())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Qwen3(ctx, t.TempDir(), vocab, shape); err != context.Canceled {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
	if s, err := FindShape("4b"); err != nil || s.Bytes() != 2*4022468096 {
		t.Errorf("4b: got %d bytes, %v; want twice 4,022,468,096 weights", s.Bytes(), err)
	}
}

func TestUnknownNames(t *testing.T) {
	if _, err := Find("nothing"); err == nil {
		t.Error("unknown spec: got no error")
	}
	if _, err := FindShape("3b"); err == nil {
		t.Error("unknown shape: got no error")
	}
}
