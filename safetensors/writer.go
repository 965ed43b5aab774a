package safetensors

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"
)

// Spec describes a tensor to be written.
type Spec struct {
	Name  string
	DType DType
	Shape []int64 // outermost first
}

// Bytes gives the size of the tensor's data, 0 if the dtype or the shape is invalid.
func (s Spec) Bytes() int64 {
	n, _, err := byteSize(s.DType, s.Shape)
	if err != nil {
		return 0
	}
	return n
}

// WriteOptions changes how [Write] lays out the file.
type WriteOptions struct {
	// KeepOrder puts the tensors in the order given instead of the library's.
	KeepOrder bool
}

// Write writes a file to w: the header, then for every tensor what fill writes
// for it. fill gets the position i of the tensor in specs and must write
// exactly its bytes; the calls come in file order, one at a time.
//
// The bytes are those of the safetensors library: tensors by descending dtype
// (in the order of its Dtype enum), then by name; the header padded with spaces to a
// multiple of 8 bytes. The keys of metadata, which the library writes in random
// order, are sorted; nil writes none.
func Write(w io.Writer, metadata map[string]string, specs []Spec, o WriteOptions, fill func(i int, w io.Writer) error) error {
	order := fileOrder(specs, o)
	header, err := encodeHeader(metadata, specs, order)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("write safetensors: header: %w", err)
	}
	for _, i := range order {
		part := &limitedWriter{w: w, left: specs[i].Bytes()}
		err := fill(i, part)
		if err == nil && part.left > 0 {
			err = fmt.Errorf("got %d bytes, want %d", specs[i].Bytes()-part.left, specs[i].Bytes())
		}
		if err != nil {
			return fmt.Errorf("write safetensors: tensor %q: %w", specs[i].Name, err)
		}
	}
	return nil
}

// FileSize is the number of bytes that [Write] writes with the same arguments.
func FileSize(metadata map[string]string, specs []Spec, o WriteOptions) (int64, error) {
	header, err := encodeHeader(metadata, specs, fileOrder(specs, o))
	if err != nil {
		return 0, fmt.Errorf("write safetensors: %w", err)
	}
	size := int64(len(header))
	for _, s := range specs {
		size += s.Bytes()
	}
	return size, nil
}

// fileOrder gives the positions of specs in the order of the file.
func fileOrder(specs []Spec, o WriteOptions) []int {
	order := make([]int, len(specs))
	for i := range order {
		order[i] = i
	}
	if !o.KeepOrder {
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Or(cmp.Compare(specs[b].DType.rank(), specs[a].DType.rank()), cmp.Compare(specs[a].Name, specs[b].Name))
		})
	}
	return order
}

// encodeHeader makes the length and the header.
func encodeHeader(metadata map[string]string, specs []Spec, order []int) ([]byte, error) {
	b := append(make([]byte, 8), '{')
	if metadata != nil {
		b = append(b, `"`+metadataKey+`":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if i > 0 {
				b = append(b, ',')
			}
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return nil, fmt.Errorf("metadata %q: got bytes that are not UTF-8, want UTF-8", key)
			}
			b = append(appendJSON(b, key), ':')
			b = appendJSON(b, metadata[key])
		}
		b = append(b, '}')
	}
	offset := int64(0)
	seen := make(map[string]bool, len(specs))
	for _, i := range order {
		s := specs[i]
		size, err := s.check()
		if err == nil && seen[s.Name] {
			err = fmt.Errorf("got it twice, want every name once")
		}
		if err == nil && size > maxOffset-MaxHeaderLen-8-offset {
			err = fmt.Errorf("end of data at %d + %d bytes does not fit 63 bits", offset, size)
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", s.Name, err)
		}
		seen[s.Name] = true
		if len(b) > 9 {
			b = append(b, ',')
		}
		b = s.append(b, offset, offset+size)
		offset += size
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b)-8 > MaxHeaderLen {
		return nil, fmt.Errorf("header length: got %d bytes, want at most %d", len(b)-8, MaxHeaderLen)
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b, nil
}

// check checks a tensor to be written and gives its size.
func (s Spec) check() (int64, error) {
	if s.Name == "" || s.Name == metadataKey || !utf8.ValidString(s.Name) {
		return 0, fmt.Errorf("name: got %q, want UTF-8 that is neither empty nor %s", s.Name, metadataKey)
	}
	size, _, err := byteSize(s.DType, s.Shape)
	return size, err
}

// append appends the header's entry of the tensor.
func (s Spec) append(b []byte, begin, end int64) []byte {
	shape := s.Shape
	if shape == nil {
		shape = []int64{}
	}
	b = append(appendJSON(b, s.Name), ':')
	return appendJSON(b, struct {
		DType   DType    `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}{s.DType, shape, [2]int64{begin, end}})
}

// appendJSON appends v, a value that always has a JSON form, without the HTML escapes of json.Marshal.
func appendJSON(b []byte, v any) []byte {
	w := &sliceWriter{b}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings and numbers only
	}
	return w.b[:len(w.b)-1] // less the newline
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// limitedWriter passes at most left bytes on; more is an error.
type limitedWriter struct {
	w    io.Writer
	left int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, fmt.Errorf("got %d bytes more than the tensor has", int64(len(p))-l.left)
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	return n, err
}
