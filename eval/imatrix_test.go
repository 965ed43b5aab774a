package eval

import (
	"cmp"
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

// block0 computes the first block of a model for tokens that each stand alone: attention to one position is its value.
type block0 struct {
	t    *testing.T
	f    *gguf.File
	arch string
	sums map[string][]float64 // by tensor; a row of columns for each expert
	n    map[string][]int64
	read map[string][]float64
}

func openBlock0(t *testing.T, path string) *block0 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	arch, _ := f.Meta.String("general.architecture")
	return &block0{t, f, arch, map[string][]float64{}, map[string][]int64{}, map[string][]float64{}}
}

func (b *block0) number(key string) int {
	n, ok := b.f.Meta.Uint(b.arch + "." + key)
	if !ok {
		b.t.Fatalf("key %s: not there", key)
	}
	return int(n)
}

// tensor is a tensor as numbers, with its row length.
func (b *block0) tensor(name string) ([]float64, int) {
	b.t.Helper()
	info, ok := b.f.Tensor(name)
	if !ok {
		b.t.Fatalf("tensor %s: not there", name)
	}
	if out := b.read[name]; out != nil {
		return out, int(info.NE[0])
	}
	raw := make([]byte, info.Bytes())
	if err := b.f.ReadTensorAt(info, raw, 0); err != nil {
		b.t.Fatal(err)
	}
	values := make([]float32, info.Elements())
	switch info.Type {
	case gguf.F32:
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	default:
		if err := llama.DecodeRows(values, raw, uint32(info.Type), info.NE[0]); err != nil {
			b.t.Fatal(err)
		}
	}
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	b.read[name] = out
	return out, int(info.NE[0])
}

// times is a product with matrix number k of a tensor of rows rows, and counts what goes in.
func (b *block0) times(name string, k, experts int, x []float64) []float64 {
	w, columns := b.tensor(name)
	if columns != len(x) {
		b.t.Fatalf("%s: got %d columns for %d values", name, columns, len(x))
	}
	if b.sums[name] == nil {
		b.sums[name], b.n[name] = make([]float64, columns*experts), make([]int64, experts)
	}
	b.n[name][k]++
	for i, v := range x {
		b.sums[name][k*columns+i] += v * v
	}
	rows := len(w) / columns / experts
	out := make([]float64, rows)
	for r := range rows {
		for i, v := range x {
			out[r] += w[(k*rows+r)*columns+i] * v
		}
	}
	return out
}

func (b *block0) norm(name string, x []float64) []float64 {
	w, _ := b.tensor(name)
	eps, ok := b.f.Meta.Float(b.arch + ".attention.layer_norm_rms_epsilon")
	if !ok {
		b.t.Fatal("no epsilon")
	}
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(sum/float64(len(x))+eps) * w[i]
	}
	return out
}

func (b *block0) embedding(token llama.Token) []float64 {
	w, columns := b.tensor("token_embd.weight")
	return slices.Clone(w[int(token)*columns : (int(token)+1)*columns])
}

// run adds one token.
func (b *block0) run(token llama.Token) {
	x := b.embedding(token)
	h := b.norm("blk.0.attn_norm.weight", x)
	b.times("blk.0.attn_q.weight", 0, 1, h)
	b.times("blk.0.attn_k.weight", 0, 1, h)
	v := b.times("blk.0.attn_v.weight", 0, 1, h)
	heads, shared := b.number("attention.head_count"), b.number("attention.head_count_kv")
	size := len(v) / shared
	var seen []float64
	for head := range heads {
		at := head / (heads / shared) * size
		seen = append(seen, v[at:at+size]...)
	}
	for i, o := range b.times("blk.0.attn_output.weight", 0, 1, seen) {
		x[i] += o
	}
	h = b.norm("blk.0.ffn_norm.weight", x)
	mixed := func(gate, up, down string, k, experts int) {
		g, u := b.times(gate, k, experts, h), b.times(up, k, experts, h)
		for i := range g {
			g[i] = g[i] / (1 + math.Exp(-g[i])) * u[i]
		}
		b.times(down, k, experts, g)
	}
	if _, dense := b.f.Tensor("blk.0.ffn_gate.weight"); dense {
		mixed("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight", 0, 1)
		return
	}
	scores := b.times("blk.0.ffn_gate_inp.weight", 0, 1, h)
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(scores[j], scores[i]) })
	for _, k := range order[:b.number("expert_used_count")] {
		mixed("blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight", k, len(scores))
	}
}

// TestImportance compares what is collected with a computation of the first block in plain Go, experts too.
func TestImportance(t *testing.T) {
	for _, spec := range []string{"qwen3-tied", "qwen3moe"} {
		s, err := testmodel.Find(spec)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := testmodel.Write(filepath.Join(dir, "hf"), s); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "m.gguf")
		if err := convertTo(file, filepath.Join(dir, "hf"), "f32", nil); err != nil {
			t.Fatal(err)
		}
		want := openBlock0(t, file)
		m, err := loadModel(t.Context(), file, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		importance, err := llama.NewImportance()
		if err != nil {
			t.Fatal(err)
		}
		defer importance.Close()
		p := llama.DefaultContextParams()
		p.NCtx, p.NSeqMax, p.NBatch, p.NUBatch, p.KVUnified, p.Threads, p.FlashAttn = 256, 20, 64, 64, true, 1, llama.FlashAttnOff
		p.TypeK, p.TypeV, p.Importance = llama.TensorType(gguf.F32), llama.TensorType(gguf.F32), importance
		c, err := m.NewContext(p)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var batch []llama.BatchToken
		for i := range 20 {
			token := llama.Token(3 + 11*i)
			want.run(token)
			batch = append(batch, llama.BatchToken{Token: token, Seqs: []int32{int32(i)}, Logits: true})
		}
		if err := c.Decode(batch); err != nil {
			t.Fatal(err)
		}
		entries, err := importance.Entries()
		if err != nil {
			t.Fatal(err)
		}
		compareEntries(t, spec, want, entries)
	}
}

