package quant

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// ftype is a whole file's quantization, numbered as enum llama_ftype in
// llama.cpp's include/llama.h.
type ftype uint32

const (
	ftypeF32      ftype = 0
	ftypeF16      ftype = 1
	ftypeQ4_0     ftype = 2
	ftypeQ4_1     ftype = 3
	ftypeQ8_0     ftype = 7
	ftypeQ5_0     ftype = 8
	ftypeQ5_1     ftype = 9
	ftypeQ2_K     ftype = 10
	ftypeQ3_K_S   ftype = 11
	ftypeQ3_K_M   ftype = 12
	ftypeQ3_K_L   ftype = 13
	ftypeQ4_K_S   ftype = 14
	ftypeQ4_K_M   ftype = 15
	ftypeQ5_K_S   ftype = 16
	ftypeQ5_K_M   ftype = 17
	ftypeQ6_K     ftype = 18
	ftypeIQ2_XXS  ftype = 19
	ftypeIQ2_XS   ftype = 20
	ftypeQ2_K_S   ftype = 21
	ftypeIQ3_XS   ftype = 22
	ftypeIQ3_XXS  ftype = 23
	ftypeIQ1_S    ftype = 24
	ftypeIQ4_NL   ftype = 25
	ftypeIQ3_S    ftype = 26
	ftypeIQ3_M    ftype = 27
	ftypeIQ2_S    ftype = 28
	ftypeIQ2_M    ftype = 29
	ftypeIQ4_XS   ftype = 30
	ftypeIQ1_M    ftype = 31
	ftypeBF16     ftype = 32
	ftypeTQ1_0    ftype = 36
	ftypeTQ2_0    ftype = 37
	ftypeMXFP4MoE ftype = 38
	ftypeNVFP4    ftype = 39 // only guessed from a file's tensors; llama-quantize makes no such file
	ftypeQ1_0     ftype = 40
	ftypeQ2_0     ftype = 41

	// ftypeGuessed marks an ftype that was told from the tensors because the
	// file has no general.file_type (LLAMA_FTYPE_GUESSED).
	ftypeGuessed ftype = 1024
)

// target is one name that llama-quantize accepts for the type argument.
type target struct {
	name  string
	ftype ftype
	base  gguf.Type // what a weight gets when no rule says otherwise
	copy  bool      // copy tensors as they are
}

// targets lists the accepted names in llama-quantize's order, in which a number
// finds its first entry. Sources: QUANT_OPTIONS in tools/quantize/quantize.cpp
// and llama_ftype_get_default_type in src/llama-quant.cpp.
var targets = []target{
	{name: "Q1_0", ftype: ftypeQ1_0, base: gguf.Q1_0},
	{name: "Q2_0", ftype: ftypeQ2_0, base: gguf.Q2_0},
	{name: "Q4_0", ftype: ftypeQ4_0, base: gguf.Q4_0},
	{name: "Q4_1", ftype: ftypeQ4_1, base: gguf.Q4_1},
	{name: "MXFP4_MOE", ftype: ftypeMXFP4MoE, base: gguf.MXFP4},
	{name: "Q5_0", ftype: ftypeQ5_0, base: gguf.Q5_0},
	{name: "Q5_1", ftype: ftypeQ5_1, base: gguf.Q5_1},
	{name: "IQ2_XXS", ftype: ftypeIQ2_XXS, base: gguf.IQ2_XXS},
	{name: "IQ2_XS", ftype: ftypeIQ2_XS, base: gguf.IQ2_XS},
	{name: "IQ2_S", ftype: ftypeIQ2_S, base: gguf.IQ2_XS},
	{name: "IQ2_M", ftype: ftypeIQ2_M, base: gguf.IQ2_S},
	{name: "IQ1_S", ftype: ftypeIQ1_S, base: gguf.IQ1_S},
	{name: "IQ1_M", ftype: ftypeIQ1_M, base: gguf.IQ1_M},
	{name: "TQ1_0", ftype: ftypeTQ1_0, base: gguf.TQ1_0},
	{name: "TQ2_0", ftype: ftypeTQ2_0, base: gguf.TQ2_0},
	{name: "Q2_K", ftype: ftypeQ2_K, base: gguf.Q2_K},
	{name: "Q2_K_S", ftype: ftypeQ2_K_S, base: gguf.Q2_K},
	{name: "IQ3_XXS", ftype: ftypeIQ3_XXS, base: gguf.IQ3_XXS},
	{name: "IQ3_S", ftype: ftypeIQ3_S, base: gguf.IQ3_S},
	{name: "IQ3_M", ftype: ftypeIQ3_M, base: gguf.IQ3_S},
	{name: "Q3_K", ftype: ftypeQ3_K_M, base: gguf.Q3_K},
	{name: "IQ3_XS", ftype: ftypeIQ3_XS, base: gguf.IQ3_S},
	{name: "Q3_K_S", ftype: ftypeQ3_K_S, base: gguf.Q3_K},
	{name: "Q3_K_M", ftype: ftypeQ3_K_M, base: gguf.Q3_K},
	{name: "Q3_K_L", ftype: ftypeQ3_K_L, base: gguf.Q3_K},
	{name: "IQ4_NL", ftype: ftypeIQ4_NL, base: gguf.IQ4_NL},
	{name: "IQ4_XS", ftype: ftypeIQ4_XS, base: gguf.IQ4_XS},
	{name: "Q4_K", ftype: ftypeQ4_K_M, base: gguf.Q4_K},
	{name: "Q4_K_S", ftype: ftypeQ4_K_S, base: gguf.Q4_K},
	{name: "Q4_K_M", ftype: ftypeQ4_K_M, base: gguf.Q4_K},
	{name: "Q5_K", ftype: ftypeQ5_K_M, base: gguf.Q5_K},
	{name: "Q5_K_S", ftype: ftypeQ5_K_S, base: gguf.Q5_K},
	{name: "Q5_K_M", ftype: ftypeQ5_K_M, base: gguf.Q5_K},
	{name: "Q6_K", ftype: ftypeQ6_K, base: gguf.Q6_K},
	{name: "Q8_0", ftype: ftypeQ8_0, base: gguf.Q8_0},
	{name: "F16", ftype: ftypeF16, base: gguf.F16},
	{name: "BF16", ftype: ftypeBF16, base: gguf.BF16},
	{name: "F32", ftype: ftypeF32, base: gguf.F32},
	{name: "COPY", ftype: ftypeF32, base: gguf.F32, copy: true},
}

