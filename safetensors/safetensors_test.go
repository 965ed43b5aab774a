package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestOpen(t *testing.T) {
	b := good()
	f := mustOpen(t, writeTemp(t, "x.safetensors", b))
	if !maps.Equal(f.Metadata, map[string]string{"format": "pt"}) || f.Size != int64(len(b)) || len(f.Tensors) != 2 {
		t.Fatalf("got metadata %v, size %d, %d tensors", f.Metadata, f.Size, len(f.Tensors))
	}
	begin := int64(8 + len(goodHeader))
	for i, want := range []Tensor{
		{Name: "b", DType: F32, Shape: []int64{2, 3}, File: f, Begin: begin, End: begin + 24, elements: 6},
		{Name: "a", DType: BF16, Shape: []int64{5}, File: f, Begin: begin + 24, End: begin + 34, elements: 5},
	} {
		got, ok := f.Tensor(want.Name)
		if !ok || got != f.Tensors[i] || !reflect.DeepEqual(*got, want) || got.Elements() != want.elements || got.Bytes() != want.End-want.Begin {
			t.Errorf("tensor %d: got %+v, want %+v", i, got, want)
		}
	}
	if _, ok := f.Tensor("c"); ok {
		t.Error("tensor c: got one, want none")
	}
}

// TestOpenTolerated opens what is unusual but right.
func TestOpenTolerated(t *testing.T) {
	for name, b := range map[string][]byte{
		"no tensors":     file(`{}`, 0),
		"white space":    file("{ \n\"a\" : {\"data_offsets\":[0,4] ,\"shape\":[],\"dtype\":\"F32\"}\t}\r\n   ", 4),
		"other order":    file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 3),
		"empty tensors":  file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"c":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 2),
		"empty metadata": file(`{"__metadata__":{}}`, 0),
		"half bytes":     file(`{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[2,5]}}`, 5),
	} {
		if _, _, err := parse(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRead(t *testing.T) {
	b := good()
	f := mustOpen(t, writeTemp(t, "x.safetensors", b))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for _, tensor := range f.Tensors {
				p := make([]byte, tensor.Bytes()-int64(i))
				if err := tensor.ReadAt(p, int64(i)); err != nil || !bytes.Equal(p, b[tensor.Begin+int64(i):tensor.End]) {
					t.Errorf("%s from %d: got %v, %v", tensor.Name, i, p, err)
				}
				data, err := tensor.Data()
				if err != nil || !bytes.Equal(data, b[tensor.Begin:tensor.End]) || cap(data) != len(data) {
					t.Errorf("%s mapped: got %v, %v", tensor.Name, data, err)
				}
			}
		})
	}
	wg.Wait()
	tensor := f.Tensors[1]
	for _, test := range []struct {
		n   int
		off int64
	}{{11, 0}, {1, 10}, {0, 11}, {1, -1}} {
		want := fmt.Sprintf("read safetensors %s: tensor \"a\": got %d bytes at %d, want a part of its 10 bytes", f.Path, test.n, test.off)
		if err := tensor.ReadAt(make([]byte, test.n), test.off); err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}

func TestClose(t *testing.T) {
	f := mustOpen(t, writeTemp(t, "x.safetensors", good()))
	if _, err := f.Map(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := f.Tensors[0].ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after close: got error %v, want %v", err, os.ErrClosed)
	}
	if _, err := f.Tensors[0].Data(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("data after close: got error %v, want %v", err, os.ErrClosed)
	}
}

func TestDTypes(t *testing.T) {
	for dtype, want := range map[DType][2]int64{
		Bool: {8, 1}, U8: {8, 1}, F8E4M3: {8, 1}, F8E8M0: {8, 1}, BF16: {16, 2}, F16: {16, 2}, I16: {16, 2}, F32: {32, 4}, U32: {32, 4},
		I64: {64, 8}, F64: {64, 8}, C64: {64, 8}, F4: {4, 0}, F6E2M3: {6, 0}, "F33": {0, 0}, "": {0, 0},
	} {
		if dtype.Bits() != want[0] || dtype.Size() != want[1] || dtype.Valid() != (want[0] > 0) {
			t.Errorf("%q: got %d bits, %d bytes, valid %v, want %v", dtype, dtype.Bits(), dtype.Size(), dtype.Valid(), want)
		}
	}
}

// telling gives data that differs from byte to byte and from tensor to tensor.
func telling(s Spec) []byte {
	b := make([]byte, s.Bytes())
	for i := range b {
		b[i] = byte(i*31 + 7)
	}
	return b
}

