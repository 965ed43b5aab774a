package llama

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func useKernels(t *testing.T, set string) {
	t.Helper()
	if err := UseKernels(set); err != nil {
		t.Fatal(err)
	}
}

// kernelTypes are the types that kernels/ has encoders for.
var kernelTypes = []TensorType{2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23} // q4_0 … q8_0, q2_K … q6_K, iq4_nl, iq4_xs

// oddRows fills rows of n values with what is hard for a search: zeros, constants, both signs of the largest
// magnitude, denormals, one huge value, values in whole sub-blocks that vanish beside the others.
func oddRows(rng *rand.Rand, rows, n int) []float32 {
	x := make([]float32, rows*n)
	for r := range rows {
		row := x[r*n : (r+1)*n]
		scale := math.Pow(10, rng.Float64()*8-6)
		for i := range row {
			row[i] = float32(rng.NormFloat64() * scale)
		}
		for first := 0; first < n; first += 16 {
			oddGroup(rng, row[first:first+16], float32(scale))
		}
		if r%7 == 3 {
			row[rng.IntN(n)] = float32(scale * 1e6)
		}
	}
	return x
}

func oddGroup(rng *rand.Rand, group []float32, scale float32) {
	kind := rng.IntN(24)
	for i := range group {
		switch kind {
		case 0:
			group[i] = 0
		case 1:
			group[i] = scale
		case 2:
			group[i] = -scale
		case 3:
			group[i] = scale * float32(1-2*(i%2))
		case 4:
			group[i] = float32(math.Copysign(0, float64(i%2)-0.5))
		case 5:
			group[i] = math.Float32frombits(rng.Uint32() & 0x807fffff)
		case 6:
			group[i] *= 1e-7
		case 7:
			group[i] = float32(math.Abs(float64(group[i])))
		case 8:
			group[i] = -float32(math.Abs(float64(group[i])))
		case 9:
			group[i] = scale * float32(rng.IntN(5)-2)
		case 10:
			group[i] = scale * float32(i) / 15
		case 11:
			group[i] = scale + 1e-6*group[i]
		case 12:
			group[i] *= 1e-15 / scale
		}
	}
}

// encodeWith encodes with a set of kernels; an error is text.
func encodeWith(t *testing.T, set string, typ TensorType, src []byte, n int, imatrix []float32) ([]byte, string) {
	t.Helper()
	useKernels(t, set)
	size, err := typ.RowSize(int64(n))
	if err != nil {
		t.Fatal(err)
	}
	out, intact := guarded(len(src) / 4 / n * int(size))
	err = EncodeRows(out, uint32(typ), src, typeF32, int64(n), imatrix)
	if !intact() {
		t.Fatalf("%s, %s: written outside", typ, set)
	}
	return out, fmt.Sprint(err)
}

// TestEncodersEqualGGML wants ggml's bytes from every set of encoders that this CPU can run, for every type, with and
// without an importance matrix, for any number of rows.
func TestEncodersEqualGGML(t *testing.T) {
	defer useKernels(t, "")
	if len(AvailableKernels()) < 2 {
		t.Fatalf("got %v, want more than ggml's own", AvailableKernels())
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 24 {
		n := 256 * (1 + rng.IntN(6))
		rows := 1 + rng.IntN(37)
		x := oddRows(rng, rows, n)
		if round%4 == 3 { // what is no number must not matter beyond its block, and must give the same bytes
			for range 1 + rows/4 {
				x[rng.IntN(len(x))] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32}[rng.IntN(4)]
			}
		}
		importance := make([]float32, n)
		for i := range importance {
			if importance[i] = float32(rng.ExpFloat64()); i/64%5 == 4 {
				importance[i] = 0
			}
		}
		src := f32Bytes(x)
		for _, typ := range kernelTypes {
			for _, imatrix := range [][]float32{nil, importance} {
				want, wantErr := encodeWith(t, "plain", typ, src, n, imatrix)
				for _, set := range AvailableKernels()[1:] {
					got, gotErr := encodeWith(t, set, typ, src, n, imatrix)
					if gotErr != wantErr {
						t.Fatalf("%s, %s, round %d: got error %s, want %s", typ, set, round, gotErr, wantErr)
					}
					if !bytes.Equal(got, want) {
						t.Fatalf("%s, %s, round %d, imatrix %v: block %d of %d differs", typ, set, round, imatrix != nil,
							firstBlock(got, want, int(typ.TypeSize())), len(got)/int(typ.TypeSize()))
					}
				}
			}
		}
	}
}

func firstBlock(a, b []byte, size int) int {
	for i := 0; i < len(a); i += size {
		if !bytes.Equal(a[i:i+size], b[i:i+size]) {
			return i / size
		}
	}
	return -1
}

func TestUseKernels(t *testing.T) {
	defer useKernels(t, "")
	for _, set := range AvailableKernels() {
		if useKernels(t, set); Kernels() != set {
			t.Errorf("got %s, want %s", Kernels(), set)
		}
	}
	best := AvailableKernels()[len(AvailableKernels())-1]
	if err := UseKernels("mmx"); err == nil {
		t.Error("mmx: accepted")
	}
	if useKernels(t, ""); Kernels() != best {
		t.Errorf("got %s, want the best, %s", Kernels(), best)
	}
}

