package llama

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// AddLowRank adds scale · (b · a) to w, in float32: w is [rows, cols], b [rows, r]
// and a [r, cols], all row by row. For each element the products are summed from
// k = 0 up and every operation is rounded, so that the bits are the same on every
// CPU. Calls on different rows may run at once.
func AddLowRank(w, b, a []float32, rows, cols, r int, scale float32) error {
	return AddLowRankRows(FloatBytes(w), uint32(C.GGML_TYPE_F32), b, a, rows, cols, r, scale)
}

// AddLowRankRows is AddLowRank for rows in memory as type t, F32, F16 or BF16: they are widened to float32, and what is
// added is rounded to t, a few values at a time. The bytes are those of DecodeRows, AddLowRank and EncodeFloats one after
// the other.
func AddLowRankRows(w []byte, t uint32, b, a []float32, rows, cols, r int, scale float32) error {
	size := 2
	switch TensorType(t) {
	case C.GGML_TYPE_F32:
		size = 4
	case C.GGML_TYPE_F16, C.GGML_TYPE_BF16:
	default:
		return fmt.Errorf("add low rank: type: got %s, want f32, f16 or bf16", TensorType(t))
	}
	if len(w)%size != 0 {
		return fmt.Errorf("add low rank: got %d bytes, want a multiple of %d", len(w), size)
	}
	if n := len(w) / size; rows < 0 || cols <= 0 || r <= 0 || n != rows*cols || len(b) != rows*r || len(a) != r*cols {
		return fmt.Errorf("add low rank: shapes: got %d, %d and %d values, want [%d, %d], [%d, %d] and [%d, %d]",
			n, len(b), len(a), rows, cols, rows, r, r, cols)
	}
	if rows == 0 {
		return nil
	}
	return check(C.nl_add_low_rank((*C.uint8_t)(unsafe.SliceData(w)), C.int32_t(t), (*C.float)(&b[0]), (*C.float)(&a[0]),
		C.int64_t(rows), C.int64_t(cols), C.int64_t(r), C.float(scale)), "add low rank", "to "+TensorType(t).String())
}
