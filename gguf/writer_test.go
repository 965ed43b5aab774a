package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// write writes a file with the given pieces of data per tensor.
func write(w interface{ Write([]byte) (int, error) }, m *Metadata, tensors []TensorInfo, data func(t TensorInfo) []byte, piece int) error {
	l, err := NewLayout(m, tensors, 0)
	if err != nil {
		return err
	}
	out, err := l.NewWriter(w)
	if err != nil {
		return err
	}
	for _, t := range l.Tensors {
		for p := data(t); len(p) > 0; {
			n := min(piece, len(p))
			if err := out.WriteTensor(t.Name, p[:n]); err != nil {
				return err
			}
			p = p[n:]
		}
	}
	return out.Finish()
}

func telling(t TensorInfo) []byte {
	b := make([]byte, t.Bytes())
	for i := range b {
		b[i] = byte(i*31 + len(t.Name)*7 + 1)
	}
	return b
}

// TestWriterEqualsReference reads the file that gguf-py wrote and writes it
// again; testdata/reference.py says how it was made and which values it holds.
func TestWriterEqualsReference(t *testing.T) {
	path := filepath.Join("testdata", "reference.gguf")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path)
	wantMeta := []KV{
		{"general.architecture", "qwen3"}, {"t.u8", uint8(200)}, {"t.i8", int8(-100)}, {"t.u16", uint16(60000)}, {"t.i16", int16(-30000)},
		{"t.u32", uint32(7)}, {"t.i32", int32(-2000000000)}, {"t.u64", uint64(math.MaxUint64)}, {"t.i64", int64(math.MinInt64)},
		{"t.f32", float32(1.1)}, {"t.f64", 1.1}, {"t.yes", true}, {"t.no", false}, {"t.str", "백설공주 Snow White"},
		{"t.strings", []string{"a", "", "거울아"}}, {"t.ints", []int32{1, -2, 3}}, {"t.floats", []float32{0.5, -1.25}},
		{"t.bools", []bool{true, false, true}}, {"t.u8s", []uint8{1, 2, 255}}, {"t.u64s", []uint64{1 << 63}},
	}
	m := new(Metadata)
	for i, kv := range wantMeta {
		if i >= f.Meta.Len() || !reflect.DeepEqual(f.Meta.At(i), kv) {
			t.Fatalf("key %d: got %v, want %v", i, f.Meta.kvs, kv)
		}
		if err := m.Set(kv.Key, kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	tensors := []TensorInfo{
		{Name: "one.weight", Type: F32, NE: []int64{3}}, {Name: "two.weight", Type: F16, NE: []int64{7, 5}}, {Name: "three.weight", Type: I8, NE: []int64{4, 3, 2}},
		{Name: "four.weight", Type: F64, NE: []int64{1, 3, 1, 2}}, {Name: "q8.weight", Type: Q8_0, NE: []int64{64, 2}},
	}
	for _, piece := range []int{1, 7, 1 << 20} {
		var got bytes.Buffer
		read := func(ti TensorInfo) []byte {
			own, _ := f.Tensor(ti.Name)
			p := make([]byte, ti.Bytes())
			if err := f.ReadTensorAt(own, p, 0); err != nil {
				t.Fatal(err)
			}
			return p
		}
		if err := write(&got, m, tensors, read, piece); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("pieces of %d bytes: got a file of %d bytes that differs from gguf-py's %d", piece, got.Len(), len(want))
		}
	}
}

// TestWriterEqualsLlamaVocabularies writes the header of every vocabulary that
// lies in llama.cpp's tree again; gguf-py wrote them all.
func TestWriterEqualsLlamaVocabularies(t *testing.T) {
	paths, err := filepath.Glob("../llamacpp/models/ggml-vocab-*.gguf")
	if err != nil || len(paths) < 15 {
		t.Fatalf("got %d vocabularies in llamacpp/models, %v, want 15 or more", len(paths), err)
	}
	for _, path := range paths {
		f := mustOpen(t, path)
		want, err := f.Map()
		if err != nil {
			t.Fatal(err)
		}
		l, err := NewLayout(&f.Meta, f.Tensors, 0)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		l.header[4] = byte(f.Version) // some are of version 2
		if got := l.header[:l.HeaderSize]; !bytes.Equal(got, want[:l.HeaderSize]) {
			t.Errorf("%s: got another header", path)
		}
	}
}

