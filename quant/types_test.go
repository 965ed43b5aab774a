package quant

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// plannedLine is what a dry run of llama-quantize prints for a tensor: its type, and the new one if it changes.
var plannedLine = regexp.MustCompile(`(?m)^\[ *\d+/ *\d+\] ((?s:.+?)) *- \[[^]]*\], type = +(\S+), size = +[0-9.]+ MiB(?: -> +[0-9.]+ MiB \((\S+)\))?$`)

// shapes are real models' numbers. Their files are all holes: a dry run reads no data.
var shapes = []spec{
	{name: "llama-3-70b", arch: "llama", blocks: 80, embd: 8192, ff: 28672, rows: 1024, vocab: 128256, heads: 64, kv: 8},
	{name: "llama-65b", arch: "llama", blocks: 80, embd: 8192, ff: 22016, rows: 1024, vocab: 32000, heads: 64, kv: 64},
	{name: "llama-3-8b", arch: "llama", blocks: 32, embd: 4096, ff: 14336, rows: 1024, vocab: 128256, heads: 32, kv: 8},
	{name: "mixtral-8x7b", arch: "llama", blocks: 32, embd: 4096, ff: 14336, rows: 1024, vocab: 32000, heads: 32, kv: 8, experts: 8},
	{name: "qwen3-4b", arch: "qwen3", blocks: 36, embd: 2560, ff: 9728, rows: 1024, vocab: 151936, heads: 32, kv: 8, tied: true},
	{name: "qwen2-0.5b", arch: "qwen2", blocks: 24, embd: 896, ff: 4864, rows: 128, vocab: 151936, heads: 14, kv: 2, tied: true},
	{name: "qwen2-72b", arch: "qwen2", blocks: 80, embd: 8192, ff: 29568, rows: 1024, vocab: 152064, heads: 64, kv: 64},
	{name: "qwen3-30b-a3b", arch: "qwen3moe", blocks: 48, embd: 2048, ff: 768, rows: 512, vocab: 151936, heads: 32, kv: 4, experts: 128},
	{name: "moe-4", arch: "qwen3moe", blocks: 24, embd: 2048, ff: 768, rows: 512, vocab: 1000, heads: 16, kv: 16, experts: 4},
	{name: "falcon-7b", arch: "falcon", blocks: 32, embd: 4544, ff: 18176, rows: 4672, vocab: 65024, heads: 71, kv: 1, qkv: true},
	{name: "falcon-40b", arch: "falcon", blocks: 60, embd: 8192, ff: 32768, rows: 9216, vocab: 65024, heads: 128, kv: 8, tied: true, qkv: true},
	{name: "odd-32", arch: "qwen2", blocks: 17, embd: 72, ff: 200, rows: 48, vocab: 1000, heads: 4, kv: 4},
}

// The type of every tensor of real shapes, for every ftype, with and without an
// importance matrix, is the one that llama-quantize's dry run prints.
func TestTypesEqualReference(t *testing.T) {
	matrix := writeImatrix(t, filepath.Join(t.TempDir(), "im.gguf"), tied.tensors()) // only that there is one matters
	for _, s := range shapes {
		s.typ, s.sparse = gguf.F16, true
		in := s.write(t)
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, ftype := range FTypes() {
				sameTypes(t, in, ftype, Options{DryRun: true})
				sameTypes(t, in, ftype, Options{DryRun: true, Imatrix: matrix}, "--imatrix", matrix)
			}
		})
	}
}

func sameTypes(t *testing.T, in, ftype string, o Options, flags ...string) {
	t.Helper()
	msg, refErr := runReference(t, append(flags, "--dry-run", in, ftype)...)
	p, err := NewPlan(t.Context(), in, "", ftype, o)
	if (err != nil) != (refErr != nil) {
		t.Fatalf("%s: got %v, want as llama-quantize: %v\n%.2000s", ftype, err, refErr, msg)
	}
	if err != nil {
		return
	}
	defer p.Close()
	want := map[string]string{}
	for _, m := range plannedLine.FindAllStringSubmatch(msg, -1) {
		want[m[1]] = cmp.Or(m[3], m[2])
	}
	if len(want) != len(p.Tensors) {
		t.Fatalf("%s: llama-quantize lists %d tensors, we %d", ftype, len(want), len(p.Tensors))
	}
	for _, pt := range p.Tensors {
		if w := want[pt.Name]; !strings.EqualFold(pt.Type.String(), w) {
			t.Errorf("%s, imatrix %v: tensor %s: got %s, want %s", ftype, o.Imatrix != "", pt.Name, pt.Type, w)
		}
	}
}
