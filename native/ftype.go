package llama

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"strconv"
	"strings"
)

// FType is the type of a whole model file, numbered as in llama.h.
type FType int32

// ftypes are the names of llama-quantize (tools/quantize/quantize.cpp), in its
// order; the names of the list are also ggml's words for the types. alias names
// stand for another one.
var ftypes = []struct {
	name  string
	ftype FType
	alias bool
}{
	{"Q1_0", C.LLAMA_FTYPE_MOSTLY_Q1_0, false},
	{"Q2_0", C.LLAMA_FTYPE_MOSTLY_Q2_0, false},
	{"Q4_0", C.LLAMA_FTYPE_MOSTLY_Q4_0, false},
	{"Q4_1", C.LLAMA_FTYPE_MOSTLY_Q4_1, false},
	{"MXFP4_MOE", C.LLAMA_FTYPE_MOSTLY_MXFP4_MOE, false},
	{"Q5_0", C.LLAMA_FTYPE_MOSTLY_Q5_0, false},
	{"Q5_1", C.LLAMA_FTYPE_MOSTLY_Q5_1, false},
	{"IQ2_XXS", C.LLAMA_FTYPE_MOSTLY_IQ2_XXS, false},
	{"IQ2_XS", C.LLAMA_FTYPE_MOSTLY_IQ2_XS, false},
	{"IQ2_S", C.LLAMA_FTYPE_MOSTLY_IQ2_S, false},
	{"IQ2_M", C.LLAMA_FTYPE_MOSTLY_IQ2_M, false},
	{"IQ1_S", C.LLAMA_FTYPE_MOSTLY_IQ1_S, false},
	{"IQ1_M", C.LLAMA_FTYPE_MOSTLY_IQ1_M, false},
	{"TQ1_0", C.LLAMA_FTYPE_MOSTLY_TQ1_0, false},
	{"TQ2_0", C.LLAMA_FTYPE_MOSTLY_TQ2_0, false},
	{"Q2_K", C.LLAMA_FTYPE_MOSTLY_Q2_K, false},
	{"Q2_K_S", C.LLAMA_FTYPE_MOSTLY_Q2_K_S, false},
	{"IQ3_XXS", C.LLAMA_FTYPE_MOSTLY_IQ3_XXS, false},
	{"IQ3_S", C.LLAMA_FTYPE_MOSTLY_IQ3_S, false},
	{"IQ3_M", C.LLAMA_FTYPE_MOSTLY_IQ3_M, false},
	{"Q3_K", C.LLAMA_FTYPE_MOSTLY_Q3_K_M, true},
	{"IQ3_XS", C.LLAMA_FTYPE_MOSTLY_IQ3_XS, false},
	{"Q3_K_S", C.LLAMA_FTYPE_MOSTLY_Q3_K_S, false},
	{"Q3_K_M", C.LLAMA_FTYPE_MOSTLY_Q3_K_M, false},
	{"Q3_K_L", C.LLAMA_FTYPE_MOSTLY_Q3_K_L, false},
	{"IQ4_NL", C.LLAMA_FTYPE_MOSTLY_IQ4_NL, false},
	{"IQ4_XS", C.LLAMA_FTYPE_MOSTLY_IQ4_XS, false},
	{"Q4_K", C.LLAMA_FTYPE_MOSTLY_Q4_K_M, true},
	{"Q4_K_S", C.LLAMA_FTYPE_MOSTLY_Q4_K_S, false},
	{"Q4_K_M", C.LLAMA_FTYPE_MOSTLY_Q4_K_M, false},
	{"Q5_K", C.LLAMA_FTYPE_MOSTLY_Q5_K_M, true},
	{"Q5_K_S", C.LLAMA_FTYPE_MOSTLY_Q5_K_S, false},
	{"Q5_K_M", C.LLAMA_FTYPE_MOSTLY_Q5_K_M, false},
	{"Q6_K", C.LLAMA_FTYPE_MOSTLY_Q6_K, false},
	{"Q8_0", C.LLAMA_FTYPE_MOSTLY_Q8_0, false},
	{"F16", C.LLAMA_FTYPE_MOSTLY_F16, false},
	{"BF16", C.LLAMA_FTYPE_MOSTLY_BF16, false},
	{"F32", C.LLAMA_FTYPE_ALL_F32, false},
}

// FTypes lists the file types that a model can be quantized to, by the names of
// llama-quantize, without the aliases Q3_K, Q4_K and Q5_K (which mean …_M).
func FTypes() []string {
	var names []string
	for _, f := range ftypes {
		if !f.alias {
			names = append(names, f.name)
		}
	}
	return names
}

// ParseFType returns the file type of a name, in upper or lower case, or of a
// number written in digits.
func ParseFType(name string) (FType, error) {
	for _, f := range ftypes {
		if strings.EqualFold(f.name, name) {
			return f.ftype, nil
		}
	}
	if n, err := strconv.Atoi(name); err == nil {
		for _, f := range ftypes {
			if int(f.ftype) == n {
				return f.ftype, nil
			}
		}
	}
	return 0, fmt.Errorf("file type %q: unknown: want one of %s", name, strings.Join(FTypes(), " "))
}

// String returns the name, such as "Q4_K_M".
func (f FType) String() string {
	for _, x := range ftypes {
		if x.ftype == f && !x.alias {
			return x.name
		}
	}
	return "ftype " + strconv.Itoa(int(f))
}

// Description returns llama.cpp's text for the type, such as "Q4_K - Medium".
func (f FType) Description() string {
	return C.GoString(C.llama_ftype_name(C.enum_llama_ftype(f)))
}

// Valid tells whether a model can be quantized to the type.
func (f FType) Valid() bool {
	for _, x := range ftypes {
		if x.ftype == f {
			return true
		}
	}
	return false
}
