package quant

import (
	"context"
	"errors"
	"fmt"
	"math"
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

// big has several pieces per tensor.
var big = spec{name: "big", arch: "qwen3", blocks: 2, embd: 1024, ff: 1024, rows: 1200, vocab: 64, heads: 4, kv: 4, tied: true, typ: gguf.F16}

func plan(t *testing.T, in, out string, o Options) *Plan {
	t.Helper()
	p, err := NewPlan(t.Context(), in, out, "q4_0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// clean fails if the folder of out holds anything but an old file of that name
// with its old content, or if a goroutine of the run is left.
func clean(t *testing.T, out string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(out) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "old" {
		t.Errorf("the old file: got %.20q, %v; want it as it was", text, err)
	}
	buf := make([]byte, 1<<20)
	for range 1000 {
		if !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "pipe.(*queue") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("a goroutine of the run is left")
}

func oldFile(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.gguf")
	if err := os.WriteFile(out, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCancelMidway(t *testing.T) {
	in, out := big.write(t), oldFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	var last int64
	p := plan(t, in, out, Options{Threads: 2, Progress: func(done, total int64) {
		last = done
		if done > total/3 {
			cancel()
		}
	}})
	_, err := p.Write(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if last == 0 || last == p.SourceBytes {
		t.Errorf("cancelled after %d of %d bytes", last, p.SourceBytes)
	}
	clean(t, out)
	// The same plan can be written afterwards.
	if _, err := p.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// failing is an output on which the write of byte n fails.
type failing struct {
	outFile
	left atomic.Int64
	err  error
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.left.Add(-int64(len(p))) < 0 {
		return 0, f.err
	}
	return f.outFile.WriteAt(p, off)
}

func TestWriterFails(t *testing.T) {
	in := big.write(t)
	for _, n := range []int64{0, 100, 5000, 700_000, 2_500_000} {
		out := oldFile(t)
		p := plan(t, in, out, Options{})
		if n >= p.Size {
			t.Fatalf("the output has %d bytes, the fault is at %d", p.Size, n)
		}
		p.create = func(path string) (outFile, error) {
			f, err := createAtomic(path)
			bad := &failing{outFile: f, err: syscall.ENOSPC}
			bad.left.Store(n)
			return bad, err
		}
		if _, err := p.Write(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("fault at byte %d: got %v, want ENOSPC", n, err)
		}
		clean(t, out)
	}
}

// full is a disk without room.
type full struct{ outFile }

func (full) Stream(int64, bool) error { return fmt.Errorf("reserve: %w", syscall.ENOSPC) }

func TestDiskFull(t *testing.T) {
	in, out := tied.write(t), oldFile(t)
	p := plan(t, in, out, Options{})
	p.create = func(path string) (outFile, error) { f, err := createAtomic(path); return full{f}, err }
	if _, err := p.Write(t.Context()); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	clean(t, out)
	p.FreeDisk = uint64(p.Size) - 1
	if _, err := p.Write(t.Context()); !errors.Is(err, ErrNoSpace) {
		t.Errorf("free space: got %v, want ErrNoSpace", err)
	}
	clean(t, out)
}

// commits fails to commit.
type commits struct{ outFile }

func (commits) Commit() error { return errors.New("no commit") }

// When a later file of a split output cannot be finished, the earlier ones go, too.
func TestSplitCommitFails(t *testing.T) {
	s := tied
	s.shards = 3
	in, dir := s.write(t), t.TempDir()
	p := plan(t, in, filepath.Join(dir, "m.gguf"), Options{KeepSplit: true})
	n := 0
	p.create = func(path string) (outFile, error) {
		f, err := createAtomic(path)
		if n++; n == 3 {
			return commits{f}, err
		}
		return f, err
	}
	if _, err := p.Write(t.Context()); err == nil || !strings.Contains(err.Error(), "no commit") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// The input is cut short between planning and writing.
func TestInputTruncated(t *testing.T) {
	in, out := big.write(t), oldFile(t)
	p := plan(t, in, out, Options{})
	st, err := os.Stat(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(in, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(t.Context()); err == nil || !strings.Contains(err.Error(), in) {
		t.Errorf("got %v, want an error that names %s", err, in)
	}
	clean(t, out)
	if _, err := NewPlan(t.Context(), in, out, "q4_0", Options{}); err == nil {
		t.Error("a plan for a truncated file: no error")
	}
}

// A weight that is no number is refused by us and by llama-quantize, whether it is copied or encoded.
func TestNotANumber(t *testing.T) {
	for _, name := range []string{"blk.1.ffn_up.weight", "output_norm.weight"} {
		in, out := big.write(t), oldFile(t)
		f, err := gguf.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := f.Tensor(name)
		at := f.DataOffset + int64(info.Offset) + info.Bytes() - 4
		f.Close()
		file, err := os.OpenFile(in, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(f32Bytes([]float32{float32(math.Inf(1))}), at); err != nil {
			t.Fatal(err)
		}
		file.WriteAt([]byte{0x00, 0x7c, 0x80, 0x7f}, at) // infinite in f16 first, in f32 as a whole
		file.Close()
		if _, err := plan(t, in, out, Options{}).Write(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
		clean(t, out)
		if msg, err := runReference(t, in, filepath.Join(t.TempDir(), "x.gguf"), "q4_0"); err == nil {
			t.Errorf("%s: llama-quantize accepts it:\n%s", name, msg)
		}
	}
}

func TestClosedPlan(t *testing.T) {
	p := plan(t, tied.write(t), filepath.Join(t.TempDir(), "x"), Options{})
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if _, err := p.Write(t.Context()); err == nil {
		t.Error("Write of a closed plan: no error")
	}
}

// Progress only grows, ends at the total, and the budget does not change the result.
func TestProgressAndBudget(t *testing.T) {
	in, dir := big.write(t), t.TempDir()
	var last int64
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	r := ours(t, in, a, "q4_0", Options{Threads: 1, Budget: 1, Progress: func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}})
	if last != r.InputBytes {
		t.Errorf("progress ended at %d, want %d", last, r.InputBytes)
	}
	ours(t, in, b, "q4_0", Options{Threads: 8})
	sameFile(t, a, b)
}
