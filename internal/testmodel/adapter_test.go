package testmodel

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// TestAdapter wants a pair for each of the seven projections of every block, of values that are not 0, and the same
// bytes twice.
func TestAdapter(t *testing.T) {
	spec, err := Find("qwen3-tied")
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	if err := Write(base, spec); err != nil {
		t.Fatal(err)
	}
	var written [2][]byte
	for i := range written {
		dir := t.TempDir()
		if err := Adapter(dir, base, AdapterSpec{Rank: 4, Alpha: 8, DType: BF16, Config: map[string]any{"use_rslora": true}}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"adapter_config.json", "adapter_model.safetensors"} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			written[i] = append(written[i], data...)
		}
		f, err := safetensors.Open(filepath.Join(dir, "adapter_model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := safetensors.OpenModel(base)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		blocks := 0
		for _, x := range m.Tensors() {
			if strings.HasSuffix(x.Name, "q_proj.weight") {
				blocks++
			}
		}
		if blocks == 0 || len(f.Tensors) != blocks*7*2 {
			t.Errorf("got %d tensors for %d blocks, want 14 each", len(f.Tensors), blocks)
		}
		for _, x := range f.Tensors {
			p := make([]byte, x.Bytes())
			if err := x.ReadAt(p, 0); err != nil {
				t.Fatal(err)
			}
			if len(bytes.Trim(p, "\x00")) == 0 {
				t.Errorf("%s: got zeros only", x.Name)
			}
		}
	}
	if !bytes.Equal(written[0], written[1]) {
		t.Error("two runs differ")
	}
}