func fillTelling(specs []Spec) func(i int, w io.Writer) error {
	return func(i int, w io.Writer) error {
		for _, c := range telling(specs[i]) {
			if _, err := w.Write([]byte{c}); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestWriteEqualsReference writes the tensors of testdata/reference.py, in
// another order; the library's file must come out, byte for byte.
func TestWriteEqualsReference(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "reference.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	specs := []Spec{
		{"z.weight", BF16, []int64{3, 5}}, {"a.weight", F16, []int64{4}}, {"model.layers.10.weight", BF16, []int64{2}},
		{"model.layers.2.weight", BF16, []int64{2, 1}}, {"ids", I64, []int64{3}}, {"scalar", F32, nil}, {"c64", C64, []int64{2}},
		{"empty", F32, []int64{0, 4}}, {"mask", Bool, []int64{5}}, {"f8", F8E4M3, []int64{3}}, {"f8b", F8E5M2, []int64{3}},
		{"u8", U8, []int64{1}}, {"i8", I8, []int64{1}}, {"i16", I16, []int64{2}}, {"u16", U16, []int64{2}}, {"i32", I32, []int64{2}},
		{"u32", U32, []int64{2}}, {"double", F64, []int64{1}}, {"u64", U64, []int64{1}}, {"quoted \"name\" <&> 거울\n", F32, []int64{1}},
	}
	fill := func(i int, w io.Writer) error {
		data := telling(specs[i])
		if specs[i].DType == Bool {
			for j := range data {
				data[j] &= 1
			}
		}
		_, err := w.Write(data)
		return err
	}
	for range 2 {
		var got bytes.Buffer
		if err := Write(&got, map[string]string{"format": "pt"}, specs, WriteOptions{}, fill); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("got\n%.1500q\nwant\n%.1500q", got.Bytes(), want)
		}
		if size, err := FileSize(map[string]string{"format": "pt"}, specs, WriteOptions{}); err != nil || size != int64(len(want)) {
			t.Errorf("size: got %d, %v, want %d", size, err, len(want))
		}
		slices.Reverse(specs)
	}
}

func TestWriteKeepOrder(t *testing.T) {
	specs := []Spec{{"b", U8, []int64{3}}, {"c", F32, []int64{2}}, {"a", I64, []int64{1}}}
	var b bytes.Buffer
	if err := Write(&b, map[string]string{"z": "1", "k\n": "<&>"}, specs, WriteOptions{KeepOrder: true}, fillTelling(specs)); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, writeTemp(t, "x.safetensors", b.Bytes()))
	if want := map[string]string{"z": "1", "k\n": "<&>"}; !maps.Equal(f.Metadata, want) {
		t.Errorf("metadata: got %v, want %v", f.Metadata, want)
	}
	if (f.Size-19)%8 != 0 {
		t.Errorf("got data at %d, want a multiple of 8", f.Size-19)
	}
	for i, tensor := range f.Tensors {
		data, err := tensor.Data()
		if err != nil || tensor.Name != specs[i].Name || !bytes.Equal(data, telling(specs[i])) {
			t.Errorf("tensor %d: got %s with %v, %v, want %s", i, tensor.Name, data, err, specs[i].Name)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	ok := Spec{"a", F32, []int64{2}}
	full := func(i int, w io.Writer) error { _, err := w.Write(make([]byte, 8)); return err }
	for _, test := range []struct {
		metadata map[string]string
		specs    []Spec
		fill     func(i int, w io.Writer) error
		want     string
	}{
		{nil, []Spec{ok, ok}, full, `write safetensors: tensor "a": got it twice, want every name once`},
		{nil, []Spec{{"", F32, nil}}, full, `name: got "", want UTF-8`},
		{nil, []Spec{{"__metadata__", F32, nil}}, full, `name: got "__metadata__", want UTF-8`},
		{nil, []Spec{{"\xff", F32, nil}}, full, `name: got "\xff", want UTF-8`},
		{nil, []Spec{{"a", "F33", nil}}, full, `tensor "a": dtype: got "F33"`},
		{nil, []Spec{{"a", F32, []int64{-1}}}, full, `tensor "a": shape[0]: got -1, want at least 0`},
		{nil, []Spec{{"a", U8, []int64{1 << 59}}, {"b", U8, []int64{1 << 60}}, {"c", U8, []int64{1<<60 - 1}}, {"d", F4, []int64{1 << 60}}, {"e", F4, []int64{1 << 60}}, {"f", F4, []int64{1 << 60}}, {"g", F4, []int64{1 << 60}}, {"h", F4, []int64{1 << 60}}, {"i", F4, []int64{1 << 60}}, {"j", F4, []int64{1 << 60}}, {"k", F4, []int64{1 << 60}}, {"l", F4, []int64{1 << 60}}, {"m", F4, []int64{1 << 60}}, {"n", F4, []int64{1 << 60}}, {"o", F4, []int64{1 << 60}}}, full, "does not fit 63 bits"},
		{map[string]string{"k": "\xff"}, []Spec{ok}, full, `metadata "k": got bytes that are not UTF-8`},
		{nil, []Spec{ok}, func(i int, w io.Writer) error { _, err := w.Write(make([]byte, 9)); return err }, `tensor "a": got 1 bytes more than the tensor has`},
		{nil, []Spec{ok}, func(i int, w io.Writer) error { _, err := w.Write(make([]byte, 7)); return err }, `tensor "a": got 7 bytes, want 8`},
		{nil, []Spec{ok}, func(i int, w io.Writer) error { return errDisk }, `write safetensors: tensor "a": disk full`},
	} {
		if err := Write(io.Discard, test.metadata, test.specs, WriteOptions{}, test.fill); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got error %v, want %s", err, test.want)
		}
	}
}

var errDisk = errors.New("disk full")

// failingWriter fails at byte n.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		n := w.n
		w.n = 0
		return n, errDisk
	}
	w.n -= len(p)
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	specs := []Spec{{"a", F32, []int64{3}}, {"b", U8, []int64{5}}}
	var whole bytes.Buffer
	if err := Write(&whole, nil, specs, WriteOptions{}, fillTelling(specs)); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if err := Write(&failingWriter{n}, nil, specs, WriteOptions{}, fillTelling(specs)); !errors.Is(err, errDisk) {
			t.Errorf("failure at byte %d: got error %v, want %v", n, err, errDisk)
		}
	}
}

func ExampleWrite() {
	specs := []Spec{{Name: "model.norm.weight", DType: BF16, Shape: []int64{2560}}}
	var file bytes.Buffer
	err := Write(&file, map[string]string{"format": "pt"}, specs, WriteOptions{}, func(i int, w io.Writer) error {
		_, err := w.Write(make([]byte, specs[i].Bytes()))
		return err
	})
	fmt.Println(err, file.Len()%8)
	// Output: <nil> 0
}
