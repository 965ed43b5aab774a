package gguf

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzOpen parses any bytes. What parses must be written again to a file that parses to the same.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(good()))
	f.Add([]byte(head(1, 1).kvU32("general.alignment", 8).tensor("a", MXFP4, 0, 64, 1, 2).data(8, 72)))
	for _, bad := range badFiles {
		f.Add([]byte(bad.bytes))
	}
	reference, err := os.ReadFile(filepath.Join("testdata", "reference.gguf"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reference)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, ti := range h.tensors {
			if end := h.dataOffset + int64(ti.Offset) + ti.Bytes(); end > int64(len(b)) || ti.Bytes() <= 0 || ti.Elements() != ti.NE[0]*ti.Rows() {
				t.Fatalf("tensor %+v ends at %d of %d bytes", ti, end, len(b))
			}
		}
		l, err := NewLayout(&h.meta, h.tensors, 0)
		if err != nil {
			t.Fatalf("file that opens cannot be laid out: %v", err)
		}
		again, err := parse(bytes.NewReader(l.header), int64(len(l.header)))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.tensors, h.tensors) || !sameBits(t, &again.meta, &h.meta) {
			t.Fatalf("got %+v, want %+v", again, h)
		}
	})
}

// sameBits compares metadata by its bytes, so that NaN equals itself.
func sameBits(t *testing.T, a, b *Metadata) bool {
	encode := func(m *Metadata) (out []byte) {
		for i := range m.Len() {
			var err error
			if out, err = appendKV(out, m.At(i)); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	return bytes.Equal(encode(a), encode(b))
}

// FuzzRoundTrip makes metadata and tensors out of any bytes, writes a file and opens it.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("general.architecture and some more bytes to choose from, so that there are tensors"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 250, 251, 252, 253, 254, 255, 0, 0, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &source{b}
		m, tensors := s.metadata(), s.tensors()
		var file bytes.Buffer
		if err := write(&file, m, tensors, telling, 1+int(s.byte())); err != nil {
			t.Fatal(err)
		}
		h, err := parseFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if !sameBits(t, &h.meta, m) || len(h.tensors) != len(tensors) {
			t.Fatalf("got %+v, want %+v and %+v", h, m, tensors)
		}
		for i, ti := range h.tensors {
			begin := h.dataOffset + int64(ti.Offset)
			if data := file.Bytes()[begin : begin+ti.Bytes()]; !bytes.Equal(data, telling(ti)) || !reflect.DeepEqual(ti.NE, tensors[i].NE) || ti.Type != tensors[i].Type {
				t.Fatalf("tensor %d: got %+v, want %+v with its data", i, ti, tensors[i])
			}
		}
	})
}

// source gives choices out of the fuzzer's bytes, zeros when they are used up.
type source struct{ b []byte }

func (s *source) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c
}

func (s *source) uint64() (v uint64) {
	for range 8 {
		v = v<<8 | uint64(s.byte())
	}
	return v
}

func (s *source) text() string {
	b := make([]byte, s.byte()%40)
	for i := range b {
		b[i] = s.byte()
	}
	return string(b)
}

// values makes one value of every type out of 64 bits, by ValueType.
func (s *source) values(v uint64) map[ValueType]any {
	return map[ValueType]any{
		TypeUint8: uint8(v), TypeInt8: int8(v), TypeUint16: uint16(v), TypeInt16: int16(v), TypeUint32: uint32(v), TypeInt32: int32(v),
		TypeUint64: v, TypeInt64: int64(v), TypeFloat32: math.Float32frombits(uint32(v)), TypeFloat64: math.Float64frombits(v), TypeBool: v&1 == 1,
	}
}

func (s *source) value() any {
	vt := ValueType(s.byte() % valueTypeCount)
	if vt == TypeString {
		return s.text()
	}
	if vt != TypeArray {
		return s.values(s.uint64())[vt]
	}
	n := int(s.byte() % 5)
	vt = ValueType(s.byte() % valueTypeCount)
	if vt == TypeString || vt == TypeArray {
		out := make([]string, n)
		for i := range out {
			out[i] = s.text()
		}
		return out
	}
	out := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(s.values(0)[vt])), n, n)
	for i := range n {
		out.Index(i).Set(reflect.ValueOf(s.values(s.uint64())[vt]))
	}
	return out.Interface()
}

func (s *source) metadata() *Metadata {
	m := new(Metadata)
	for range s.byte() % 8 {
		// Keys and names that are refused are tested elsewhere.
		if key := s.text(); checkKV(key, s.values(0)[TypeBool]) == nil {
			m.put(key, s.value())
		}
	}
	if s.byte()%2 == 1 {
		m.put(keyAlignment, uint32(1)<<(s.byte()%12))
	}
	return m
}

func (s *source) tensors() []TensorInfo {
	var out []TensorInfo
	seen := map[string]bool{}
	for range s.byte() % 8 {
		t := TensorInfo{Name: s.text(), Type: Types()[int(s.byte())%len(Types())]}
		t.NE = []int64{t.Type.BlockSize() * int64(1+s.byte()%4)}
		for range s.byte() % 4 {
			t.NE = append(t.NE, int64(1+s.byte()%3))
		}
		if checkName(t.Name) == nil && !seen[t.Name] {
			seen[t.Name] = true
			out = append(out, t)
		}
	}
	return out
}

// TestBitFlips changes every byte of a good file in eight ways: it may open or not, but not panic.
func TestBitFlips(t *testing.T) {
	b := good()
	opened := 0
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := parseFile(bytes.NewReader(b), int64(len(b))); err == nil {
				opened++
			}
			b[i] ^= 1 << bit
		}
	}
	// Data and padding take every flip; of the header (names, value 5, 6, …) only a part.
	const dataOffset = 224
	if free := opened - 8*(len(b)-dataOffset); free <= 0 || free > 8*dataOffset/2 {
		t.Errorf("got %d flips in the header that open, want some, but at most half of %d", free, 8*dataOffset)
	}
}
