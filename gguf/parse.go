package gguf

import (
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	minKVBytes     = 8 + 1 + 4 + 1         // key of one byte, value type, value of one byte
	minTensorBytes = 8 + 1 + 4 + 8 + 4 + 8 // name of one byte, one dimension, type, offset
)

// ErrMagic is wrapped in the error of [Open] for a file that is no GGUF file at all.
var ErrMagic = errors.New("magic")

// header is everything before the data.
type header struct {
	version    uint32
	alignment  int64
	dataOffset int64
	meta       Metadata
	tensors    []TensorInfo
	dataEnd    int64 // file offset of the last tensor's last byte, plus one
}

// parse reads and checks the header of a file of size bytes. It does not look at the size of the data.
func parse(r io.ReaderAt, size int64) (*header, error) {
	c := newCursor(r, size)
	h := new(header)
	nTensors, nKVs, err := h.readCounts(c)
	if err != nil {
		return nil, err
	}
	for i := range nKVs {
		if err := h.readKV(c, i); err != nil {
			return nil, err
		}
	}
	h.alignment = h.meta.alignment()
	if err := h.readTensors(c, nTensors); err != nil {
		return nil, err
	}
	h.dataOffset = c.offset()
	if nTensors > 0 {
		h.dataOffset = pad(h.dataOffset, h.alignment)
	}
	return h, h.checkOffsets()
}

// readCounts reads magic, version and the two counts.
func (h *header) readCounts(c *cursor) (nTensors, nKVs int64, err error) {
	p, err := c.next(4)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrMagic, err)
	}
	if string(p) != magic {
		return 0, 0, fmt.Errorf("%w: got %q, want %q", ErrMagic, p, magic)
	}
	if h.version, err = c.uint32(); err != nil {
		return 0, 0, fmt.Errorf("version: %w", err)
	}
	switch {
	case h.version == 1:
		return 0, 0, fmt.Errorf("version: got 1, want 2 or 3 (version 1 is unsupported, in llama.cpp too)")
	case h.version != 0 && h.version&0xffff == 0:
		return 0, 0, fmt.Errorf("version: got %#08x, want 2 or 3 (a big-endian file is unsupported)", h.version)
	case h.version != 2 && h.version != 3:
		return 0, 0, fmt.Errorf("version: got %d, want 2 or 3", h.version)
	}
	nTensors, err = c.count("number of tensors", minTensorBytes, MaxTensors)
	if err != nil {
		return 0, 0, err
	}
	nKVs, err = c.count("number of keys", minKVBytes, MaxKVs)
	return nTensors, nKVs, err
}

// readKV reads metadata entry i.
func (h *header) readKV(c *cursor, i int64) error {
	key, err := c.string(MaxKeyLen)
	if err != nil {
		return fmt.Errorf("key %d: %w", i, err)
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("key %d: %w", i, err)
	}
	if _, ok := h.meta.Get(key); ok {
		return fmt.Errorf("key %d: %q: got it a second time, want every key once", i, key)
	}
	v, err := readValue(c)
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if err := checkKV(key, v); err != nil {
		return err
	}
	h.meta.put(key, v)
	return nil
}

// readValue reads a value with its type.
func readValue(c *cursor) (any, error) {
	t, err := readValueType(c)
	if err != nil {
		return nil, err
	}
	if t != TypeArray {
		return valueTable[t].scalar(c)
	}
	elem, err := readValueType(c)
	if err != nil {
		return nil, fmt.Errorf("array: %w", err)
	}
	if elem == TypeArray {
		return nil, fmt.Errorf("array: got arrays as elements, want single values (nested arrays are unsupported, in llama.cpp too)")
	}
	info := valueTable[elem]
	n, err := c.count("array length", info.size, MaxArrayLen)
	if err != nil {
		return nil, err
	}
	return info.array(c, n)
}

func readValueType(c *cursor) (ValueType, error) {
	t, err := c.uint32()
	if err != nil {
		return 0, fmt.Errorf("value type: %w", err)
	}
	if t >= valueTypeCount {
		return 0, fmt.Errorf("value type: got %d, want 0 to %d", t, valueTypeCount-1)
	}
	return ValueType(t), nil
}

// readTensors reads the tensor infos.
func (h *header) readTensors(c *cursor, n int64) error {
	h.tensors = make([]TensorInfo, 0, n)
	seen := make(map[string]bool, n)
	for i := range n {
		t, err := readTensor(c)
		if err != nil {
			return fmt.Errorf("tensor %d: %w", i, err)
		}
		if seen[t.Name] {
			return fmt.Errorf("tensor %d: %q: got it a second time, want every name once", i, t.Name)
		}
		seen[t.Name] = true
		h.tensors = append(h.tensors, t)
	}
	return nil
}

func readTensor(c *cursor) (t TensorInfo, err error) {
	if t.Name, err = c.string(MaxNameLen); err != nil {
		return t, fmt.Errorf("name: %w", err)
	}
	if err := checkName(t.Name); err != nil {
		return t, err
	}
	if t.NE, err = readNE(c); err != nil {
		return t, fmt.Errorf("%q: %w", t.Name, err)
	}
	p, err := c.next(4 + 8)
	if err != nil {
		return t, fmt.Errorf("%q: %w", t.Name, err)
	}
	t.Type = Type(le.Uint32(p))
	t.Offset = le.Uint64(p[4:])
	if err := t.Validate(); err != nil {
		return t, err
	}
	return t, nil
}

// readNE reads the dimensions. No dimensions at all is how gguf-py stores a
// single number; it is given as ne [1], which is what ggml makes of it.
func readNE(c *cursor) ([]int64, error) {
	n, err := c.uint32()
	if err != nil {
		return nil, fmt.Errorf("dimensions: %w", err)
	}
	if n > MaxDims {
		return nil, fmt.Errorf("dimensions: got %d, want at most %d", n, MaxDims)
	}
	if n == 0 {
		return []int64{1}, nil
	}
	ne := make([]int64, n)
	for i := range ne {
		d, err := c.uint64()
		if err != nil {
			return nil, fmt.Errorf("ne[%d]: %w", i, err)
		}
		if d > math.MaxInt64 {
			return nil, fmt.Errorf("ne[%d]: got %d, want less than 2^63", i, d)
		}
		ne[i] = int64(d)
	}
	return ne, nil
}

// checkOffsets checks that the tensors lie one after the other, each padded to
// the alignment, as llama.cpp demands, and sets dataEnd.
func (h *header) checkOffsets() error {
	h.dataEnd = h.dataOffset
	next := int64(0)
	for _, t := range h.tensors {
		if t.Offset != uint64(next) {
			return fmt.Errorf("tensor %q: offset: got %d, want %d (%s)", t.Name, t.Offset, next, h.offsetProblem(t, next))
		}
		size := t.Bytes()
		if size > math.MaxInt64-MaxAlignment-h.dataOffset-next {
			return fmt.Errorf("tensor %q: end of data at %d + %d + %d bytes does not fit 63 bits", t.Name, h.dataOffset, next, size)
		}
		h.dataEnd = h.dataOffset + next + size
		next = pad(next+size, h.alignment)
	}
	return nil
}

// offsetProblem says in words what is wrong with an offset.
func (h *header) offsetProblem(t TensorInfo, want int64) string {
	switch {
	case t.Offset%uint64(h.alignment) != 0:
		return fmt.Sprintf("not a multiple of the alignment %d", h.alignment)
	case t.Offset < uint64(want):
		return "overlaps the tensor before it"
	}
	return "leaves a gap"
}
