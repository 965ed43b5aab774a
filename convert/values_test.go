package convert

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// TestPermute checks the interleaving on two heads of six rows.
func TestPermute(t *testing.T) {
	src := []byte("aAbBcCdDeEfFgGhHiIjJkKlL")
	dst := make([]byte, len(src))
	permute(dst, src, 6, 2)
	if want := "aAdDbBeEcCfFgGjJhHkKiIlL"; string(dst) != want {
		t.Errorf("got %s, want %s", dst, want)
	}
	permute(dst[:6], []byte("abcdef"), 6, 1) // a bias: units are elements
	if string(dst[:6]) != "adbecf" {
		t.Errorf("bias: got %s, want adbecf", dst[:6])
	}
}

// TestHalves compares our F16 arithmetic with ggml's on every half.
func TestHalves(t *testing.T) {
	src := make([]byte, 2<<16)
	for i := range 1 << 16 {
		binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
	}
	want := make([]float32, 1<<16)
	if err := llama.DecodeRows(want, src, uint32(gguf.F16), 1<<16); err != nil {
		t.Fatal(err)
	}
	for i := range 1 << 16 {
		got := halfToFloat(uint16(i))
		if math.Float32bits(got) != math.Float32bits(want[i]) && !math.IsNaN(float64(got)) {
			t.Fatalf("half %#04x: got %v, want %v", i, got, want[i])
		}
		if sum := roundToHalf(got + 1); !math.IsNaN(float64(sum)) {
			enc := make([]byte, 2)
			if err := llama.EncodeRows(enc, uint32(gguf.F16), float32Bytes([]float32{got + 1}), uint32(gguf.F32), 1, nil); err != nil {
				t.Fatal(err)
			}
			if back := halfToFloat(binary.LittleEndian.Uint16(enc)); back != sum {
				t.Fatalf("half %#04x + 1: got %v, want %v", i, sum, back)
			}
		}
	}
}

// TestAddOne checks each source type, F16 with its rounding.
func TestAddOne(t *testing.T) {
	for _, c := range []struct {
		dtype safetensors.DType
		src   []byte
		want  float32
	}{
		{safetensors.F32, float32Bytes([]float32{0.25}), 1.25},
		{safetensors.BF16, []byte{0x00, 0x3f}, 1.5},
		{safetensors.F16, []byte{0x00, 0x38}, 1.5},
		{safetensors.F16, []byte{0x00, 0x0c}, 1}, // 2^-12 is lost beside 1
	} {
		dst := make([]byte, 4)
		addOne(dst, c.src, c.dtype)
		if !bytes.Equal(dst, float32Bytes([]float32{c.want})) {
			t.Errorf("%s: got % x, want %v", c.dtype, dst, c.want)
		}
	}
}

func TestHasNewInf(t *testing.T) {
	halves := func(h ...uint16) []byte {
		var b []byte
		for _, v := range h {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b
	}
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		name string
		dst  []byte
		src  []float32
		want bool
	}{
		{"none", halves(0x3c00, 0xfbff, 0, 1, 2), []float32{1, -65504, 0, 1, 2}, false},
		{"overflow", halves(0, 0, 0, 0, 0, 0x7c00), []float32{0, 0, 0, 0, 0, 1e6}, true},
		{"negative overflow in a group of four", halves(0, 0xfc00, 0, 0), []float32{0, -1e6, 0, 0}, true},
		{"was infinite", halves(0x7c00, 0, 0, 0), []float32{inf, 0, 0, 0}, false},
		{"not a number", halves(0x7e00, 0, 0, 0), []float32{float32(math.NaN()), 0, 0, 0}, false},
	} {
		if got := hasNewInf(c.dst, float32Bytes(c.src), safetensors.F32); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestLlama3Factors compares with values that PyTorch computed for Llama 3.2
// 1B (head size 64) in the passage between the wavelengths.
func TestLlama3Factors(t *testing.T) {
	got := llama3Factors(64, 500000, 32, 1, 4, 8192)
	for i, want := range testLlama32Factors {
		if math.Float32bits(got[i]) != want {
			t.Errorf("factor %d: got %08x, want %08x", i, math.Float32bits(got[i]), want)
		}
	}
	if len(got) != len(testLlama32Factors) {
		t.Errorf("got %d factors, want %d", len(got), len(testLlama32Factors))
	}
}

// testLlama32Factors are the bits that PyTorch 2.11 computes (conversion/llama.py).
var testLlama32Factors = []uint32{
	0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
	0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3fd35ec2,
	0x4052b46f, 0x411aaaee, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000,
	0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000,
}
