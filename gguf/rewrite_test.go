package gguf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// rewriteSource writes a file of two tensors and gives it opened.
func rewriteSource(t *testing.T) *File {
	t.Helper()
	meta := &Metadata{}
	for _, kv := range []KV{{"general.architecture", "qwen3"}, {"general.name", "one"}, {"persona.id", "x"}} {
		if err := meta.Set(kv.Key, kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	layout, err := NewLayout(meta, []TensorInfo{{Name: "a", Type: F32, NE: []int64{3, 5}}, {Name: "b", Type: Q8_0, NE: []int64{32, 4000}}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.gguf")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := layout.NewWriter(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range layout.Tensors {
		data := make([]byte, tensor.Bytes())
		for i := range data {
			data[i] = byte(i*7 + len(tensor.Name))
		}
		if err := w.WriteTensor(tensor.Name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestRewrite gives a file other keys: its tensors keep their bytes, also where the data begins elsewhere.
func TestRewrite(t *testing.T) {
	f := rewriteSource(t)
	var same bytes.Buffer
	if err := Rewrite(&same, f, &f.Meta); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.Path)
	if err != nil || !bytes.Equal(before, same.Bytes()) {
		t.Errorf("with its own keys: got other bytes, %v", err)
	}
	meta := f.Meta.Clone()
	meta.Remove("persona.id")
	for _, kv := range []KV{{"persona.scores.own_name", float32(0.5)}, {"general.alignment", uint32(64)}, {"persona.trainer", string(bytes.Repeat([]byte("x"), 1000))}} {
		if err := meta.Set(kv.Key, kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "y.gguf")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := Rewrite(out, f, meta); err != nil {
		t.Fatal(err)
	}
	g, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if v, ok := g.Meta.Get("persona.scores.own_name"); !ok || v != float32(0.5) || g.Meta.Len() != 5 || g.Alignment != 64 {
		t.Errorf("got %v of %d keys, alignment %d", v, g.Meta.Len(), g.Alignment)
	}
	for i, tensor := range g.Tensors {
		want, err := f.Data(f.Tensors[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := g.Data(tensor); err != nil || !bytes.Equal(got, want) || tensor.Name != f.Tensors[i].Name {
			t.Errorf("tensor %s: got other bytes, %v", tensor.Name, err)
		}
	}
}

// full is a writer that takes n bytes.
type full struct{ n int }

var errFull = errors.New("full")

// Write takes what there is room for.
func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestRewriteFails(t *testing.T) {
	f := rewriteSource(t)
	for _, n := range []int{0, 200, int(f.DataOffset) + 10, int(f.Size) - 1} {
		if err := Rewrite(&full{n}, f, &f.Meta); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: got %v", n, err)
		}
	}
}
