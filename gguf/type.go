package gguf

import (
	"fmt"
	"strings"
)

// Type is a ggml tensor type: how the elements of one tensor are stored. The
// values are those of enum ggml_type in llama.cpp's ggml/include/ggml.h.
type Type uint32

// The tensor types of llama.cpp v0.5.0. The missing numbers (4, 5, 31–33,
// 36–38) belonged to types that ggml has removed.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42

	typeCount = 43 // GGML_TYPE_COUNT
)

// typeInfo is one row of the type table: a row of a tensor is stored as blocks
// of block elements, each of size bytes.
type typeInfo struct {
	name        string
	block, size int64
}

// typeTable holds ggml's type_traits (ggml/src/ggml.c) with the sizes of the
// block structures in ggml/src/ggml-common.h. A removed type has block 0.
var typeTable = [typeCount]typeInfo{
	F32:     {"f32", 1, 4},
	F16:     {"f16", 1, 2},
	Q4_0:    {"q4_0", 32, 18},
	Q4_1:    {"q4_1", 32, 20},
	Q5_0:    {"q5_0", 32, 22},
	Q5_1:    {"q5_1", 32, 24},
	Q8_0:    {"q8_0", 32, 34},
	Q8_1:    {"q8_1", 32, 36},
	Q2_K:    {"q2_K", 256, 84},
	Q3_K:    {"q3_K", 256, 110},
	Q4_K:    {"q4_K", 256, 144},
	Q5_K:    {"q5_K", 256, 176},
	Q6_K:    {"q6_K", 256, 210},
	Q8_K:    {"q8_K", 256, 292},
	IQ2_XXS: {"iq2_xxs", 256, 66},
	IQ2_XS:  {"iq2_xs", 256, 74},
	IQ3_XXS: {"iq3_xxs", 256, 98},
	IQ1_S:   {"iq1_s", 256, 50},
	IQ4_NL:  {"iq4_nl", 32, 18},
	IQ3_S:   {"iq3_s", 256, 110},
	IQ2_S:   {"iq2_s", 256, 82},
	IQ4_XS:  {"iq4_xs", 256, 136},
	I8:      {"i8", 1, 1},
	I16:     {"i16", 1, 2},
	I32:     {"i32", 1, 4},
	I64:     {"i64", 1, 8},
	F64:     {"f64", 1, 8},
	IQ1_M:   {"iq1_m", 256, 56},
	BF16:    {"bf16", 1, 2},
	TQ1_0:   {"tq1_0", 256, 54},
	TQ2_0:   {"tq2_0", 256, 66},
	MXFP4:   {"mxfp4", 32, 17},
	NVFP4:   {"nvfp4", 64, 36},
	Q1_0:    {"q1_0", 128, 18},
	Q2_0:    {"q2_0", 64, 18},
}

// Valid reports whether t is a type of llama.cpp v0.5.0; removed types are not.
func (t Type) Valid() bool { return t < typeCount && typeTable[t].block > 0 }

// String gives ggml's name of the type ("f32", "q4_0", "q6_K"), or "type 4" for a number that is none.
func (t Type) String() string {
	if !t.Valid() {
		return fmt.Sprintf("type %d", uint32(t))
	}
	return typeTable[t].name
}

// BlockSize gives the number of elements in a block: 1 for plain numbers, 0 for an invalid type.
func (t Type) BlockSize() int64 {
	if !t.Valid() {
		return 0
	}
	return typeTable[t].block
}

// TypeSize gives the number of bytes in a block, 0 for an invalid type.
func (t Type) TypeSize() int64 {
	if !t.Valid() {
		return 0
	}
	return typeTable[t].size
}

// IsQuantized reports whether a block of t holds more than one element.
func (t Type) IsQuantized() bool { return t.BlockSize() > 1 }

// RowSize gives the bytes of a row of ne0 elements. It is an error if the
// type is invalid, if ne0 is not a positive multiple of the block size, or if
// the size does not fit an int64.
func (t Type) RowSize(ne0 int64) (int64, error) {
	if !t.Valid() {
		return 0, fmt.Errorf("tensor type: got %d, want a type of llama.cpp v0.5.0", uint32(t))
	}
	info := typeTable[t]
	if ne0 <= 0 || ne0%info.block != 0 {
		return 0, fmt.Errorf("row of %s: got %d elements, want a positive multiple of %d", t, ne0, info.block)
	}
	size, ok := mul(ne0/info.block, info.size)
	if !ok {
		return 0, fmt.Errorf("row of %s: %d elements: size in bytes does not fit 63 bits", t, ne0)
	}
	return size, nil
}

// ParseType gives the type with ggml's name s; case does not matter.
func ParseType(s string) (Type, error) {
	for t, info := range typeTable {
		if info.block > 0 && strings.EqualFold(info.name, s) {
			return Type(t), nil
		}
	}
	return 0, fmt.Errorf("parse tensor type: got %q, want one of %s", s, strings.Join(typeNames(), " "))
}

// Types lists every valid type in the order of the numbers.
func Types() []Type {
	var ts []Type
	for t := range Type(typeCount) {
		if t.Valid() {
			ts = append(ts, t)
		}
	}
	return ts
}

func typeNames() []string {
	var names []string
	for _, t := range Types() {
		names = append(names, t.String())
	}
	return names
}

// mul multiplies two numbers that are not negative; ok is false if the product does not fit.
func mul(a, b int64) (p int64, ok bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	p = a * b
	return p, p > 0 && p/b == a
}
