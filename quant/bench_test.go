package quant

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// benchModel writes about half a gigabyte of f16 weights with a tied embedding.
func benchModel(b *testing.B) string {
	s := spec{arch: "qwen3", blocks: 12, embd: 1024, ff: 3072, rows: 2048, vocab: 65536, heads: 16, kv: 8, tied: true, typ: gguf.F16}
	meta, tensors := s.meta(b), s.tensors()
	l, err := gguf.NewLayout(meta, tensors, 0)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "bench.gguf")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w, err := l.NewWriter(f)
	if err != nil {
		b.Fatal(err)
	}
	floats := f32Bytes(values("bench", 1<<20))
	half := make([]byte, len(floats)/2)
	if err := llama.EncodeRows(half, uint32(gguf.F16), floats, uint32(gguf.F32), 1<<20, nil); err != nil {
		b.Fatal(err)
	}
	for _, info := range tensors {
		src := half
		if info.Type == gguf.F32 {
			src = floats
		}
		for left := info.Bytes(); left > 0; {
			n := min(left, int64(len(src)))
			if err := w.WriteTensor(info.Name, src[:n]); err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
	if err := w.Finish(); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkQuantize compares the time of a whole run, and the peak memory, with
// llama-quantize's: go test -run '^$' -bench Quantize -benchtime 1x ./quant
// Our output is synced to the disk before it gets its name, llama-quantize's is not.
func BenchmarkQuantize(b *testing.B) {
	in := benchModel(b)
	st, err := os.Stat(in)
	if err != nil {
		b.Fatal(err)
	}
	for _, ftype := range []string{"q4_0", "q8_0", "q4_k_m"} {
		out := filepath.Join(b.TempDir(), "out.gguf")
		b.Run("ours/"+ftype, func(b *testing.B) {
			b.SetBytes(st.Size())
			for b.Loop() {
				p, err := NewPlan(b.Context(), in, out, ftype, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := p.Write(b.Context()); err != nil {
					b.Fatal(err)
				}
				p.Close()
			}
			var u syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(u.Maxrss)/1024, "MiB-peak")
		})
		b.Run("llama-quantize/"+ftype, func(b *testing.B) {
			b.SetBytes(st.Size())
			var peak int64
			for b.Loop() {
				cmd := exec.Command(reference, in, out, ftype)
				if err := cmd.Run(); err != nil {
					b.Fatal(fmt.Errorf("llama-quantize: %w", err))
				}
				peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
			}
			b.ReportMetric(float64(peak)/1024, "MiB-peak")
		})
	}
}
