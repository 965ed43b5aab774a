package convert_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/quant"
)

// write runs a conversion and gives the file.
func write(t *testing.T, dir string, o convert.Options) []byte {
	t.Helper()
	if o.OutFile == "" {
		o.OutFile = filepath.Join(t.TempDir(), "out.gguf")
	}
	p, err := convert.NewPlan(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Write(context.Background()); err != nil {
		t.Fatal(err)
	}
	return read(t, o.OutFile)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// quantize is the second of the three steps that one pass replaces.
func quantize(t *testing.T, in, ftype string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "q.gguf")
	p, err := quant.NewPlan(context.Background(), in, out, ftype, quant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Write(context.Background()); err != nil {
		t.Fatal(err)
	}
	return read(t, out)
}

// TestOnePass: for every architecture, base + adapter → TYPE in one pass gives the bytes
// of merge, convert and quantize; and without an adapter those of convert and quantize.
func TestOnePass(t *testing.T) {
	for _, s := range testmodel.Specs() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			base, adapter := filepath.Join(t.TempDir(), s.Name), filepath.Join(t.TempDir(), "adapter")
			merged := filepath.Join(t.TempDir(), s.Name) // the same name: it is in the metadata
			if err := testmodel.Write(base, s); err != nil {
				t.Fatal(err)
			}
			if err := testmodel.Adapter(adapter, base, testmodel.AdapterSpec{Rank: 4, Alpha: 9, DType: testmodel.BF16}); err != nil {
				t.Fatal(err)
			}
			sources := []lora.Source{{Dir: adapter, Weight: 1}}
			merge, err := lora.Open(context.Background(), base, sources, lora.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer merge.Close()
			if _, err := merge.Write(context.Background(), merged, lora.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			plain := write(t, base, convert.Options{OutType: "f16", PreTokenizer: s.Pre, FixKeys: true})
			for _, outType := range []string{"f32", "f16", "bf16", "q8_0"} {
				o := convert.Options{OutType: outType, PreTokenizer: s.Pre, FixKeys: true}
				want := write(t, merged, o)
				o.Adapters = sources
				got := write(t, base, o)
				if !bytes.Equal(got, want) {
					t.Errorf("%s: other bytes than merge and convert", outType)
				}
				if outType == "f16" && bytes.Equal(got, plain) {
					t.Error("f16: the adapter has no effect")
				}
			}
			if s.Name == "qwen3-f32-head" { // weights beyond F16, on purpose
				p, err := convert.NewPlan(context.Background(), base, convert.Options{OutType: "q4_0", PreTokenizer: s.Pre, OutFile: filepath.Join(t.TempDir(), "q.gguf")})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if _, err := p.Write(context.Background()); err == nil || !strings.Contains(err.Error(), "not finite") {
					t.Errorf("weights beyond F16: got %v, want the error that quantizing the f16 file gives", err)
				}
				return
			}
			for _, folder := range []string{base, merged} {
				f16 := filepath.Join(t.TempDir(), "f16.gguf")
				write(t, folder, convert.Options{OutType: "f16", PreTokenizer: s.Pre, FixKeys: true, OutFile: f16})
				for _, outType := range []string{"q4_0", "q4_K_M", "Q6_K"} {
					want := quantize(t, f16, outType)
					o := convert.Options{OutType: outType, PreTokenizer: s.Pre, FixKeys: true}
					if folder == merged {
						o.Adapters = sources
					}
					if got := write(t, base, o); !bytes.Equal(got, want) {
						t.Errorf("%s of %s: other bytes than step by step", outType, filepath.Base(filepath.Dir(folder)))
					}
				}
			}
		})
	}
}
