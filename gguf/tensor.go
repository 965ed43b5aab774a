package gguf

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// TensorInfo describes one tensor of a file.
type TensorInfo struct {
	Name string
	Type Type
	// NE holds the dimensions, innermost (row length) first: 1 to 4 of them,
	// each at least 1. It is the reverse of a Hugging Face shape.
	NE []int64
	// Offset is where the tensor begins, in bytes from the start of the data section.
	Offset uint64
}

// Elements gives the product of the dimensions. Like Bytes and Rows it is
// meant for a TensorInfo that [Open], [NewLayout] or [TensorInfo.Validate] has checked.
func (t TensorInfo) Elements() int64 {
	n := int64(1)
	for _, d := range t.NE {
		n *= d
	}
	return n
}

// Rows gives the number of rows, the product of all dimensions but the first.
func (t TensorInfo) Rows() int64 {
	n := int64(1)
	for i := 1; i < len(t.NE); i++ {
		n *= t.NE[i]
	}
	return n
}

// Bytes gives the size of the tensor's data, without padding.
func (t TensorInfo) Bytes() int64 {
	size, err := t.size()
	if err != nil {
		return 0
	}
	return size
}

// Validate checks the name, the type and the dimensions, and that the size in bytes fits an int64.
func (t TensorInfo) Validate() error {
	if err := checkName(t.Name); err != nil {
		return err
	}
	_, err := t.size()
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return nil
}

// size computes the bytes of the tensor with every check on type and dimensions.
func (t TensorInfo) size() (int64, error) {
	if len(t.NE) < 1 || len(t.NE) > MaxDims {
		return 0, fmt.Errorf("dimensions: got %d, want 1 to %d", len(t.NE), MaxDims)
	}
	elements := int64(1)
	for i, d := range t.NE {
		if d < 1 {
			return 0, fmt.Errorf("ne[%d]: got %d, want at least 1", i, d)
		}
		var ok bool
		if elements, ok = mul(elements, d); !ok {
			return 0, fmt.Errorf("ne %v: number of elements does not fit 63 bits", t.NE)
		}
	}
	size, err := t.Type.RowSize(t.NE[0])
	if err != nil {
		return 0, err
	}
	size, ok := mul(size, elements/t.NE[0])
	// The last alignment step is kept free so that sums of padded sizes can be checked simply.
	if !ok || size > math.MaxInt64-MaxAlignment {
		return 0, fmt.Errorf("ne %v of %s: size in bytes does not fit 63 bits", t.NE, t.Type)
	}
	return size, nil
}

// TrimNE gives ne without trailing ones, but with one dimension at least: the
// dimensions that ggml's own writer, and so llama-quantize, stores (ggml_n_dims in ggml/src/ggml.c).
func TrimNE(ne []int64) []int64 {
	n := len(ne)
	for n > 1 && ne[n-1] == 1 {
		n--
	}
	return ne[:n]
}

// checkName checks a tensor name.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("tensor name: got an empty string, want 1 to %d bytes", MaxNameLen)
	case len(name) > MaxNameLen:
		return fmt.Errorf("tensor name %.80q: got %d bytes, want at most %d", name, len(name), MaxNameLen)
	}
	return checkText("tensor name", name)
}

// checkKey checks a metadata key.
func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("key: got an empty string, want 1 to %d bytes", MaxKeyLen)
	case len(key) > MaxKeyLen:
		return fmt.Errorf("key %.80q: got %d bytes, want at most %d", key, len(key), MaxKeyLen)
	}
	return checkText("key", key)
}

// checkText refuses what a C string or a terminal would not show as it is.
func checkText(what, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %.80q: got bytes that are not UTF-8, want UTF-8", what, s)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%s %.80q: got a NUL byte, want none", what, s)
	}
	return nil
}

// checkAlignment checks that a is a power of two within the limit.
func checkAlignment(a int64) error {
	if a < 1 || a > MaxAlignment || a&(a-1) != 0 {
		return fmt.Errorf("alignment: got %d, want a power of two up to %d", a, MaxAlignment)
	}
	return nil
}

// pad rounds n up to a multiple of alignment.
func pad(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