// TestValidateWithKernels puts one value that is not finite at every place of rows of every plain type.
func TestValidateWithKernels(t *testing.T) {
	defer useKernels(t, "")
	for _, set := range AvailableKernels() {
		useKernels(t, set)
		for _, typ := range []struct {
			number uint32
			size   int
			inf    []byte
		}{{typeF32, 4, []byte{0, 0, 0x80, 0x7f}}, {typeF16, 2, []byte{0, 0xfc}}, {typeBF16, 2, []byte{0x81, 0xff}}} {
			const n = 75
			p := bytes.Repeat([]byte{0x55, 0x3b}, n*typ.size/2)
			if err := ValidateRows(p, typ.number); err != nil {
				t.Fatalf("%s, type %d: %v", set, typ.number, err)
			}
			for i := range n {
				bad := bytes.Clone(p)
				copy(bad[i*typ.size:], typ.inf)
				if err := ValidateRows(bad, typ.number); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("block %d ", i)) {
					t.Fatalf("%s, type %d, value %d: got %v", set, typ.number, i, err)
				}
			}
		}
	}
}

// TestEncodeRowsThroughF16 wants the bytes of storing rows as F16 first, from each of its sources, and an error where
// a value is not finite then.
func TestEncodeRowsThroughF16(t *testing.T) {
	defer useKernels(t, "")
	rng := rand.New(rand.NewPCG(5, 6))
	const rows, n = 5, 768
	numbers := oddRows(rng, rows, n)
	for i, x := range numbers {
		numbers[i] = max(-60000, min(x, 60000))
	}
	for _, set := range AvailableKernels() {
		useKernels(t, set)
		for _, from := range []TensorType{typeF32, typeF16, typeBF16} {
			src := encodeAs(t, from, f32Bytes(numbers), typeF32, n)
			for _, typ := range append(kernelTypes, typeF32, typeF16, typeBF16) {
				want := encodeAs(t, typ, encodeAs(t, typeF16, src, from, n), typeF16, n)
				got, intact := guarded(len(want))
				if err := EncodeRowsThroughF16(got, uint32(typ), src, uint32(from), n, nil); err != nil || !intact() || !bytes.Equal(got, want) {
					t.Fatalf("%s, %s to %s: %v, the same bytes: %v", set, from, typ, err, bytes.Equal(got, want))
				}
			}
			for _, at := range []int{0, 13, n*rows - 1} {
				bad := withValue(numbers, at, float32(math.Inf(-1)))
				q4 := make([]byte, rows*n/32*18)
				if err := EncodeRowsThroughF16(q4, 2, encodeAs(t, from, bad, typeF32, n), uint32(from), n, nil); err == nil || !strings.Contains(err.Error(), "not finite") {
					t.Errorf("%s, %s with an infinite value at %d: got %v", set, from, at, err)
				}
			}
		}
	}
	if err := EncodeRowsThroughF16(make([]byte, 18), 2, make([]byte, 34), 8, 32, nil); err == nil {
		t.Error("rows of q8_0: accepted")
	}
}

// TestThroughF16Exhaustive rounds every bf16 number that is finite as f16, alone among others and beside its neighbours.
func TestThroughF16Exhaustive(t *testing.T) {
	defer useKernels(t, "")
	var src []byte
	for pass := range 2 {
		for i := range 1 << 16 {
			b := uint16(i)
			if pass == 1 {
				b = uint16(i * 40503) // every number again, in another order
			}
			if b&0x7fff >= 0x4780 { // 2^16 and above, infinity, NaN
				b = 0x3f80
			}
			src = append(src, byte(b), byte(b>>8))
			if i%37 == 0 {
				for range 16 {
					src = append(src, 0x80, 0x3d)
				}
			}
		}
	}
	n := int64(len(src) / 2)
	for _, set := range AvailableKernels() {
		useKernels(t, set)
		want := encodeAs(t, typeF32, encodeAs(t, typeF16, src, typeBF16, n), typeF16, n)
		got := make([]byte, len(want))
		if err := EncodeRowsThroughF16(got, uint32(typeF32), src, uint32(typeBF16), n, nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %v, other numbers than by way of f16 from byte %d on", set, err, firstBlock(got, want, 4)*4)
		}
		for _, b := range []uint16{0x4780, 0xc780, 0x7f7f, 0x7f80, 0xff80, 0x7fc0} { // from 2^16 on
			row := bytes.Repeat([]byte{0x80, 0x3d}, 64)
			row[42], row[43] = byte(b), byte(b>>8)
			if err := EncodeRowsThroughF16(make([]byte, 256), uint32(typeF32), row, uint32(typeBF16), 64, nil); err == nil {
				t.Errorf("%s: %#x among others: got no error, want one since it is not finite as f16", set, b)
			}
		}
	}
}

// encodeAs encodes rows of n values, which must succeed.
func encodeAs(t *testing.T, typ TensorType, src []byte, from TensorType, n int64) []byte {
	t.Helper()
	in, _ := from.RowSize(n)
	out, err := typ.RowSize(n)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, int64(len(src))/in*out)
	if err := EncodeRows(dst, uint32(typ), src, uint32(from), n, nil); err != nil {
		t.Fatal(err)
	}
	return dst
}

// withValue is x with one value in the place of another, as bytes.
func withValue(x []float32, at int, v float32) []byte {
	b := bytes.Clone(f32Bytes(x))
	copy(b[4*at:], f32Bytes([]float32{v}))
	return b
}