func TestLayout(t *testing.T) {
	m := new(Metadata)
	if err := m.Set("general.alignment", uint32(64)); err != nil {
		t.Fatal(err)
	}
	tensors := []TensorInfo{{Name: "a", Type: F32, NE: []int64{3}, Offset: 999}, {Name: "b", Type: Q4_0, NE: []int64{64, 2}}, {Name: "c", Type: I8, NE: []int64{64}}}
	l, err := NewLayout(m, tensors, 0)
	if err != nil {
		t.Fatal(err)
	}
	if l.Alignment != 64 || l.DataOffset%64 != 0 || l.DataOffset < l.HeaderSize || l.FileSize != l.DataOffset+64+128+64 {
		t.Errorf("got %+v", l)
	}
	for i, want := range []uint64{0, 64, 192} {
		if l.Tensors[i].Offset != want {
			t.Errorf("tensor %d: got offset %d, want %d", i, l.Tensors[i].Offset, want)
		}
	}
	if tensors[0].Offset != 999 {
		t.Error("the caller's tensors were changed")
	}
	var b bytes.Buffer
	if err := write(&b, m, tensors, telling, 10); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != l.FileSize {
		t.Errorf("got %d bytes, want %d", b.Len(), l.FileSize)
	}
	f := mustOpen(t, writeTemp(t, "x.gguf", b.Bytes()))
	for _, ti := range f.Tensors {
		if data, err := f.Data(ti); err != nil || !bytes.Equal(data, telling(ti)) {
			t.Errorf("%s: got other data than written, %v", ti.Name, err)
		}
	}
}

func TestLayoutErrors(t *testing.T) {
	ok := TensorInfo{Name: "a", Type: F32, NE: []int64{8}}
	for _, test := range []struct {
		tensors   []TensorInfo
		alignment int64
		want      string
	}{
		{[]TensorInfo{ok, ok}, 0, `lay out gguf: tensor "a": got it twice, want every name once`},
		{[]TensorInfo{{Name: "", Type: F32, NE: []int64{8}}}, 0, "tensor name: got an empty string"},
		{[]TensorInfo{{Name: strings.Repeat("n", 64), Type: F32, NE: []int64{8}}}, 0, "got 64 bytes, want at most 63"},
		{[]TensorInfo{{Name: "a", Type: F32}}, 0, `tensor "a": dimensions: got 0, want 1 to 4`},
		{[]TensorInfo{{Name: "a", Type: F32, NE: []int64{1, 1, 1, 1, 1}}}, 0, `tensor "a": dimensions: got 5, want 1 to 4`},
		{[]TensorInfo{{Name: "a", Type: Q4_0, NE: []int64{8}}}, 0, "row of q4_0: got 8 elements"},
		{[]TensorInfo{{Name: "a", Type: I8, NE: []int64{1 << 62}}, {Name: "b", Type: I8, NE: []int64{1 << 62}}}, 0, `tensor "b": end of data`},
		{[]TensorInfo{ok}, 64, "alignment: got 64, want 32 as in the metadata"},
		{make([]TensorInfo, MaxTensors+1), 0, "number of tensors: got 1048577, want at most 1048576"},
	} {
		if _, err := NewLayout(new(Metadata), test.tensors, test.alignment); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got error %v, want %s", err, test.want)
		}
	}
}

