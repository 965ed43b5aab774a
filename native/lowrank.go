package llama

/*
#include "shim.h"
*/
import "C"

import "fmt"

// AddLowRank adds scale · (b · a) to w, in float32: w is [rows, cols], b [rows, r]
// and a [r, cols], all row by row. For each element the products are summed from
// k = 0 up and every operation is rounded, so that the bits are the same on every
// CPU. Calls on different rows may run at once.
func AddLowRank(w, b, a []float32, rows, cols, r int, scale float32) error {
	if rows < 0 || cols <= 0 || r <= 0 || len(w) != rows*cols || len(b) != rows*r || len(a) != r*cols {
		return fmt.Errorf("add low rank: shapes: got %d, %d and %d values, want [%d, %d], [%d, %d] and [%d, %d]",
			len(w), len(b), len(a), rows, cols, rows, r, r, cols)
	}
	if rows == 0 {
		return nil
	}
	C.nl_add_low_rank((*C.float)(&w[0]), (*C.float)(&b[0]), (*C.float)(&a[0]), C.int64_t(rows), C.int64_t(cols), C.int64_t(r), C.float(scale))
	return nil
}
