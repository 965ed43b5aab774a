package convert

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gguf"
)

func newPlan(t *testing.T, dir string, o Options) *Plan {
	t.Helper()
	p, err := NewPlan(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestPieces converts with pieces of every size, one encoder and many, and
// wants the same bytes: rows, permuted heads, experts and shards must meet
// exactly.
func TestPieces(t *testing.T) {
	for _, model := range []string{"llama-bpe", "qwen3moe", "qwen3moe-fused", "gemma3", "qwen3-untied"} {
		dir := tinyModel(t, model)
		for _, outType := range []string{"f32", "q8_0"} {
			var want []byte
			for _, size := range []int64{pieceSize, 1, 777, 5000} {
				for _, threads := range []int{1, 3} {
					p := newPlan(t, dir, Options{OutType: outType, Threads: threads, Budget: 1})
					w := &writer{plan: p, pieces: cut(p.tensors, size)}
					out := make(memory, p.Size)
					if err := w.run(context.Background(), out); err != nil {
						t.Fatal(err)
					}
					if want == nil {
						want = out
					}
					if !bytes.Equal(out, want) {
						t.Errorf("%s %s, pieces of %d bytes, %d encoders: bytes that differ from those of whole tensors", model, outType, size, threads)
					}
				}
			}
		}
	}
}

// memory is a file of fixed size, each byte of which is to be written once. Different bytes may be written at once.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	for _, b := range m[off : off+int64(len(p))] {
		if b != 0 {
			return 0, errors.New("written twice")
		}
	}
	return copy(m[off:], p), nil
}

func (m memory) Stream(int64, bool) error { return nil }

// failingWriter accepts n bytes.
type failingWriter struct{ left atomic.Int64 }

var errFull = errors.New("disk full")

func (w *failingWriter) WriteAt(p []byte, _ int64) (int, error) {
	if w.left.Add(-int64(len(p))) < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func (w *failingWriter) Stream(int64, bool) error { return nil }

// TestWriterFails lets the output fail at many places and wants that error and
// no goroutine left.
func TestWriterFails(t *testing.T) {
	p := newPlan(t, tinyModel(t, "qwen3-tied"), Options{OutType: "f16"})
	for n := 0; n < int(p.Size); n += int(p.Size)/40 + 1 {
		w := &writer{plan: p, pieces: cut(p.tensors, 1000)}
		out := new(failingWriter)
		out.left.Store(int64(n))
		if err := w.run(context.Background(), out); !errors.Is(err, errFull) {
			t.Errorf("output that fails at byte %d: got %v, want %v", n, err, errFull)
		}
	}
	noGoroutineOfPipe(t)
}

// noGoroutineOfPipe waits until no worker runs, however slow the machine.
func noGoroutineOfPipe(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for range 500 {
		stacks = stacks[:runtime.Stack(stacks[:cap(stacks)], true)]
		if !bytes.Contains(stacks, []byte("internal/pipe.")) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("goroutines left:\n%s", stacks)
}

// onlyFile checks that the folder holds exactly one file of the given content.
func onlyFile(t *testing.T, dir, name, content string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("got %v in the output folder, want only %s", entries, name)
	}
	if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != content {
		t.Errorf("%s: got %d bytes, %v, want it untouched", name, len(got), err)
	}
}

// TestCancel ends a conversion midway: the older file stays, nothing else does.
func TestCancel(t *testing.T) {
	dir, out := tinyModel(t, "qwen3-tied"), t.TempDir()
	write(t, filepath.Join(out, "m.gguf"), "older")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := newPlan(t, dir, Options{OutFile: filepath.Join(out, "m.gguf"), Progress: func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}})
	if _, err := p.Write(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	onlyFile(t, out, "m.gguf", "older")
	noGoroutineOfPipe(t)
	if _, err := NewPlan(ctx, dir, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("plan: got %v, want %v", err, context.Canceled)
	}
}

// TestSourceChanges cuts a source file short after planning.
func TestSourceChanges(t *testing.T) {
	dir, out := tinyModel(t, "llama-spm"), t.TempDir()
	write(t, filepath.Join(out, "m.gguf"), "older")
	p := newPlan(t, dir, Options{OutFile: filepath.Join(out, "m.gguf")})
	file := filepath.Join(dir, "model.safetensors")
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, st.Size()-100); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(context.Background()); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "tensor") {
		t.Errorf("got %v, want an error with the file and the tensor", err)
	}
	onlyFile(t, out, "m.gguf", "older")
}

