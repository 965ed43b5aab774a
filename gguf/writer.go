package gguf

import (
	"fmt"
	"io"
)

// Writer writes the data section of a file from front to back.
// It is not for concurrent use.
type Writer struct {
	w      io.Writer
	layout *Layout
	tensor int   // being written
	done   int64 // bytes of it that are written
	err    error // first failure; sticks
}

// NewWriter writes the header to w and gives a Writer for the data. Tensor
// data goes to w in pieces as large as those given to WriteTensor.
func (l *Layout) NewWriter(w io.Writer) (*Writer, error) {
	if err := l.WriteHeader(w); err != nil {
		return nil, err
	}
	return &Writer{w: w, layout: l}, nil
}

// WriteTensor appends p to the tensor called name, which must be the one being
// written or, when that is complete, the next one. A tensor may come in any
// number of pieces. When its last byte is written, the padding follows by itself.
func (w *Writer) WriteTensor(name string, p []byte) error {
	if w.err == nil {
		w.err = w.write(name, p)
	}
	return w.err
}

func (w *Writer) write(name string, p []byte) error {
	if w.tensor == len(w.layout.Tensors) {
		return fmt.Errorf("write gguf: tensor %q: got it after the last of %d tensors", name, w.tensor)
	}
	t := w.layout.Tensors[w.tensor]
	if name != t.Name {
		return fmt.Errorf("write gguf: tensor %d: got %q, want %q with %d bytes to come", w.tensor, name, t.Name, t.Bytes()-w.done)
	}
	if left := t.Bytes() - w.done; int64(len(p)) > left {
		return fmt.Errorf("write gguf: tensor %q: got %d bytes, want at most %d", name, len(p), left)
	}
	if _, err := w.w.Write(p); err != nil {
		return fmt.Errorf("write gguf: tensor %q: %w", name, err)
	}
	w.done += int64(len(p))
	if w.done < t.Bytes() {
		return nil
	}
	if n := pad(t.Bytes(), w.layout.Alignment) - t.Bytes(); n > 0 {
		if _, err := w.w.Write(make([]byte, n)); err != nil {
			return fmt.Errorf("write gguf: padding of tensor %q: %w", name, err)
		}
	}
	w.tensor++
	w.done = 0
	return nil
}

// Finish checks that every byte of every tensor was written. It does not close anything.
func (w *Writer) Finish() error {
	if w.err != nil {
		return w.err
	}
	if w.tensor < len(w.layout.Tensors) {
		t := w.layout.Tensors[w.tensor]
		w.err = fmt.Errorf("write gguf: tensor %q: got %d bytes, want %d, and %d tensors after it", t.Name, w.done, t.Bytes(), len(w.layout.Tensors)-w.tensor-1)
	}
	return w.err
}
