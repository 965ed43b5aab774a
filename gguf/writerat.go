package gguf

import (
	"fmt"
	"io"
	"sync/atomic"
)

// WriterAt writes the data section of a file in any order. It may be used from many goroutines at once if the writer
// under it may.
type WriterAt struct {
	w       io.WriterAt
	layout  *Layout
	byName  map[string]int
	written []atomic.Int64 // bytes of each tensor
}

// NewWriterAt writes the header to w and gives a WriterAt for the data.
func (l *Layout) NewWriterAt(w io.WriterAt) (*WriterAt, error) {
	if _, err := w.WriteAt(l.header, 0); err != nil {
		return nil, fmt.Errorf("write gguf header: %w", err)
	}
	a := &WriterAt{w: w, layout: l, byName: make(map[string]int, len(l.Tensors)), written: make([]atomic.Int64, len(l.Tensors))}
	for i, t := range l.Tensors {
		a.byName[t.Name] = i
	}
	return a, nil
}

// WriteTensorAt writes p as the bytes from off on of the tensor called name. Every byte must be written once; what
// comes twice is not noticed but by Finish. With the last byte of a tensor the padding follows by itself.
func (a *WriterAt) WriteTensorAt(name string, p []byte, off int64) error {
	i, ok := a.byName[name]
	if !ok {
		return fmt.Errorf("write gguf: tensor %q: it is not in the layout", name)
	}
	t := &a.layout.Tensors[i]
	size := t.Bytes()
	if off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("write gguf: tensor %q: got %d bytes at %d, want them within its %d", name, len(p), off, size)
	}
	begin := a.layout.DataOffset + int64(t.Offset)
	if _, err := a.w.WriteAt(p, begin+off); err != nil {
		return fmt.Errorf("write gguf: tensor %q: %w", name, err)
	}
	if a.written[i].Add(int64(len(p))) != size || len(p) == 0 {
		return nil
	}
	if n := pad(size, a.layout.Alignment) - size; n > 0 {
		if _, err := a.w.WriteAt(make([]byte, n), begin+size); err != nil {
			return fmt.Errorf("write gguf: padding of tensor %q: %w", name, err)
		}
	}
	return nil
}

// Finish checks that as many bytes were written of every tensor as it has. It does not close anything.
func (a *WriterAt) Finish() error {
	for i := range a.layout.Tensors {
		if t := &a.layout.Tensors[i]; a.written[i].Load() != t.Bytes() {
			return fmt.Errorf("write gguf: tensor %q: got %d bytes, want %d", t.Name, a.written[i].Load(), t.Bytes())
		}
	}
	return nil
}