func TestLayoutTooManyKeys(t *testing.T) {
	m := new(Metadata)
	for i := range MaxKVs + 1 {
		if err := m.Set(fmt.Sprint(i), uint8(0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewLayout(m, nil, 0); err == nil || !strings.Contains(err.Error(), "number of keys: got 65537, want at most 65536") {
		t.Errorf("got error %v, want the limit", err)
	}
}

func TestWriterErrors(t *testing.T) {
	tensors := []TensorInfo{{Name: "a", Type: F32, NE: []int64{2}}, {Name: "b", Type: F32, NE: []int64{2}}}
	type piece struct {
		name string
		n    int
	}
	for _, test := range []struct {
		pieces []piece
		want   string
	}{
		{[]piece{{"b", 8}}, `write gguf: tensor 0: got "b", want "a" with 8 bytes to come`},
		{[]piece{{"a", 4}, {"b", 8}}, `write gguf: tensor 0: got "b", want "a" with 4 bytes to come`},
		{[]piece{{"a", 9}}, `write gguf: tensor "a": got 9 bytes, want at most 8`},
		{[]piece{{"a", 4}, {"a", 5}}, `write gguf: tensor "a": got 5 bytes, want at most 4`},
		{[]piece{{"a", 8}, {"a", 1}}, `write gguf: tensor 1: got "a", want "b" with 8 bytes to come`},
		{[]piece{{"a", 8}, {"b", 8}, {"c", 1}}, `write gguf: tensor "c": got it after the last of 2 tensors`},
		{nil, `write gguf: tensor "a": got 0 bytes, want 8, and 1 tensors after it`},
		{[]piece{{"a", 8}, {"b", 7}}, `write gguf: tensor "b": got 7 bytes, want 8, and 0 tensors after it`},
	} {
		l, err := NewLayout(new(Metadata), tensors, 0)
		if err != nil {
			t.Fatal(err)
		}
		w, err := l.NewWriter(new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range test.pieces {
			if err = w.WriteTensor(p.name, make([]byte, p.n)); err != nil {
				break
			}
		}
		if last := w.Finish(); err == nil {
			err = last
		} else if last != err {
			t.Errorf("finish after an error: got %v, want %v again", last, err)
		}
		if err == nil || err.Error() != test.want {
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

func TestWriterFails(t *testing.T) {
	tensors := []TensorInfo{{Name: "a", Type: F32, NE: []int64{3}}, {Name: "b", Type: F32, NE: []int64{8}}}
	l, err := NewLayout(new(Metadata), tensors, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range int(l.FileSize) + 1 {
		err := write(&failingWriter{n}, new(Metadata), tensors, telling, 5)
		if n == int(l.FileSize) {
			if err != nil {
				t.Errorf("got error %v, want none", err)
			}
		} else if !errors.Is(err, errDisk) {
			t.Errorf("failure at byte %d: got error %v, want %v", n, err, errDisk)
		}
	}
}

// memory is a file in memory. Different bytes may be written at once.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// TestWriterAt writes the pieces of tensors in any order from several goroutines and wants the bytes of Writer.
func TestWriterAt(t *testing.T) {
	meta := new(Metadata)
	var tensors []TensorInfo
	for i := range 9 {
		tensors = append(tensors, TensorInfo{Name: fmt.Sprintf("t%d", i), Type: F32, NE: []int64{int64(i*7 + 1)}})
	}
	var want bytes.Buffer
	if err := write(&want, meta, tensors, telling, 5); err != nil {
		t.Fatal(err)
	}
	l, err := NewLayout(meta, tensors, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := memory(bytes.Repeat([]byte{0xee}, int(l.FileSize)))
	w, err := l.NewWriterAt(got)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, info := range tensors {
		data := telling(info)
		for off := (len(data) - 1) / 5 * 5; off >= 0; off -= 5 {
			all.Go(func() {
				if err := w.WriteTensorAt(info.Name, data[off:min(off+5, len(data))], int64(off)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if err := w.Finish(); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%v, the same bytes: %v", err, bytes.Equal(got, want.Bytes()))
	}
}

// TestWriterAtRefuses writes outside, too little and too much, and to a file that fails.
func TestWriterAtRefuses(t *testing.T) {
	l, err := NewLayout(new(Metadata), []TensorInfo{{Name: "a", Type: F32, NE: []int64{2}}, {Name: "b", Type: F32, NE: []int64{1}}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := l.NewWriterAt(make(memory, l.FileSize))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name string
		n    int
		off  int64
	}{{"c", 1, 0}, {"a", 9, 0}, {"a", 1, 8}, {"a", 1, -1}, {"b", 2, 3}, {"b", 1, math.MaxInt64}} {
		if err := w.WriteTensorAt(bad.name, make([]byte, bad.n), bad.off); err == nil || !strings.Contains(err.Error(), bad.name) {
			t.Errorf("%d bytes of %s at %d: got %v", bad.n, bad.name, bad.off, err)
		}
	}
	if err := w.WriteTensorAt("a", make([]byte, 8), 0); err != nil {
		t.Error(err)
	}
	if err := w.Finish(); err == nil || err.Error() != `write gguf: tensor "b": got 0 bytes, want 4` {
		t.Errorf("one tensor missing: got %v", err)
	}
	for range 2 {
		if err := w.WriteTensorAt("b", make([]byte, 4), 0); err != nil {
			t.Error(err)
		}
	}
	if err := w.Finish(); err == nil {
		t.Error("one tensor twice: no error")
	}
	for n := range int(l.FileSize) {
		bad := &failingAt{left: n}
		w, err := l.NewWriterAt(bad)
		if err == nil {
			err = errors.Join(w.WriteTensorAt("b", make([]byte, 4), 0), w.WriteTensorAt("a", make([]byte, 8), 0))
		}
		if !errors.Is(err, errDisk) {
			t.Errorf("failure after %d bytes: got %v, want %v", n, err, errDisk)
		}
	}
}

// failingAt takes so many bytes.
type failingAt struct{ left int }

func (f *failingAt) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func ExampleLayout() {
	m := new(Metadata)
	if err := m.Set("general.architecture", "qwen3"); err != nil {
		fmt.Println(err)
	}
	l, err := NewLayout(m, []TensorInfo{{Name: "output_norm.weight", Type: F32, NE: []int64{2560}}}, 0)
	if err != nil {
		fmt.Println(err)
	}
	var file bytes.Buffer
	w, err := l.NewWriter(&file)
	if err != nil {
		fmt.Println(err)
	}
	if err := w.WriteTensor("output_norm.weight", make([]byte, 2560*4)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(w.Finish(), int64(file.Len()) == l.FileSize)
	// Output: <nil> true
}