// FTypes lists the names that NewPlan accepts, as llama-quantize spells and
// orders them. NewPlan also accepts them in another case, and llama.cpp's numbers.
func FTypes() []string {
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.name
	}
	return names
}

// CanonicalFType gives the spelling in FTypes of a name in any case or of a
// number, as llama-quantize uses it in the name of its output ("15" is "Q4_K").
func CanonicalFType(s string) (string, error) {
	t, err := parseTarget(s)
	return t.name, err
}

func parseTarget(s string) (target, error) {
	for _, t := range targets {
		if strings.EqualFold(t.name, s) {
			return t, nil
		}
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		for _, t := range targets {
			if t.ftype == ftype(n) {
				return t, nil
			}
		}
	}
	return target{}, fmt.Errorf("%w: got %q, want one of %s, or its number in llama.cpp", ErrFType, s, strings.Join(FTypes(), " "))
}

// ftypeOf tells which ftype the loader assumes for a file most of whose tensors
// have type t (src/llama-model-loader.cpp); types without one count as F32.
var ftypeOf = map[gguf.Type]ftype{
	gguf.F32: ftypeF32, gguf.F16: ftypeF16, gguf.BF16: ftypeBF16,
	gguf.Q4_0: ftypeQ4_0, gguf.Q4_1: ftypeQ4_1, gguf.Q5_0: ftypeQ5_0, gguf.Q5_1: ftypeQ5_1, gguf.Q8_0: ftypeQ8_0,
	gguf.Q2_K: ftypeQ2_K, gguf.Q3_K: ftypeQ3_K_M, gguf.Q4_K: ftypeQ4_K_M, gguf.Q5_K: ftypeQ5_K_M, gguf.Q6_K: ftypeQ6_K,
	gguf.TQ1_0: ftypeTQ1_0, gguf.TQ2_0: ftypeTQ2_0,
	gguf.IQ2_XXS: ftypeIQ2_XXS, gguf.IQ2_XS: ftypeIQ2_XS, gguf.IQ2_S: ftypeIQ2_S, gguf.IQ3_XXS: ftypeIQ3_XXS,
	gguf.IQ1_S: ftypeIQ1_S, gguf.IQ1_M: ftypeIQ1_M, gguf.IQ4_NL: ftypeIQ4_NL, gguf.IQ4_XS: ftypeIQ4_XS, gguf.IQ3_S: ftypeIQ3_S,
	gguf.NVFP4: ftypeNVFP4, gguf.Q1_0: ftypeQ1_0, gguf.Q2_0: ftypeQ2_0,
}
