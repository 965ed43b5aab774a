package quant

import (
	"path/filepath"
	"testing"
)

// Every ftype, on models that reach the branches of the rules, with and
// without an importance matrix: the whole file is llama-quantize's.
func TestEqualsReference(t *testing.T) {
	for _, s := range []spec{tied, untied, moe, odd256, odd32} {
		t.Run(s.name, func(t *testing.T) {
			in := s.write(t)
			matrix := writeImatrix(t, filepath.Join(t.TempDir(), "imatrix.gguf"), s.tensors())
			for _, ftype := range FTypes() {
				t.Run(ftype, func(t *testing.T) {
					t.Parallel()
					compare(t, in, ftype, Options{Imatrix: matrix}, "--imatrix", matrix)
				})
			}
		})
	}
}
