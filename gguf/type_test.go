package gguf

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestTypeSizes computes every size from what a block holds, as the assertions
// in ggml-common.h do: half and float scales, bits per element, scale bytes.
func TestTypeSizes(t *testing.T) {
	const half = 2
	for _, test := range []struct {
		t           Type
		block, size int64
	}{
		{F32, 1, 4}, {F16, 1, 2}, {BF16, 1, 2}, {F64, 1, 8}, {I8, 1, 1}, {I16, 1, 2}, {I32, 1, 4}, {I64, 1, 8},
		{Q1_0, 128, half + 128/8}, {Q2_0, 64, half + 64/4},
		{Q4_0, 32, half + 32/2}, {Q4_1, 32, 2*half + 32/2}, {Q5_0, 32, half + 4 + 32/2}, {Q5_1, 32, 2*half + 4 + 32/2},
		{Q8_0, 32, half + 32}, {Q8_1, 32, 2*half + 32}, {MXFP4, 32, 1 + 32/2}, {NVFP4, 64, 64/16 + 64/2},
		{TQ1_0, 256, half + 256/64 + (256-4*256/64)/5}, {TQ2_0, 256, half + 256/4},
		{Q2_K, 256, 2*half + 256/16 + 256/4}, {Q3_K, 256, half + 256/4 + 256/8 + 12}, {Q4_K, 256, 2*half + 12 + 256/2},
		{Q5_K, 256, 2*half + 12 + 256/2 + 256/8}, {Q6_K, 256, half + 256/16 + 3*256/4}, {Q8_K, 256, 4 + 256 + 256/16*2},
		{IQ2_XXS, 256, half + 256/8*2}, {IQ2_XS, 256, half + 256/8*2 + 256/32}, {IQ2_S, 256, half + 256/4 + 256/16},
		{IQ3_XXS, 256, half + 3*(256/8)}, {IQ3_S, 256, half + 13*(256/32) + 256/64},
		{IQ1_S, 256, half + 256/8 + 256/16}, {IQ1_M, 256, 256/8 + 256/16 + 256/32},
		{IQ4_NL, 32, half + 32/2}, {IQ4_XS, 256, half + 2 + 256/64 + 256/2},
	} {
		if test.t.BlockSize() != test.block || test.t.TypeSize() != test.size || test.t.IsQuantized() != (test.block > 1) {
			t.Errorf("%s: got block %d of %d bytes, want %d of %d", test.t, test.t.BlockSize(), test.t.TypeSize(), test.block, test.size)
		}
	}
	if got := len(Types()); got != 35 {
		t.Errorf("got %d types, want 35", got)
	}
}

func TestTypeNames(t *testing.T) {
	for _, typ := range Types() {
		for _, s := range []string{typ.String(), strings.ToUpper(typ.String()), strings.ToLower(typ.String())} {
			if got, err := ParseType(s); err != nil || got != typ {
				t.Errorf("parse %q: got %v, %v, want %v", s, got, err, typ)
			}
		}
	}
	for _, s := range []string{"", "q4", "type 4", "deprecated", "q4_2"} {
		if got, err := ParseType(s); err == nil || !strings.Contains(err.Error(), "want one of f32 f16 q4_0 ") {
			t.Errorf("parse %q: got %v, %v, want an error", s, got, err)
		}
	}
	if got, want := (Q6_K.String() + " " + IQ4_NL.String() + " " + Type(4).String()), "q6_K iq4_nl type 4"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInvalidTypes(t *testing.T) {
	for _, typ := range []Type{4, 5, 31, 32, 33, 36, 37, 38, 43, math.MaxUint32} {
		if typ.Valid() || typ.BlockSize() != 0 || typ.TypeSize() != 0 || typ.IsQuantized() {
			t.Errorf("%s: got a valid type", typ)
		}
		if _, err := typ.RowSize(256); err == nil {
			t.Errorf("%s: got a row size", typ)
		}
	}
}

func TestRowSize(t *testing.T) {
	for _, test := range []struct {
		t    Type
		n    int64
		want int64 // -1: an error
	}{
		{F32, 1, 4}, {F32, 0, -1}, {F32, -4, -1}, {Q4_0, 64, 36}, {Q4_0, 33, -1}, {Q6_K, 512, 420}, {Q6_K, 128, -1},
		{F64, math.MaxInt64, -1}, {I8, math.MaxInt64, math.MaxInt64},
	} {
		got, err := test.t.RowSize(test.n)
		if (err != nil) != (test.want < 0) || err == nil && got != test.want {
			t.Errorf("%s row of %d: got %d, %v, want %d", test.t, test.n, got, err, test.want)
		}
	}
}

func TestTrimNE(t *testing.T) {
	for _, test := range [][2][]int64{{{3, 1, 2, 1}, {3, 1, 2}}, {{1, 1, 1, 1}, {1}}, {{5}, {5}}, {{2, 3}, {2, 3}}} {
		if got := TrimNE(test[0]); !slices.Equal(got, test[1]) {
			t.Errorf("trim %v: got %v, want %v", test[0], got, test[1])
		}
	}
}
