package quant

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// What llama-quantize refuses, or ends on, is refused before anything is
// written, and the error says what and where.
func TestRefusals(t *testing.T) {
	in, inMoE, inOdd := untied.write(t), moe.write(t), odd256.write(t)
	q := tied
	q.name, q.typ = "q8", gguf.Q8_0
	quantized := q.write(t)
	dir := t.TempDir()
	matrix := writeImatrix(t, filepath.Join(dir, "im.gguf"), untied.tensors())
	other := writeImatrix(t, filepath.Join(dir, "other.gguf"), tied.tensors())
	variant := func(name string, change func(m *gguf.Metadata), tensors ...gguf.TensorInfo) string {
		m := untied.meta(t)
		if change != nil {
			change(m)
		}
		return writeModel(t, filepath.Join(dir, name+".gguf"), m, append(untied.tensors(), tensors...), untied)
	}
	set := func(key string, v any) func(m *gguf.Metadata) {
		return func(m *gguf.Metadata) {
			if err := m.Set(key, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(key string) func(m *gguf.Metadata) { return func(m *gguf.Metadata) { m.Remove(key) } }
	for _, tt := range []struct {
		name, in, ftype string
		o               Options
		flags           []string
		is              error
		want            string
	}{
		{"quantized", quantized, "q4_0", Options{}, nil, ErrQuantized, "tensor token_embd.weight"},
		{"imatrix missing", in, "iq2_xxs", Options{}, nil, ErrImatrix, "tensor blk.0.attn_k.weight"},
		{"imatrix missing, Q2_K_S", in, "Q2_K_S", Options{}, nil, ErrImatrix, "tensor blk.0.attn_k.weight"},
		{"imatrix without the entry", in, "iq2_xs", Options{Imatrix: matrix, ExcludeWeights: []string{"blk.3.ffn_up"}}, []string{"--imatrix", matrix, "--exclude-weights", "blk.3.ffn_up"}, ErrImatrix, "tensor blk.3.ffn_up.weight"},
		{"imatrix of another model", in, "q4_0", Options{Imatrix: other}, []string{"--imatrix", other}, nil, "got 256 values, want 512"},
		{"imatrix without experts", inMoE, "q4_0", Options{Imatrix: writeDat(t, filepath.Join(dir, "x.dat"), map[string][]float32{"blk.0.ffn_up_exps.weight": make([]float32, 256)}, 1, 1, "")}, []string{"--imatrix", filepath.Join(dir, "x.dat")}, nil, "got 256 values, want 2048"},
		{"no fallback", inOdd, "q1_0", Options{}, nil, nil, "no fallback"},
		{"output type without encoder", in, "q4_0", Options{OutputTensorType: ptr(gguf.Q8_K)}, []string{"--output-tensor-type", "q8_K"}, nil, "tensor output.weight: type q8_K"},
		{"token type does not fit", inOdd, "q4_0", Options{TokenEmbeddingType: ptr(gguf.Q6_K)}, []string{"--token-embedding-type", "q6_k"}, nil, "tensor token_embd.weight"},
		{"token type needs imatrix", in, "q4_0", Options{TokenEmbeddingType: ptr(gguf.IQ1_S)}, []string{"--token-embedding-type", "iq1_s"}, ErrImatrix, "tensor token_embd.weight"},
		{"bad pattern", in, "q4_0", Options{TensorTypes: []TensorTypeRule{{"attn(", gguf.Q8_0}}}, []string{"--tensor-type", "attn(=q8_0"}, nil, "pattern"},
		{"unknown architecture", variant("arch", set(keyArch, "lama")), "q4_0", Options{}, nil, nil, `got "lama"`},
		{"no architecture", variant("noarch", remove(keyArch)), "q4_0", Options{}, nil, nil, keyArch},
		{"no block count", variant("blocks", remove("llama.block_count")), "q4_0", Options{}, nil, nil, "llama.block_count"},
		{"no epsilon", variant("eps", remove("llama.attention.layer_norm_rms_epsilon")), "q4_0", Options{}, nil, nil, "epsilon"},
		{"block count of another type", variant("i32", set("llama.block_count", int32(4))), "q4_0", Options{}, nil, nil, "got a value of type i32, want u32"},
		{"heads per block", variant("heads", set("llama.attention.head_count", []uint32{1, 2})), "q4_0", Options{}, nil, nil, "one per block, 16"},
		{"rope", variant("rope", set("llama.rope.dimension_count", uint32(32))), "q4_0", Options{}, nil, nil, "head size 64"},
		{"rope scaling", variant("scaling", set("llama.rope.scaling.type", "magic")), "q4_0", Options{}, nil, nil, "magic"},
		{"experts unused", variant("experts", set("llama.expert_count", uint32(8))), "q4_0", Options{}, nil, nil, "expert_used_count"},
		{"adapter", variant("adapter", func(m *gguf.Metadata) { set("general.type", "adapter")(m); m.Remove("llama.block_count") }), "q4_0", Options{}, nil, nil, "adapters cannot"},
		{"integers", variant("int", nil, gguf.TensorInfo{Name: "x.weight", Type: gguf.I32, NE: []int64{32, 2}}), "q4_0", Options{}, nil, nil, "tensor x.weight: type i32"},
		{"four dimensions", variant("4d", nil, gguf.TensorInfo{Name: "x.weight", Type: gguf.F16, NE: []int64{32, 2, 2, 2}}), "q4_0", Options{}, nil, nil, "4 dimensions"},
		{"experts by name", variant("name", set("llama.expert_count", uint32(4)), gguf.TensorInfo{Name: "x.ffn_up.weight", Type: gguf.F16, NE: []int64{32, 2}}), "q4_0", Options{}, nil, nil, "llama.expert"},
		{"override", in, "q4_0", Options{OverrideKV: []KVOverride{{"llama.block_count", int64(0)}}}, []string{"--override-kv", "llama.block_count=int:0"}, nil, "block_count: got 0"},
		{"no such file", filepath.Join(dir, "none"), "q4_0", Options{}, nil, os.ErrNotExist, "none"},
		{"no such type", in, "q9_0", Options{}, nil, ErrFType, `got "q9_0"`},
		{"include and exclude", in, "q4_0", Options{IncludeWeights: []string{"a"}, ExcludeWeights: []string{"b"}}, []string{"--include-weights", "a", "--exclude-weights", "b"}, nil, "only one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			if msg, err := runReference(t, append(tt.flags, tt.in, filepath.Join(out, "want.gguf"), tt.ftype)...); err == nil {
				t.Errorf("llama-quantize accepts it:\n%s", msg)
			}
			got := filepath.Join(out, "got.gguf")
			p, err := NewPlan(t.Context(), tt.in, got, tt.ftype, tt.o)
			if err == nil {
				p.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.in) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got the error %q, want one with %q and the file's name (%v)", err, tt.want, tt.is)
			}
			if _, err := os.Stat(got); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("an output exists: %v", err)
			}
		})
	}
}

