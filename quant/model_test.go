package quant

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// spec describes a small model. The shapes are thin: llama-quantize reads the
// numbers in the metadata and does not compare them with the tensors.
type spec struct {
	name      string
	arch      string
	blocks    int
	embd, ff  int64 // row lengths
	rows      int64
	vocab     int64
	heads, kv uint32
	experts   int64
	tied      bool
	qkv       bool // one tensor for q, k and v, as falcon has it
	typ       gguf.Type
	shards    int
	align     uint32
	noType    bool // without general.file_type
	sparse    bool // zeros that take no room: for plans, not for writing
}

var (
	tied   = spec{name: "tied", arch: "qwen3", blocks: 16, embd: 256, ff: 512, rows: 6, vocab: 40, heads: 4, kv: 2, tied: true, typ: gguf.F16}
	untied = spec{name: "untied", arch: "llama", blocks: 16, embd: 512, ff: 256, rows: 4, vocab: 33, heads: 8, kv: 2, typ: gguf.BF16}
	moe    = spec{name: "moe", arch: "qwen3moe", blocks: 8, embd: 256, ff: 256, rows: 3, vocab: 20, heads: 4, kv: 4, experts: 8, typ: gguf.F32}
	odd256 = spec{name: "odd256", arch: "llama", blocks: 8, embd: 288, ff: 256, rows: 5, vocab: 21, heads: 4, kv: 4, tied: true, typ: gguf.F16}
	odd32  = spec{name: "odd32", arch: "qwen2", blocks: 8, embd: 72, ff: 256, rows: 4, vocab: 19, heads: 4, kv: 1, typ: gguf.F16}
)

func (s spec) meta(t testing.TB) *gguf.Metadata {
	t.Helper()
	m := new(gguf.Metadata)
	set := func(key string, v any) {
		t.Helper()
		if err := m.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	set(keyArch, s.arch)
	if !s.noType {
		set(keyFileType, uint32(1))
	}
	set("general.name", "Schneewittchen 백설공주")
	if s.align != 0 {
		set(keyAlignment, s.align)
	}
	set(keyQuantVersion, uint32(1)) // must move to the end
	a := s.arch + "."
	set(a+"block_count", uint32(s.blocks))
	set(a+"context_length", uint32(128))
	set(a+"embedding_length", uint32(s.embd))
	set(a+"feed_forward_length", uint32(s.ff))
	set(a+"attention.head_count", s.heads)
	set(a+"attention.head_count_kv", s.kv)
	set(a+"attention.key_length", uint32(64))
	set(a+"rope.dimension_count", uint32(64))
	set(a+"attention.layer_norm_rms_epsilon", float32(1e-6))
	set(a+"attention.layer_norm_epsilon", float32(1e-5))
	if s.experts > 0 {
		set(a+"expert_count", uint32(s.experts))
		set(a+"expert_used_count", uint32(2))
	}
	set("tokenizer.ggml.model", "no_vocab")
	set("test.strings", []string{"a", "", "nul\x00cut", "é"})
	set("test.nul", "cut\x00here")
	set("test.floats", []float32{1, float32(math.NaN()), -0.5})
	set("test.bools", []bool{true, false})
	set("test.i8", int8(-3))
	set("test.f64", 2.5)
	set("test.u64s", []uint64{1, 1 << 63})
	set("test.empty", []int32{})
	return m
}

// tensors lists the model's tensors in a converter's order, which is not the output's.
func (s spec) tensors() []gguf.TensorInfo {
	var ts []gguf.TensorInfo
	add := func(name string, typ gguf.Type, ne ...int64) {
		ts = append(ts, gguf.TensorInfo{Name: name, Type: typ, NE: ne})
	}
	add("token_embd.weight", s.typ, s.embd, s.vocab)
	for b := range s.blocks {
		p := fmt.Sprintf("blk.%d.", b)
		add(p+"attn_norm.weight", gguf.F32, s.embd)
		if s.experts > 0 {
			add(p+"ffn_down_exps.weight", s.typ, s.ff, s.rows, s.experts)
			add(p+"ffn_gate_exps.weight", s.typ, s.embd, s.rows, s.experts)
			add(p+"ffn_up_exps.weight", s.typ, s.embd, s.rows, s.experts)
			add(p+"ffn_gate_inp.weight", gguf.F32, s.embd, s.experts)
		} else {
			add(p+"ffn_down.weight", s.typ, s.ff, s.rows)
			add(p+"ffn_gate.weight", s.typ, s.embd, s.rows)
			add(p+"ffn_up.weight", s.typ, s.embd, s.rows)
		}
		add(p+"ffn_norm.weight", gguf.F32, s.embd)
		add(p+"attn_k.bias", gguf.F32, 9)
		if s.qkv {
			add(p+"attn_qkv.weight", s.typ, s.embd, s.rows)
		} else {
			add(p+"attn_k.weight", s.typ, s.embd, s.rows)
			add(p+"attn_q.weight", s.typ, s.embd, s.rows)
			add(p+"attn_v.weight", s.typ, s.embd, s.rows)
		}
		add(p+"attn_output.weight", s.typ, s.embd, s.rows)
	}
	add("output_norm.weight", gguf.F32, s.embd, 1)
	add("position_embd.weight", gguf.F32, s.embd, 3)
	if !s.tied {
		add("output.weight", s.typ, s.embd, s.vocab)
	}
	return ts
}

// values gives n numbers that are a function of name and position: a bell curve
// with outliers, signs and some runs of zeros.
func values(name string, n int64) []float32 {
	h := fnv.New64a()
	h.Write([]byte(name))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	v := make([]float32, n)
	for i := range v {
		x := rng.NormFloat64() * 0.04
		switch r := rng.IntN(400); {
		case r == 0:
			x *= 30
		case r < 4 || i%257 < 3:
			x = 0
		}
		v[i] = float32(x)
	}
	return v
}

func f32Bytes(v []float32) []byte {
	p := make([]byte, 0, 4*len(v))
	for _, f := range v {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(f))
	}
	return p
}

