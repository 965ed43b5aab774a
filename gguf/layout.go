package gguf

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
)

// Layout is the plan of a file to be written: its header as bytes and the
// place of every tensor.
type Layout struct {
	HeaderSize int64        // bytes before the padding that leads to the data
	DataOffset int64        // where the data section begins
	FileSize   int64        // with the padding after the last tensor
	Alignment  int64        // of the data section and of every tensor
	Tensors    []TensorInfo // with their offsets

	header []byte
}

// NewLayout plans a file of version 3 with the given metadata and tensors, in
// that order. The offsets of the tensors are computed; those given are ignored.
// alignment 0 means the value of general.alignment, or 32 without that key;
// another value must agree with the key.
//
// The bytes are those of llama.cpp's writers (gguf-py/gguf/gguf_writer.py and
// ggml/src/gguf.cpp), which agree with each other: zeros up to the alignment
// after the header and after every tensor, the last one included. Dimensions
// are written as given, as gguf-py does; see [TrimNE] for ggml's way.
//
// The finished header is parsed back and compared, so a Layout is always one
// that [Open] accepts.
func NewLayout(meta *Metadata, tensors []TensorInfo, alignment int64) (*Layout, error) {
	l, err := newLayout(meta, tensors, alignment)
	if err != nil {
		return nil, fmt.Errorf("lay out gguf: %w", err)
	}
	return l, nil
}

func newLayout(meta *Metadata, tensors []TensorInfo, alignment int64) (*Layout, error) {
	if alignment == 0 {
		alignment = meta.alignment()
	}
	if alignment != meta.alignment() {
		return nil, fmt.Errorf("alignment: got %d, want %d as in the metadata", alignment, meta.alignment())
	}
	if len(tensors) > MaxTensors {
		return nil, fmt.Errorf("number of tensors: got %d, want at most %d", len(tensors), MaxTensors)
	}
	if meta.Len() > MaxKVs {
		return nil, fmt.Errorf("number of keys: got %d, want at most %d", meta.Len(), MaxKVs)
	}
	l := &Layout{Alignment: alignment, Tensors: slices.Clone(tensors)}
	dataSize, err := l.place()
	if err != nil {
		return nil, err
	}
	if err := l.encode(meta); err != nil {
		return nil, err
	}
	l.FileSize = l.DataOffset + dataSize
	if l.FileSize < 0 {
		return nil, fmt.Errorf("file size: %d + %d bytes do not fit 63 bits", l.DataOffset, dataSize)
	}
	return l, l.verify(meta)
}

// place checks the tensors, sets their offsets and gives the size of the data section.
func (l *Layout) place() (int64, error) {
	next := int64(0)
	seen := make(map[string]bool, len(l.Tensors))
	for i := range l.Tensors {
		t := &l.Tensors[i]
		if err := t.Validate(); err != nil {
			return 0, err
		}
		if seen[t.Name] {
			return 0, fmt.Errorf("tensor %q: got it twice, want every name once", t.Name)
		}
		seen[t.Name] = true
		t.NE = slices.Clone(t.NE)
		t.Offset = uint64(next)
		if t.Bytes() > math.MaxInt64-MaxAlignment-next {
			return 0, fmt.Errorf("tensor %q: end of data at %d + %d bytes does not fit 63 bits", t.Name, next, t.Bytes())
		}
		next = pad(next+t.Bytes(), l.Alignment)
	}
	return next, nil
}

// encode makes the bytes of the header, padding included.
func (l *Layout) encode(meta *Metadata) error {
	b := []byte(magic)
	b = le.AppendUint32(b, Version)
	b = le.AppendUint64(b, uint64(len(l.Tensors)))
	b = le.AppendUint64(b, uint64(meta.Len()))
	for i := range meta.Len() {
		var err error
		if b, err = appendKV(b, meta.At(i)); err != nil {
			return fmt.Errorf("key %q: %w", meta.At(i).Key, err)
		}
	}
	for _, t := range l.Tensors {
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.NE)))
		for _, d := range t.NE {
			b = le.AppendUint64(b, uint64(d))
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, t.Offset)
	}
	l.HeaderSize = int64(len(b))
	l.DataOffset = pad(l.HeaderSize, l.Alignment)
	l.header = append(b, make([]byte, l.DataOffset-l.HeaderSize)...)
	return nil
}

// verify parses the header back and compares what it says with what was asked for.
func (l *Layout) verify(meta *Metadata) error {
	h, err := parse(bytes.NewReader(l.header), int64(len(l.header)))
	if err != nil {
		return fmt.Errorf("header read back: %w", err)
	}
	if h.meta.Len() != meta.Len() {
		return fmt.Errorf("header read back: got %d keys, want %d", h.meta.Len(), meta.Len())
	}
	for i, t := range h.tensors {
		w := l.Tensors[i]
		if t.Name != w.Name || t.Type != w.Type || t.Offset != w.Offset || !slices.Equal(t.NE, w.NE) {
			return fmt.Errorf("header read back: got tensor %+v, want %+v", t, w)
		}
	}
	if len(l.Tensors) > 0 && h.dataOffset != l.DataOffset {
		return fmt.Errorf("header read back: got data offset %d, want %d", h.dataOffset, l.DataOffset)
	}
	return nil
}

// WriteHeader writes the DataOffset bytes before the data section.
func (l *Layout) WriteHeader(w io.Writer) error {
	if _, err := w.Write(l.header); err != nil {
		return fmt.Errorf("write gguf header: %w", err)
	}
	return nil
}
