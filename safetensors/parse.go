package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// parse reads and checks the header of a file of size bytes: rules 1 to 8 of the package comment.
func parse(r io.ReaderAt, size int64) (metadata map[string]string, tensors []*Tensor, err error) {
	text, err := readHeader(r, size)
	if err != nil {
		return nil, nil, err
	}
	p := &parser{jsonReader: newJSONReader(text), dataBegin: 8 + int64(len(text))}
	if err := p.object(p.entry); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if err := p.end(); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if err := checkCover(p.tensors, p.dataBegin, size); err != nil {
		return nil, nil, err
	}
	return p.metadata, p.tensors, nil
}

// readHeader reads the text of the header.
func readHeader(r io.ReaderAt, size int64) ([]byte, error) {
	if size < 8 {
		return nil, fmt.Errorf("truncated: got a file of %d bytes, want at least 8", size)
	}
	var length [8]byte
	if err := readFull(r, length[:], 0); err != nil {
		return nil, fmt.Errorf("header length: %w", err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > MaxHeaderLen {
		return nil, fmt.Errorf("header length: got %d bytes, want at most %d", n, MaxHeaderLen)
	}
	if left := size - 8; int64(n) > left {
		return nil, fmt.Errorf("header length: got %d bytes, want at most the %d that are left", n, left)
	}
	text := make([]byte, n)
	if err := readFull(r, text, 8); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	switch {
	case n == 0:
		return nil, errors.New("header: got 0 bytes, want a JSON object")
	case text[0] != '{':
		return nil, fmt.Errorf("header: got %q as its first byte, want \"{\"", text[:1])
	case !utf8.Valid(text):
		return nil, errors.New("header: got bytes that are not UTF-8, want UTF-8")
	}
	return text, nil
}

// parser collects the entries of a header.
type parser struct {
	*jsonReader
	dataBegin int64
	metadata  map[string]string
	tensors   []*Tensor
}

// entry reads the value of one key of the header.
func (p *parser) entry(key string) error {
	if key == metadataKey {
		p.metadata = make(map[string]string)
		return p.object(func(k string) error {
			v, err := p.text()
			p.metadata[k] = v
			return err
		})
	}
	t := &Tensor{Name: key}
	fields := 0
	err := p.object(func(field string) (err error) {
		fields++
		switch field {
		case "dtype":
			var s string
			s, err = p.text()
			t.DType = DType(s)
		case "shape":
			t.Shape, err = p.ints(MaxDims)
		case "data_offsets":
			err = p.offsets(t)
		default:
			err = errors.New("got an unknown field, want dtype, shape and data_offsets")
		}
		return err
	})
	if err != nil {
		return err
	}
	if fields != 3 {
		return fmt.Errorf("got %d fields, want dtype, shape and data_offsets", fields)
	}
	if len(p.tensors) == MaxTensors {
		return fmt.Errorf("got more than %d tensors, want at most that many", MaxTensors)
	}
	p.tensors = append(p.tensors, t)
	return t.check()
}

// offsets reads data_offsets and makes file offsets of them.
func (p *parser) offsets(t *Tensor) error {
	v, err := p.ints(2)
	if err != nil {
		return err
	}
	if len(v) != 2 {
		return fmt.Errorf("got %d numbers, want 2", len(v))
	}
	t.Begin, t.End = v[0], v[1]
	if t.Begin > t.End {
		return fmt.Errorf("got %d to %d, want a range", t.Begin, t.End)
	}
	if t.End > maxOffset-p.dataBegin {
		return fmt.Errorf("got an end at %d, want it inside a file", t.End)
	}
	t.Begin += p.dataBegin
	t.End += p.dataBegin
	return nil
}

// check compares the size by dtype and shape with the byte range.
func (t *Tensor) check() error {
	if t.Name == "" {
		return errors.New("got an empty tensor name, want a name")
	}
	size, elements, err := byteSize(t.DType, t.Shape)
	if err != nil {
		return err
	}
	t.elements = elements
	if got := t.End - t.Begin; got != size {
		return fmt.Errorf("data_offsets: got %d bytes, want %d for shape %v of %s", got, size, t.Shape, t.DType)
	}
	return nil
}

// checkCover checks that the ranges cover the data without holes and overlaps.
func checkCover(tensors []*Tensor, begin, size int64) error {
	sorted := slices.SortedFunc(slices.Values(tensors), func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	next := begin
	for _, t := range sorted {
		switch {
		case t.Begin > next:
			return fmt.Errorf("tensor %q: hole: got data from byte %d, want it from %d of the file", t.Name, t.Begin, next)
		case t.Begin < next:
			return fmt.Errorf("tensor %q: overlap: got data from byte %d, want it from %d of the file", t.Name, t.Begin, next)
		}
		next = t.End
		if next > size {
			return fmt.Errorf("tensor %q: truncated: got a file of %d bytes, want %d", t.Name, size, next)
		}
	}
	if next < size {
		return fmt.Errorf("trailing bytes: got a file of %d bytes, want %d", size, next)
	}
	return nil
}

// readFull reads len(p) bytes at off; a file that became shorter is an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", len(p), off, err)
}