// data gives the bytes of a tensor.
func data(t *testing.T, info gguf.TensorInfo) []byte {
	t.Helper()
	if info.Type == gguf.I32 {
		return make([]byte, info.Bytes())
	}
	src := f32Bytes(values(info.Name, info.Elements()))
	if info.Type == gguf.F32 {
		return src
	}
	dst := make([]byte, info.Bytes())
	if err := llama.EncodeRows(dst, uint32(info.Type), src, uint32(gguf.F32), info.NE[0], nil); err != nil {
		t.Fatal(err)
	}
	return dst
}

// write makes the model in the test's folder and gives the path of its first file.
func (s spec) write(t *testing.T) string {
	t.Helper()
	return writeModel(t, filepath.Join(t.TempDir(), s.name+".gguf"), s.meta(t), s.tensors(), s)
}

func writeModel(t *testing.T, path string, meta *gguf.Metadata, tensors []gguf.TensorInfo, s spec) string {
	t.Helper()
	n := max(1, s.shards)
	per := (len(tensors) + n - 1) / n
	first := ""
	for i, part := range slices.Collect(slices.Chunk(tensors, per)) {
		m := meta
		file := path
		if n > 1 {
			if i > 0 {
				m = new(gguf.Metadata)
			}
			for _, kv := range []gguf.KV{{Key: keySplitNo, Value: uint16(i)}, {Key: keySplitTensors, Value: int32(len(tensors))}, {Key: keySplitCount, Value: uint16(n)}} {
				if err := m.Set(kv.Key, kv.Value); err != nil {
					t.Fatal(err)
				}
			}
			file = fmt.Sprintf("%s-%05d-of-%05d.gguf", strings.TrimSuffix(path, ".gguf"), i+1, n)
		}
		if i == 0 {
			first = file
		}
		writeFile(t, file, m, part, s.sparse)
	}
	return first
}

func writeFile(t *testing.T, path string, meta *gguf.Metadata, tensors []gguf.TensorInfo, sparse bool) {
	t.Helper()
	l, err := gguf.NewLayout(meta, tensors, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if sparse {
		if err := l.WriteHeader(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(l.FileSize); err != nil {
			t.Fatal(err)
		}
		return
	}
	w, err := l.NewWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range tensors {
		if err := w.WriteTensor(info.Name, data(t, info)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
}

// reference is llama.cpp's own tool, relative to this package.
const reference = "../bin/llama-quantize"

func referencePath(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(reference)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run ./build.sh first: it builds llama-quantize, with which this test compares", err)
	}
	return path
}

// runReference runs llama-quantize and gives what it printed and whether it succeeded.
func runReference(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(referencePath(t), args...)
	cmd.Env = append(os.Environ(), "GGML_NO_BACKTRACE=1") // an abort would wait for a debugger
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ours writes the plan's files and closes it.
func ours(t *testing.T, in, out, ftype string, o Options) *Result {
	t.Helper()
	p, err := NewPlan(t.Context(), in, out, ftype, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// compare runs both on the same input and compares the files. flags are llama-quantize's for o.
func compare(t *testing.T, in, ftype string, o Options, flags ...string) {
	t.Helper()
	dir := t.TempDir()
	want, got := filepath.Join(dir, "want.gguf"), filepath.Join(dir, "got.gguf")
	if msg, err := runReference(t, append(slices.Clone(flags), in, want, ftype)...); err != nil {
		t.Fatalf("llama-quantize: %v\n%s", err, msg)
	}
	ours(t, in, got, ftype, o)
	sameFile(t, got, want)
}

// sameFile compares two files and says where they differ first.
func sameFile(t *testing.T, got, want string) {
	t.Helper()
	g, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(g, w) {
		return
	}
	at := 0
	for at < min(len(g), len(w)) && g[at] == w[at] {
		at++
	}
	t.Errorf("%s and %s: got %d bytes, want %d; the first difference is at byte %d: %s", got, want, len(g), len(w), at, where(got, want, int64(at)))
}

// where names what lies at a byte of two models that should be equal.
func where(got, want string, at int64) string {
	g, err := gguf.Open(got)
	if err != nil {
		return err.Error()
	}
	defer g.Close()
	w, err := gguf.Open(want)
	if err != nil {
		return err.Error()
	}
	defer w.Close()
	for i := range min(g.Meta.Len(), w.Meta.Len()) {
		if a, b := g.Meta.At(i), w.Meta.At(i); fmt.Sprint(a) != fmt.Sprint(b) {
			return fmt.Sprintf("key %d: got %.200v, want %.200v", i, a, b)
		}
	}
	for i := range min(len(g.Tensors), len(w.Tensors)) {
		if a, b := g.Tensors[i], w.Tensors[i]; a.Name != b.Name || a.Type != b.Type || !slices.Equal(a.NE, b.NE) {
			return fmt.Sprintf("tensor %d: got %v, want %v", i, a, b)
		}
	}
	for _, info := range w.Tensors {
		begin := w.DataOffset + int64(info.Offset)
		if at >= begin && at < begin+info.Bytes() {
			return fmt.Sprintf("tensor %s (%s), byte %d", info.Name, info.Type, at-begin)
		}
	}
	return fmt.Sprintf("header or padding; %d and %d keys, %d and %d tensors", g.Meta.Len(), w.Meta.Len(), len(g.Tensors), len(w.Tensors))
}
