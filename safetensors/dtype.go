package safetensors

import (
	"fmt"
	"math"
	"strings"
)

// DType is the type of a tensor's elements by its name in the header.
type DType string

// The dtypes of the safetensors library.
const (
	Bool       DType = "BOOL"
	F4         DType = "F4"
	F6E2M3     DType = "F6_E2M3"
	F6E3M2     DType = "F6_E3M2"
	U8         DType = "U8"
	I8         DType = "I8"
	F8E5M2     DType = "F8_E5M2"
	F8E4M3     DType = "F8_E4M3"
	F8E8M0     DType = "F8_E8M0"
	F8E4M3FNUZ DType = "F8_E4M3FNUZ"
	F8E5M2FNUZ DType = "F8_E5M2FNUZ"
	I16        DType = "I16"
	U16        DType = "U16"
	F16        DType = "F16"
	BF16       DType = "BF16"
	I32        DType = "I32"
	U32        DType = "U32"
	F32        DType = "F32"
	C64        DType = "C64"
	F64        DType = "F64"
	I64        DType = "I64"
	U64        DType = "U64"
)

// dtypeTable lists the dtypes in the order of the library's Dtype enum, which
// is the order of alignment and, reversed, the order in which it writes tensors.
var dtypeTable = []struct {
	dtype DType
	bits  int64
}{
	{Bool, 8}, {F4, 4}, {F6E2M3, 6}, {F6E3M2, 6}, {U8, 8}, {I8, 8},
	{F8E5M2, 8}, {F8E4M3, 8}, {F8E8M0, 8}, {F8E4M3FNUZ, 8}, {F8E5M2FNUZ, 8},
	{I16, 16}, {U16, 16}, {F16, 16}, {BF16, 16}, {I32, 32}, {U32, 32}, {F32, 32},
	{C64, 64}, {F64, 64}, {I64, 64}, {U64, 64},
}

// rank gives the position of d in the table, -1 for an unknown dtype.
func (d DType) rank() int {
	for i, row := range dtypeTable {
		if row.dtype == d {
			return i
		}
	}
	return -1
}

// Bits gives the bits of an element, 0 for an unknown dtype.
func (d DType) Bits() int64 {
	if i := d.rank(); i >= 0 {
		return dtypeTable[i].bits
	}
	return 0
}

// Size gives the bytes of an element: 0 for an unknown dtype and for F4 and F6, whose elements are not whole bytes.
func (d DType) Size() int64 {
	if bits := d.Bits(); bits%8 == 0 {
		return bits / 8
	}
	return 0
}

// Valid reports whether d is a dtype of the safetensors library.
func (d DType) Valid() bool { return d.rank() >= 0 }

// byteSize gives the bytes of a tensor and its number of elements, with every check.
func byteSize(d DType, shape []int64) (size, elements int64, err error) {
	bits := d.Bits()
	if bits == 0 {
		return 0, 0, fmt.Errorf("dtype: got %q, want one of %s", string(d), dtypeNames())
	}
	if len(shape) > MaxDims {
		return 0, 0, fmt.Errorf("shape: got %d dimensions, want at most %d", len(shape), MaxDims)
	}
	elements = 1
	for i, n := range shape {
		if n < 0 {
			return 0, 0, fmt.Errorf("shape[%d]: got %d, want at least 0", i, n)
		}
		if n > 0 && elements > math.MaxInt64/bits/n {
			return 0, 0, fmt.Errorf("shape %v of %s: size in bits does not fit 63 bits", shape, d)
		}
		elements *= n
	}
	if elements*bits%8 != 0 {
		return 0, 0, fmt.Errorf("shape %v of %s: got %d bits, want whole bytes", shape, d, elements*bits)
	}
	return elements * bits / 8, elements, nil
}

func dtypeNames() string {
	var names []string
	for _, row := range dtypeTable {
		names = append(names, string(row.dtype))
	}
	return strings.Join(names, " ")
}