func compareEntries(t *testing.T, spec string, want *block0, entries []llama.ImportanceEntry) {
	t.Helper()
	found := 0
	for _, e := range entries {
		sums, ok := want.sums[e.Name]
		if !ok {
			if strings.HasPrefix(e.Name, "blk.0.") {
				t.Errorf("%s: %s: got it, want no such entry", spec, e.Name)
			}
			continue
		}
		found++
		if !slices.Equal(e.Counts, want.n[e.Name]) || len(e.Sums) != len(sums) {
			t.Errorf("%s: %s: got counts %v and %d sums, want %v and %d", spec, e.Name, e.Counts, len(e.Sums), want.n[e.Name], len(sums))
			continue
		}
		for i, v := range e.Sums {
			if math.Abs(float64(v)-sums[i]) > 1e-4*(sums[i]+1e-6) {
				t.Errorf("%s: %s: sum %d: got %v, want %v", spec, e.Name, i, v, sums[i])
				break
			}
		}
	}
	if found != len(want.sums) || found < 7 {
		t.Errorf("%s: got %d entries of the first block, want %d", spec, found, len(want.sums))
	}
}

// TestMakeImatrix: every token of the records that are trained on counts once, however they are packed, and the last
// block sees all of them.
func TestMakeImatrix(t *testing.T) {
	long := []string{"이야기를 들려줘"}
	long = append(long, strings.Repeat("눈이 내려요, 하얀 눈이 내려요. 작은 집 창가에 고운 꿈이 내려요. ", 40))
	all := append(someRecords(t, "train"), records(t, "train", long)...)
	for range 12 {
		all = append(all, someRecords(t, "train")...)
	}
	all = append(all, records(t, "eval", []string{"안녕", "안녕하세요."})...)
	out := filepath.Join(t.TempDir(), "imatrix.gguf")
	steps := 0
	got, err := MakeImatrix(t.Context(), ImatrixOptions{Model: personaFile, Records: all, Data: "sft.jsonl", Out: out, Threads: 1, Progress: func(_, _ int64) { steps++ }})
	if err != nil {
		t.Fatal(err)
	}
	m, err := loadModel(t.Context(), personaFile, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b := openBlock0(t, personaFile)
	tokens, longest := 0, 0
	var want []float64
	for _, rec := range all[:len(all)-1] {
		ids, err := m.Tokenize(rec.Text(), false, true)
		if err != nil {
			t.Fatal(err)
		}
		tokens, longest = tokens+len(ids), max(longest, len(ids))
		for _, id := range ids {
			for i, v := range b.norm("blk.0.attn_norm.weight", b.embedding(id)) {
				if want == nil {
					want = make([]float64, len(b.embedding(id)))
				}
				want[i] += v * v
			}
		}
	}
	if longest <= ChunkTokens {
		t.Fatalf("the longest record has %d tokens, want more than a chunk", longest)
	}
	matrix := imatrixOf(t, out)
	if got.Tokens != tokens || got.Records != len(all)-1 || steps != got.Records || got.Chunks != tokens/ChunkTokens || int(matrix.Chunks) != got.Chunks ||
		!slices.Equal(matrix.Datasets, []string{"sft.jsonl"}) || len(matrix.Entries) != got.Tensors {
		t.Errorf("got %+v and chunks %d, datasets %v, want %d tokens", got, matrix.Chunks, matrix.Datasets, tokens)
	}
	for i, v := range matrix.Entries["blk.0.attn_q.weight"] {
		if w := want[i] / float64(tokens); math.Abs(float64(v)-w) > 1e-3*w+1e-9 {
			t.Fatalf("column %d: got a mean of %v, want %v", i, v, w)
		}
	}
	f, err := gguf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, info := range f.Tensors {
		if !strings.HasSuffix(info.Name, ".counts") {
			continue
		}
		var raw [4]byte
		if err := f.ReadTensorAt(info, raw[:], 0); err != nil {
			t.Fatal(err)
		}
		if n := math.Float32frombits(binary.LittleEndian.Uint32(raw[:])); int(n) != tokens {
			t.Errorf("%s: got %v, want %d", info.Name, n, tokens)
		}
	}
	for name, bad := range map[string]ImatrixOptions{
		"no records": {Model: personaFile, Records: all[len(all)-1:], Out: out}, "no model": {Model: "none.gguf", Records: all, Out: out},
		"no folder": {Model: personaFile, Records: all, Out: filepath.Join(t.TempDir(), "none", "x.gguf"), Chunks: 1},
	} {
		if _, err := MakeImatrix(t.Context(), bad); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