// What only we refuse, because llama-quantize writes a file that is no good.
func TestStricterThanReference(t *testing.T) {
	in := tied.write(t)
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"all blocks pruned", Options{PruneLayers: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}, "no block is left"},
		{"negative block", Options{PruneLayers: []int{-1}}, "got -1"},
		{"split key", Options{OverrideKV: []KVOverride{{keySplitCount, int64(1)}}}, "split.count"},
		{"bad value type", Options{OverrideKV: []KVOverride{{"a", 1}}}, "type int"},
		{"bad output type", Options{OutputTensorType: ptr(4)}, "got 4"},
		{"bad token type", Options{TokenEmbeddingType: ptr(99)}, "got 99"},
		{"bad rule type", Options{TensorTypes: []TensorTypeRule{{"a", 31}}}, "got 31"},
		{"look-ahead", Options{TensorTypes: []TensorTypeRule{{"a(?=b)", gguf.F16}}}, "look-ahead"},
	} {
		if p, err := NewPlan(t.Context(), in, filepath.Join(t.TempDir(), "x"), "q4_0", tt.o); err == nil {
			p.Close()
			t.Errorf("%s: no error", tt.name)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %q, want %q in it", tt.name, err, tt.want)
		}
	}
}

// The output must not be one of the inputs, by whatever name.
func TestOutputIsInput(t *testing.T) {
	s := tied
	s.shards = 2
	in := s.write(t)
	second := strings.Replace(in, "00001-of", "00002-of", 1)
	link := filepath.Join(t.TempDir(), "link.gguf")
	if err := os.Symlink(second, link); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{in, second, link} {
		if p, err := NewPlan(t.Context(), in, out, "q4_0", Options{}); err == nil {
			p.Close()
			t.Errorf("%s: no error", out)
		} else if !strings.Contains(err.Error(), "same file") {
			t.Errorf("%s: got %q", out, err)
		}
	}
	// Kept splits get the names of the input's files.
	if p, err := NewPlan(t.Context(), in, filepath.Join(filepath.Dir(in), "tied.gguf"), "q4_0", Options{KeepSplit: true}); err == nil {
		p.Close()
		t.Error("kept splits: no error")
	}
}

// A dry run tells what would hinder writing, and does not write.
func TestDryRun(t *testing.T) {
	var warned []string
	p, err := NewPlan(t.Context(), untied.write(t), "", "iq2_xxs", Options{DryRun: true, Warn: func(m string) { warned = append(warned, m) }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if len(warned) != 1 || !strings.Contains(warned[0], "importance matrix") || len(p.Warnings) != 1 {
		t.Errorf("got the warnings %q, want one about the importance matrix", warned)
	}
	if p.Size == 0 || p.TensorBytes == 0 || p.TensorBytes >= p.SourceBytes || len(p.Tensors) != len(untied.tensors()) {
		t.Errorf("got %d bytes, %d of tensors from %d, %d tensors", p.Size, p.TensorBytes, p.SourceBytes, len(p.Tensors))
	}
	if _, err := p.Write(t.Context()); !errors.Is(err, ErrImatrix) {
		t.Errorf("Write: got %v, want ErrImatrix", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPlan(ctx, p.In, "", "q4_0", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
