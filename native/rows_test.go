package llama

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

const (
	typeF32  = 0
	typeF16  = 1
	typeBF16 = 30
)

func f32Bytes(x []float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func allTypes(t *testing.T) (types []TensorType) {
	t.Helper()
	for i := range TensorTypeCount {
		if typ := TensorType(i); typ.Valid() {
			types = append(types, typ)
		}
	}
	if len(types) < 30 {
		t.Fatalf("got %d types", len(types))
	}
	return types
}

func TestTensorTypes(t *testing.T) {
	for _, x := range []struct {
		typ         uint32
		name        string
		block, size int64
	}{
		{0, "f32", 1, 4}, {1, "f16", 1, 2}, {30, "bf16", 1, 2}, {2, "q4_0", 32, 18}, {3, "q4_1", 32, 20},
		{8, "q8_0", 32, 34}, {10, "q2_K", 256, 84}, {14, "q6_K", 256, 210}, {20, "iq4_nl", 32, 18}, {35, "tq2_0", 256, 66},
		{39, "mxfp4", 32, 17}, {40, "nvfp4", 64, 36}, {41, "q1_0", 128, 18}, {42, "q2_0", 64, 18}, {27, "i64", 1, 8},
	} {
		if TypeName(x.typ) != x.name || BlockSize(x.typ) != x.block || TypeSize(x.typ) != x.size {
			t.Errorf("type %d: got %s %d %d, want %s %d %d", x.typ, TypeName(x.typ), BlockSize(x.typ), TypeSize(x.typ), x.name, x.block, x.size)
		}
	}
	for _, bad := range []uint32{4, 5, 31, 32, 33, 36, 37, 38, uint32(TensorTypeCount), 1 << 31, math.MaxUint32} {
		if TypeName(bad) != "" || BlockSize(bad) != 0 || TypeSize(bad) != 0 || RequiresImatrix(bad) || TensorType(bad).Valid() {
			t.Errorf("type %d: it is said to be there", bad)
		}
	}
	for _, typ := range allTypes(t) {
		want := typ == 16 || typ == 17 || typ == 19 // ggml_quantize_requires_imatrix
		if RequiresImatrix(uint32(typ)) != want {
			t.Errorf("%s: requires imatrix: got %v", typ, !want)
		}
		if typ.IsQuantized() && !typ.CanEncode() && typ != 9 && typ != 15 { // q8_1 and q8_K are for activations
			t.Errorf("%s: no encoder", typ)
		}
	}
}

// halfToEven is the f16 nearest to x, by exact arithmetic on float64.
func halfToEven(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits >> 16 & 0x8000)
	a := math.Abs(float64(x))
	switch {
	case math.IsNaN(a):
		return sign | 0x7e00
	case a >= 65520: // half way from the largest f16 to 65536
		return sign | 0x7c00
	case a < math.Ldexp(1, -14): // subnormal: units of 2^-24
		return sign | uint16(math.RoundToEven(math.Ldexp(a, 24)))
	}
	m, e := math.Frexp(a) // a = m·2^e, m in [1/2, 1)
	q := math.RoundToEven(math.Ldexp(m, 11))
	return sign + uint16(q-1024) + uint16(e+14)<<10
}