// TestFullDisk wants the sizes in the error, before anything is written.
func TestFullDisk(t *testing.T) {
	out := t.TempDir()
	write(t, filepath.Join(out, "m.gguf"), "older")
	p := newPlan(t, tinyModel(t, "qwen3-tied"), Options{OutFile: filepath.Join(out, "m.gguf")})
	p.Size = 1 << 62
	if _, err := p.Write(context.Background()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "want 4611686018427387904") {
		t.Errorf("got %v, want free and needed bytes", err)
	}
	onlyFile(t, out, "m.gguf", "older")
}

// TestPlan checks what a dry run prints: nothing written, sizes that hold.
func TestPlan(t *testing.T) {
	dir, out := tinyModel(t, "qwen3moe"), t.TempDir()
	var done, total int64
	p := newPlan(t, dir, Options{OutFile: out, OutType: "auto", Progress: func(d, n int64) {
		if d < done {
			t.Errorf("progress went back from %d to %d", done, d)
		}
		done, total = d, n
	}})
	if entries, _ := os.ReadDir(out); len(entries) != 0 {
		t.Errorf("planning wrote %v", entries)
	}
	if p.Arch != "qwen3moe" || p.HFArch != "Qwen3MoeForCausalLM" || p.OutType != "bf16" || p.FreeDisk == 0 || filepath.Dir(p.OutFile) != out {
		t.Errorf("plan: got %s, %s, %s, %d bytes free, %s", p.Arch, p.HFArch, p.OutType, p.FreeDisk, p.OutFile)
	}
	types := map[string]gguf.Type{}
	for _, pt := range p.Tensors {
		types[pt.Name] = pt.Type
		if strings.HasSuffix(pt.Name, "_exps.weight") && int64(len(pt.Sources)) != pt.NE[2] {
			t.Errorf("%s: got %d sources, want one per expert: %d", pt.Name, len(pt.Sources), pt.NE[2])
		}
	}
	if types["blk.0.ffn_gate_inp.weight"] != gguf.F32 || types["blk.0.ffn_up_exps.weight"] != gguf.BF16 {
		t.Errorf("types: got %v", types)
	}
	res, err := p.Write(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(res.Path); err != nil || st.Size() != p.Size || done != p.Size || total != p.Size {
		t.Errorf("got %v, %v, progress %d of %d, want %d bytes", st, err, done, total, p.Size)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(context.Background()); err == nil {
		t.Error("write after close: accepted")
	}
}

// TestOverflowWarns converts a BF16 value that F16 cannot hold.
func TestOverflowWarns(t *testing.T) {
	dir := tinyModel(t, "qwen3-tied")
	editWeights(t, dir, change("model.layers.0.mlp.up_proj.weight", func(w *weights) { w.data[0], w.data[1] = 0x80, 0x47 })) // 65536
	for outType, want := range map[string]int{"f16": 1, "bf16": 0} {
		var warnings []string
		p := newPlan(t, dir, Options{OutFile: t.TempDir(), OutType: outType, Warn: func(m string) { warnings = append(warnings, m) }})
		if _, err := p.Write(context.Background()); err != nil {
			t.Fatal(err)
		}
		if len(warnings) != want || want == 1 && !strings.Contains(warnings[0], "F16") {
			t.Errorf("%s: got %q, want %d warnings", outType, warnings, want)
		}
	}
}

// TestFixKeys adds the key that llama.cpp demands of EXAONE 3.5.
func TestFixKeys(t *testing.T) {
	const key = "exaone.attention.layer_norm_rms_epsilon"
	dir := tinyModel(t, "exaone35")
	var warnings []string
	plain := newPlan(t, dir, Options{Warn: func(m string) { warnings = append(warnings, m) }})
	if _, ok := plain.Meta.Get(key); ok || len(warnings) != 1 || !strings.Contains(warnings[0], key) {
		t.Errorf("without: got the key %v and warnings %q, want no key and a warning", ok, warnings)
	}
	warnings = nil
	fixed := newPlan(t, dir, Options{FixKeys: true, Warn: func(m string) { warnings = append(warnings, m) }})
	got, _ := fixed.Meta.Get(key)
	want, _ := fixed.Meta.Get("exaone.attention.layer_norm_epsilon")
	if got != want || got == nil || len(warnings) != 0 || fixed.Meta.Len() != plain.Meta.Len()+1 {
		t.Errorf("with: got %v, want %v, warnings %q", got, want, warnings)
	}
}
