package llama

/*
#include "shim.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

// The Go tool does not see what a C++ file includes from a folder, but compiles a package anew when an embedded file has
// changed. Nothing refers to the variable, so no program holds the text.
//
//go:embed kernels/*.h
var _ embed.FS

// kernelSets are the instruction sets that the row encoders (kernels/) are compiled for, numbered as in kernels.h.
// "plain" stands for ggml's own encoders.
var kernelSets = []string{"plain", "simd128", "avx2", "avx512"}

// Kernels names the row encoders in use: plain, simd128 (SSE2 or NEON), avx2 or avx512. All of them write the
// same bytes.
func Kernels() string { return kernelSets[C.nl_kernels()] }

// AvailableKernels lists the row encoders that this CPU can run, the slowest first.
func AvailableKernels() []string { return kernelSets[:C.nl_best_kernels()+1] }

// UseKernels chooses the row encoders for the whole process, for comparisons and for reports of errors; "" goes
// back to the best ones. It may be called at any time.
func UseKernels(name string) error {
	if name == "" {
		C.nl_use_kernels(-1)
		return nil
	}
	set := slices.Index(kernelSets, name)
	if set < 0 || set > int(C.nl_best_kernels()) {
		return fmt.Errorf("kernels: got %q, want one that this CPU has: %s", name, strings.Join(AvailableKernels(), ", "))
	}
	C.nl_use_kernels(C.int32_t(set))
	return nil
}