// bfloat is the bf16 nearest to x; a NaN stays one and becomes quiet.
func bfloat(x float32) uint16 {
	bits := math.Float32bits(x)
	if x != x {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// hard are values at the borders of the formats.
func hard() []float32 {
	var x []float32
	for _, bits := range []uint32{
		0, 1, 2, 0x007fffff, 0x00800000, 0x33000000, 0x33000001, 0x32ffffff, 0x33800000, 0x33c00000, 0x387fc000, 0x387fe000, 0x38800000,
		0x3f800000, 0x3f801000, 0x3f801001, 0x3f803000, 0x3f807fff, 0x3f808000, 0x3f818000, 0x477fe000, 0x477fefff, 0x477ff000, 0x477ff001,
		0x7f7fffff, 0x7f7f8000, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff, 0x7fa00000,
	} {
		x = append(x, math.Float32frombits(bits), math.Float32frombits(bits|0x80000000))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for len(x) < 1<<16 {
		x = append(x, math.Float32frombits(rng.Uint32()))
	}
	return x
}

func TestEncodeFloats(t *testing.T) {
	x := hard()
	src := f32Bytes(x)
	n := int64(len(x))
	half, brain := make([]byte, 2*n), make([]byte, 2*n)
	if err := EncodeRows(half, typeF16, src, typeF32, n, nil); err != nil {
		t.Fatal(err)
	}
	if err := EncodeRows(brain, typeBF16, src, typeF32, n, nil); err != nil {
		t.Fatal(err)
	}
	for i, v := range x {
		got := binary.LittleEndian.Uint16(half[2*i:])
		if want := halfToEven(v); got != want && v == v {
			t.Fatalf("f16 of %x: got %04x, want %04x", math.Float32bits(v), got, want)
		}
		if v != v && (got&0x7c00 != 0x7c00 || got&0x3ff == 0) {
			t.Fatalf("f16 of NaN %x: got %04x, want a NaN", math.Float32bits(v), got)
		}
		if got, want := binary.LittleEndian.Uint16(brain[2*i:]), bfloat(v); got != want {
			t.Fatalf("bf16 of %x: got %04x, want %04x", math.Float32bits(v), got, want)
		}
	}
	same := make([]byte, len(src))
	if err := EncodeRows(same, typeF32, src, typeF32, n, nil); err != nil || !bytes.Equal(same, src) {
		t.Errorf("f32 to f32: it changed, %v", err)
	}
}

// TestKernelsEqualPlain compares the SIMD ways with ggml's loops, at every length
// of the last group and on every value that is hard or not a number.
func TestKernelsEqualPlain(t *testing.T) {
	defer useKernels(t, "")
	x := hard()
	every := make([]byte, 0, 1<<17)
	for i := range 1 << 16 {
		every = binary.LittleEndian.AppendUint16(every, uint16(i))
	}
	for n := len(x) - 9; n <= len(x); n++ {
		var half [2][]byte
		var full [2][]float32
		for i, set := range []string{"", "plain"} {
			useKernels(t, set)
			var intact func() bool
			half[i], intact = guarded(2 * n)
			full[i] = make([]float32, n)
			if err := EncodeRows(half[i], typeF16, f32Bytes(x[:n]), typeF32, int64(n), nil); err != nil || !intact() {
				t.Fatalf("%d values: %v, or written outside", n, err)
			}
			if err := DecodeRows(full[i], every[:2*n], typeF16, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(half[0], half[1]) || !bytes.Equal(f32Bytes(full[0]), f32Bytes(full[1])) {
			t.Fatalf("%d values: other bytes than the plain way", n)
		}
	}
}

// TestEncodeSixteenBits goes through every f16 and bf16 value.
func TestEncodeSixteenBits(t *testing.T) {
	all := make([]byte, 0, 1<<17)
	for i := range 1 << 16 {
		all = binary.LittleEndian.AppendUint16(all, uint16(i))
	}
	for _, typ := range []uint32{typeF16, typeBF16} {
		f := make([]float32, 1<<16)
		if err := DecodeRows(f, all, typ, 1<<16); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(all))
		if err := EncodeRows(back, typ, all, typ, 256, nil); err != nil {
			t.Fatal(err)
		}
		for i, v := range f {
			if want := binary.LittleEndian.Uint16(all[2*i:]); v == v && binary.LittleEndian.Uint16(back[2*i:]) != want {
				t.Fatalf("type %d: %04x became %04x", typ, want, binary.LittleEndian.Uint16(back[2*i:]))
			}
			if typ == typeBF16 && math.Float32bits(v) != uint32(i)<<16 {
				t.Fatalf("bf16 %04x: got %x", i, math.Float32bits(v))
			}
		}
	}
}

// guarded is a buffer between two rows of sentinels.
func guarded(n int) (buf []byte, intact func() bool) {
	const guard = 64
	all := bytes.Repeat([]byte{0xa5}, n+2*guard)
	return all[guard : guard+n : guard+n], func() bool {
		return bytes.Count(all[:guard], []byte{0xa5}) == guard && bytes.Count(all[guard+n:], []byte{0xa5}) == guard
	}
}

// rowKinds are rows that encoders have trouble with.
func rowKinds(n int) map[string][]float32 {
	rng := rand.New(rand.NewPCG(3, 4))
	kinds := map[string][]float32{}
	add := func(name string, f func(i int) float32) {
		x := make([]float32, 4*n)
		for i := range x {
			x[i] = f(i)
		}
		kinds[name] = x
	}
	add("random", func(int) float32 { return float32(rng.NormFloat64()) })
	add("zero", func(int) float32 { return 0 })
	add("constant", func(int) float32 { return -0.375 })
	add("denormal", func(i int) float32 { return math.Float32frombits(uint32(i + 1)) })
	add("one", func(i int) float32 {
		if i%97 == 5 {
			return 3
		}
		return 0
	})
	add("large", func(int) float32 { return float32(rng.NormFloat64() * 1e30) })
	add("infinite", func(i int) float32 {
		if i%100 == 7 {
			return float32(math.Inf(1 - i%2*2))
		}
		return float32(rng.NormFloat64())
	})
	add("nan", func(i int) float32 {
		if i%100 == 9 {
			return float32(math.NaN())
		}
		return float32(rng.NormFloat64())
	})
	return kinds
}

// TestEncodeEveryType encodes every kind of row to every type: in one piece and
// row by row, on many goroutines, the bytes must be the same, and finite rows
// must come back near what they were.
func TestEncodeEveryType(t *testing.T) {
	const n = 256
	imatrix := make([]float32, n)
	for i := range imatrix {
		imatrix[i] = 0.1 + float32(i%13)
	}
	for _, typ := range allTypes(t) {
		if !typ.CanEncode() {
			continue
		}
		size, err := typ.RowSize(n)
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range rowKinds(n) {
			if strings.HasPrefix(typ.String(), "iq") { // slow
				x = x[:n]
				if name == "denormal" || name == "one" || name == "large" {
					continue
				}
			}
			src := f32Bytes(x)
			rows := int64(len(x)) / n
			whole, intact := guarded(int(rows * size))
			err := EncodeRows(whole, uint32(typ), src, typeF32, n, imatrix)
			if err != nil && typ.String()[0] == 'i' && strings.Contains(err.Error(), "cannot be encoded") {
				continue // the search of the i-quants asserts on values that are not finite or too large
			}
			if err != nil {
				t.Errorf("%s, %s: %v", typ, name, err)
				continue
			}
			if !intact() {
				t.Errorf("%s, %s: wrote outside of the output", typ, name)
			}
			parts := make([]byte, len(whole))
			var wg sync.WaitGroup
			for r := range rows {
				wg.Add(1)
				go func() {
					defer wg.Done()
					if err := EncodeRows(parts[r*size:(r+1)*size], uint32(typ), src[r*n*4:(r+1)*n*4], typeF32, n, imatrix); err != nil {
						t.Error(err)
					}
				}()
			}
			wg.Wait()
			if name != "nan" && name != "infinite" && !bytes.Equal(whole, parts) {
				t.Errorf("%s, %s: row by row other bytes", typ, name)
			}
			if name == "random" {
				checkDecoded(t, typ, whole, x, n)
				if err := ValidateRows(whole, uint32(typ)); err != nil {
					t.Errorf("%s: %v", typ, err)
				}
			}
		}
	}
}

// checkDecoded wants the error of a round trip to be what the bits allow.
func checkDecoded(t *testing.T, typ TensorType, enc []byte, x []float32, n int64) {
	t.Helper()
	y := make([]float32, len(x))
	if err := DecodeRows(y, enc, uint32(typ), n); err != nil {
		t.Errorf("%s: %v", typ, err)
		return
	}
	var diff, sum float64
	for i := range x {
		d := float64(x[i] - y[i])
		diff += d * d
		sum += float64(x[i]) * float64(x[i])
	}
	bpw := 8 * float64(typ.TypeSize()) / float64(typ.BlockSize())
	limit := 1.7 * math.Exp2(1-bpw)
	if bpw == 16 {
		limit = 1.0 / 256 // bf16 keeps 8 bits
	}
	if !(diff/sum <= max(limit*limit, 1e-12)) && bpw > 2.5 || !(diff < sum) {
		t.Errorf("%s: relative error %.4f at %.2f bits", typ, math.Sqrt(diff/sum), bpw)
	}
}

func TestEncodeFromSixteenBits(t *testing.T) {
	const n = 256
	x := rowKinds(n)["random"]
	for _, st := range []uint32{typeF16, typeBF16, 8} {
		stSize, err := TensorType(st).RowSize(n)
		if err != nil {
			t.Fatal(err)
		}
		src := make([]byte, 4*stSize)
		if err := EncodeRows(src, st, f32Bytes(x), typeF32, n, nil); err != nil {
			t.Fatal(err)
		}
		f := make([]float32, len(x))
		if err := DecodeRows(f, src, st, n); err != nil {
			t.Fatal(err)
		}
		for _, dt := range []uint32{2, 14, 15 - 3, typeF16, typeF32} {
			size, err := TensorType(dt).RowSize(n)
			if err != nil {
				t.Fatal(err)
			}
			direct, over := make([]byte, 4*size), make([]byte, 4*size)
			if err := EncodeRows(direct, dt, src, st, n, nil); err != nil {
				t.Fatal(err)
			}
			if err := EncodeRows(over, dt, f32Bytes(f), typeF32, n, nil); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(direct, over) {
				t.Errorf("%s to %s: not what goes over f32", TypeName(st), TypeName(dt))
			}
		}
		// Mapped files do not keep rows aligned.
		odd := append([]byte{0}, src...)[1:]
		got := make([]byte, 4*18*n/32)
		want := make([]byte, len(got))
		if EncodeRows(got, 2, odd, st, n, nil) != nil || EncodeRows(want, 2, src, st, n, nil) != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: unaligned input gives other bytes", TypeName(st))
		}
	}
	odd := append([]byte{0}, f32Bytes(x)...)[1:]
	got, want := make([]byte, 4*18*n/32), make([]byte, 4*18*n/32)
	if EncodeRows(got, 2, odd, typeF32, n, nil) != nil || EncodeRows(want, 2, f32Bytes(x), typeF32, n, nil) != nil || !bytes.Equal(got, want) {
		t.Error("f32: unaligned input gives other bytes")
	}
}

func TestImatrixMatters(t *testing.T) {
	const n = 256
	x := f32Bytes(rowKinds(n)["random"])
	imatrix := make([]float32, n)
	for i := range imatrix {
		imatrix[i] = float32(1 + i%50*i%50)
	}
	for _, typ := range []uint32{2, 12, 14, 20} {
		size, err := TensorType(typ).RowSize(n)
		if err != nil {
			t.Fatal(err)
		}
		with, without := make([]byte, 4*size), make([]byte, 4*size)
		if EncodeRows(with, typ, x, typeF32, n, imatrix) != nil || EncodeRows(without, typ, x, typeF32, n, nil) != nil || bytes.Equal(with, without) {
			t.Errorf("%s: the imatrix makes no difference", TypeName(typ))
		}
	}
}

func TestRowErrors(t *testing.T) {
	row := make([]byte, 4*32)
	dst := make([]byte, 18)
	for name, err := range map[string]error{
		"type":         EncodeRows(dst, 4, row, typeF32, 32, nil),
		"huge type":    EncodeRows(dst, math.MaxUint32, row, typeF32, 32, nil),
		"q8_1":         EncodeRows(make([]byte, 36), 9, row, typeF32, 32, nil),
		"integers":     EncodeRows(make([]byte, 128), 26, row, typeF32, 32, nil),
		"source":       EncodeRows(dst, 2, row, 26, 32, nil),
		"no source":    EncodeRows(dst, 2, row, 99, 32, nil),
		"row":          EncodeRows(dst, 2, row, typeF32, 31, nil),
		"row of 0":     EncodeRows(dst, 2, row, typeF32, 0, nil),
		"negative row": EncodeRows(dst, 2, row, typeF32, -32, nil),
		"long row":     EncodeRows(dst, 2, row, typeF32, math.MaxInt64/32*32, nil),
		"input":        EncodeRows(dst, 2, row[:127], typeF32, 32, nil),
		"output":       EncodeRows(dst[:17], 2, row, typeF32, 32, nil),
		"imatrix":      EncodeRows(dst, 2, row, typeF32, 32, make([]float32, 31)),
		"no imatrix":   EncodeRows(make([]byte, 66), 16, make([]byte, 1024), typeF32, 256, nil),
		"block":        EncodeRows(make([]byte, 84), 10, make([]byte, 128), typeF32, 32, nil),
		"decode":       DecodeRows(make([]float32, 31), dst, 2, 32),
		"decode type":  DecodeRows(make([]float32, 32), dst, 5, 32),
		"decode input": DecodeRows(make([]float32, 32), dst[:17], 2, 32),
		"validate":     ValidateRows(make([]byte, 17), 2),
		"valid type":   ValidateRows(dst, 77),
		"nan":          ValidateRows(f32Bytes([]float32{1, float32(math.NaN())}), typeF32),
		"nan scale":    ValidateRows(append([]byte{0, 0x7e}, make([]byte, 16)...), 2),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "GGML_ASSERT") {
			t.Errorf("%s: an assert: %v", name, err)
		}
	}
	if EncodeRows(nil, 2, nil, typeF32, 32, nil) != nil || DecodeRows(nil, nil, 2, 32) != nil || ValidateRows(nil, 2) != nil {
		t.Error("no rows: error")
	}
}

func TestFTypes(t *testing.T) {
	for name, want := range map[string]string{ // llama_ftype_name's texts
		"F32": "all F32", "F16": "F16", "BF16": "BF16", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0", "Q8_0": "Q8_0",
		"Q2_K": "Q2_K - Medium", "Q2_K_S": "Q2_K - Small", "Q3_K_S": "Q3_K - Small", "Q3_K_M": "Q3_K - Medium", "Q3_K_L": "Q3_K - Large",
		"Q4_K_S": "Q4_K - Small", "Q4_K_M": "Q4_K - Medium", "Q5_K_M": "Q5_K - Medium", "Q6_K": "Q6_K", "q4_k": "Q4_K - Medium",
		"IQ4_NL": "IQ4_NL - 4.5 bpw", "iq1_s": "IQ1_S - 1.5625 bpw", "TQ1_0": "TQ1_0 - 1.69 bpw ternary", "MXFP4_MOE": "MXFP4 MoE",
		"2": "Q4_0", "15": "Q4_K - Medium",
	} {
		f, err := ParseFType(name)
		if err != nil || f.Description() != want {
			t.Errorf("%s: got %q, %v, want %q", name, f.Description(), err, want)
		}
	}
	seen := map[FType]bool{}
	for _, name := range FTypes() {
		f, err := ParseFType(strings.ToLower(name))
		if err != nil || f.String() != name || !f.Valid() || seen[f] || strings.Contains(f.Description(), "unknown") {
			t.Errorf("%s: got %v %q, %v", name, f, f.Description(), err)
		}
		seen[f] = true
	}
	for _, bad := range []string{"", "Q9_9", "4", "-1", "1024", "COPY"} {
		if f, err := ParseFType(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, f)
		}
	}
	if FType(999).Valid() || FType(999).String() != "ftype 999" {
		t.Error("ftype 999 is said to be valid")
	}
}
