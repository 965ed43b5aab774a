package safetensors

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/prefetch"
)

// TestReadAhead announces stored and computed tensors of a file that is not in the page cache, and reads them.
func TestReadAhead(t *testing.T) {
	specs := []Spec{{Name: "a", DType: F32, Shape: []int64{3001, 1001}}, {Name: "b", DType: BF16, Shape: []int64{77}}}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	fill := func(i int, w io.Writer) error { _, err := w.Write(telling(specs[i])); return err }
	if err := Write(out, nil, specs, WriteOptions{}, fill); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{out.Sync(), unix.Fadvise(int(out.Fd()), 0, 0, unix.FADV_DONTNEED), out.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := mustOpen(t, path)
	a, b := f.index["a"], f.index["b"]
	half, err := NewTensor("a", BF16, a.Shape, f, func(p []byte, off int64) error {
		stored := make([]byte, 2*len(p))
		if err := a.ReadAt(stored, 2*off); err != nil {
			return err
		}
		for i := range p {
			p[i] = stored[i/2*4+i%2+2]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := NewTensor("c", F32, []int64{8}, f, func(p []byte, _ int64) error { clear(p); return nil })
	if err != nil {
		t.Fatal(err)
	}
	half.From(a)
	parts := []Part{{b, 0, b.Bytes()}, {half, 2002, 2003}, {nothing, 0, 32}, {half, 0, half.Bytes()}}
	want := []prefetch.Span{{File: f.file, Begin: b.Begin, End: b.End}, {File: f.file, Begin: a.Begin + 4004, End: a.Begin + 8008}, {File: f.file, Begin: a.Begin, End: a.End}}
	if got := spans(parts); !slices.Equal(got, want) {
		t.Errorf("got the spans %v, want %v", got, want)
	}
	_, stop := ReadAhead(parts, 2, 64<<20)
	defer stop()
	var got, all bytes.Buffer
	for _, tensor := range []*Tensor{b, half, nothing} {
		p := make([]byte, tensor.Bytes())
		if err := tensor.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
		got.Write(p)
	}
	all.Write(telling(specs[1]))
	for i, c := range telling(specs[0]) {
		if i%4 >= 2 {
			all.WriteByte(c)
		}
	}
	all.Write(make([]byte, 32))
	if !bytes.Equal(got.Bytes(), all.Bytes()) {
		t.Error("got other bytes than were written")
	}
}
