package gguf

import (
	"fmt"
	"io"
)

// copySize is how many bytes Rewrite reads at a time.
const copySize = 1 << 20

// Rewrite writes the file f to w with other metadata: the tensors keep their order, types, shapes and bytes. Memory
// does not grow with the file. general.alignment may change with the metadata; the places of the tensors follow it.
func Rewrite(w io.Writer, f *File, meta *Metadata) error {
	layout, err := NewLayout(meta, f.Tensors, 0)
	if err != nil {
		return err
	}
	out, err := layout.NewWriter(w)
	if err != nil {
		return err
	}
	buffer := make([]byte, copySize)
	for _, t := range f.Tensors {
		size := t.Bytes()
		for at := int64(0); at < size; at += copySize {
			p := buffer[:min(copySize, size-at)]
			if err := f.ReadTensorAt(t, p, at); err != nil {
				return fmt.Errorf("rewrite gguf: %w", err)
			}
			if err := out.WriteTensor(t.Name, p); err != nil {
				return err
			}
		}
	}
	return out.Finish()
}
