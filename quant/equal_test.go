package quant

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// slowOn names the one model for a type whose grids take llama-quantize seconds to
// build at every start; the types chosen for them on all models are compared by
// TestTypesEqualReference.
var slowOn = map[string]string{
	"IQ1_S": moe.name, "IQ1_M": untied.name,
	"IQ2_XXS": tied.name, "IQ2_XS": moe.name, "IQ2_S": untied.name, "IQ2_M": odd256.name, "IQ3_XXS": tied.name,
	"IQ3_XS": tied.name, "IQ3_S": moe.name, "IQ3_M": untied.name,
}

// refuses is true for what llama-quantize refuses on a model: TestRefusals has it.
func refuses(s spec, ftype string) bool { return ftype == "Q1_0" && s.embd%128 != 0 }

// Every ftype on models that reach the branches of the rules, with an
// importance matrix: the whole file is llama-quantize's.
func TestEqualsReference(t *testing.T) {
	for _, s := range []spec{tied, untied, moe, odd256, odd32} {
		in := s.write(t)
		matrix := writeImatrix(t, filepath.Join(t.TempDir(), "imatrix.gguf"), s.tensors())
		for _, ftype := range FTypes() {
			if model, slow := slowOn[ftype]; slow && model != s.name || refuses(s, ftype) {
				continue
			}
			t.Run(s.name+"/"+ftype, func(t *testing.T) {
				t.Parallel()
				compare(t, in, ftype, Options{Imatrix: matrix}, "--imatrix", matrix)
			})
		}
	}
}

// The same without an importance matrix, for the types that do not need one.
func TestEqualsReferenceWithoutImatrix(t *testing.T) {
	for _, s := range []spec{tied, untied, moe, odd256, odd32} {
		in := s.write(t)
		for _, ftype := range FTypes() {
			if slowOn[ftype] != "" || ftype == "Q2_K_S" || refuses(s, ftype) {
				continue
			}
			t.Run(s.name+"/"+ftype, func(t *testing.T) {
				t.Parallel()
				compare(t, in, strings.ToLower(ftype), Options{Threads: 3})
			})
		}
	}
}

func ptr(t gguf.Type) *gguf.Type { return &t }

// rules parses tensor type rules and gives them with llama-quantize's flags.
func rules(t *testing.T, list ...string) (rs []TensorTypeRule, flags []string) {
	t.Helper()
	for _, s := range list {
		r, err := ParseTensorTypeRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
		flags = append(flags, "--tensor-type", s)
	}
	return rs, flags
}

func overrides(t *testing.T, list ...string) (os []KVOverride, flags []string) {
	t.Helper()
	for _, s := range list {
		o, err := ParseKVOverride(s)
		if err != nil {
			t.Fatal(err)
		}
		os = append(os, o)
		flags = append(flags, "--override-kv", s)
	}
	return os, flags
}

// Every option, alone and where they meet.
func TestOptionsEqualReference(t *testing.T) {
	paths := map[string]string{}
	for _, s := range []spec{tied, untied, moe, odd256} {
		paths[s.name] = s.write(t)
	}
	quantized := untied
	quantized.name, quantized.typ = "quantized", gguf.Q8_0
	paths["quantized"] = quantized.write(t)
	guessed := tied
	guessed.name, guessed.noType = "guessed", true
	paths["guessed"] = guessed.write(t)
	perLayer := untied
	perLayer.name = "perlayer"
	paths["perlayer"] = writeModel(t, filepath.Join(t.TempDir(), "perlayer.gguf"), perLayer.meta(t),
		append(perLayer.tensors(), gguf.TensorInfo{Name: "per_layer_token_embd.weight", Type: gguf.F16, NE: []int64{256, 7}},
			gguf.TensorInfo{Name: "abcde", Type: gguf.F16, NE: []int64{256, 2}}), perLayer)
	fallbacks := odd256
	fallbacks.name, fallbacks.embd, fallbacks.tied = "fallbacks", 96, false
	paths["fallbacks"] = fallbacks.write(t)

	type test struct {
		name, model, ftype string
		o                  Options
		flags              []string
	}
	tests := []test{
		{"pure", "tied", "q4_0", Options{Pure: true}, []string{"--pure"}},
		{"pure mixture", "untied", "q4_k_m", Options{Pure: true}, []string{"--pure"}},
		{"leave output", "untied", "q4_0", Options{LeaveOutputTensor: true}, []string{"--leave-output-tensor"}},
		{"leave output, tied", "tied", "q4_0", Options{LeaveOutputTensor: true}, []string{"--leave-output-tensor"}},
		{"output type", "untied", "q4_k_m", Options{OutputTensorType: ptr(gguf.Q8_0)}, []string{"--output-tensor-type", "Q8_0"}},
		{"output type, tied", "tied", "q4_k_m", Options{OutputTensorType: ptr(gguf.Q5_1)}, []string{"--output-tensor-type", "q5_1"}},
		{"output type, tied, pure", "tied", "q4_k_m", Options{OutputTensorType: ptr(gguf.Q5_1), Pure: true}, []string{"--output-tensor-type", "q5_1", "--pure"}},
		{"output type, tied, not fitting", "odd256", "q4_k_m", Options{OutputTensorType: ptr(gguf.Q4_K)}, []string{"--output-tensor-type", "q4_K"}},
		{"token type", "tied", "q4_0", Options{TokenEmbeddingType: ptr(gguf.Q8_0)}, []string{"--token-embedding-type", "q8_0"}},
		{"token and output type", "untied", "f16", Options{TokenEmbeddingType: ptr(gguf.Q4_1), OutputTensorType: ptr(gguf.BF16)}, []string{"--token-embedding-type", "q4_1", "--output-tensor-type", "bf16"}},
		{"nvfp4 output", "untied", "q4_0", Options{OutputTensorType: ptr(gguf.NVFP4)}, []string{"--output-tensor-type", "nvfp4"}},
		{"per layer embedding", "perlayer", "q4_0", Options{TokenEmbeddingType: ptr(gguf.Q8_0)}, []string{"--token-embedding-type", "q8_0"}},
		{"requantize", "quantized", "q4_0", Options{AllowRequantize: true}, []string{"--allow-requantize"}},
		{"same type", "quantized", "q8_0", Options{}, nil},
		{"copy quantized", "quantized", "copy", Options{}, nil},
		{"copy without file type", "guessed", "COPY", Options{}, nil},
		{"copy with output type", "untied", "copy", Options{OutputTensorType: ptr(gguf.Q4_0)}, []string{"--output-tensor-type", "q4_0"}},
		{"number", "tied", "15", Options{}, nil},
		{"number of F32", "tied", "0", Options{}, nil},
		{"prune", "tied", "q4_k_m", Options{PruneLayers: []int{3, 0, 9, 3}}, []string{"--prune-layers", "3,0,9,3"}},
		{"prune last", "moe", "q4_0", Options{PruneLayers: []int{7, 100}}, []string{"--prune-layers", "7,100"}},
		{"threads", "moe", "q4_0", Options{Threads: 1}, nil},
		{"fallbacks", "fallbacks", "q6_k", Options{}, nil},
	}
	withRules := func(name, model, ftype string, o Options, flags []string, list ...string) {
		rs, more := rules(t, list...)
		o.TensorTypes = rs
		tests = append(tests, test{name, model, ftype, o, append(flags, more...)})
	}
	withRules("rules", "untied", "q4_0", Options{}, nil, "attn_Q=Q8_0", "attn_(k|v)=q5_k", `blk\.(1[0-2]|7)\.ffn=q3_k`, "attn_v=f16")
	withRules("rules count no layers", "tied", "q4_k_m", Options{}, nil, `blk\.[0-3]\.(attn_v|ffn_down)=q5_0`)
	withRules("rules and pure", "tied", "q4_0", Options{Pure: true}, []string{"--pure"}, "token_embd=q6_k", "^blk.*norm=q4_0")
	withRules("rules on a plain type", "tied", "f16", Options{}, nil, "attn=q8_0")
	withRules("rules do not fit", "odd256", "q4_0", Options{}, nil, "attn_k=q6_k", "attn_q=q4_k", "ffn_up=iq4_xs", "attn_v=tq1_0")
	withRules("rule for the output", "untied", "q4_0", Options{}, nil, "output=q5_k", "token_embd=bf16")
	withRules("rule for per layer embedding", "perlayer", "q4_0", Options{TokenEmbeddingType: ptr(gguf.Q8_0)}, []string{"--token-embedding-type", "q8_0"}, "per_layer=q5_1", "token_embd=q4_1")
	withOverrides := func(name, model, ftype string, o Options, flags []string, list ...string) {
		os, more := overrides(t, list...)
		o.OverrideKV = os
		tests = append(tests, test{name, model, ftype, o, append(flags, more...)})
	}
	withOverrides("overrides", "tied", "q4_0", Options{}, nil,
		"general.name=str:눈", "a.new=float:0.1", "test.i8=int:-5", "b.new=bool:true", "a.new=int:7", "general.file_type=int:3", "c=str:a=b:c")
	withOverrides("overrides change the rules", "untied", "q2_k", Options{}, nil, "llama.attention.head_count_kv=int:8", "llama.block_count=int:64", "llama.block_count=int:7")
	withOverrides("overrides make other experts", "moe", "q3_k_m", Options{}, nil, "qwen3moe.expert_count=int:4")
	withOverrides("override of the architecture", "untied", "q4_0", Options{}, nil, "general.architecture=str:qwen2", "qwen2.block_count=int:40",
		"qwen2.context_length=int:9", "qwen2.embedding_length=int:512", "qwen2.attention.layer_norm_rms_epsilon=float:1e-6")
	withOverrides("override of the file type, copy", "tied", "copy", Options{}, nil, "general.file_type=int:7")

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			compare(t, paths[tt.model], tt.ftype, tt.o, tt.flags...)
		})
	}
}

// The ways to use an importance matrix.
func TestImatrixOptionsEqualReference(t *testing.T) {
	in, inMoE := tied.write(t), moe.write(t)
	dir := t.TempDir()
	matrix := writeImatrix(t, filepath.Join(dir, "im.gguf"), tied.tensors())
	matrixMoE := writeImatrix(t, filepath.Join(dir, "moe.gguf"), moe.tensors())
	dat := writeDat(t, filepath.Join(dir, "im.dat"), importances(tied.tensors()), 4, 9, "persona\x00x")
	plain := writeDat(t, filepath.Join(dir, "plain.dat"), importances(tied.tensors()), 0, -1, "")
	deep := filepath.Join(dir, strings.Repeat("백", 60), strings.Repeat("x", 60))
	mkdir(t, deep)
	long := writeImatrix(t, filepath.Join(deep, "im.gguf"), tied.tensors())
	for _, tt := range []struct {
		name, in, ftype string
		o               Options
		flags           []string
	}{
		{"dat", in, "q4_0", Options{Imatrix: dat}, []string{"--imatrix", dat}},
		{"dat without calls and dataset", in, "q4_k_s", Options{Imatrix: plain}, []string{"--imatrix", plain}},
		{"long path", in, "q4_0", Options{Imatrix: long}, []string{"--imatrix", long}},
		{"include", in, "q4_0", Options{Imatrix: matrix, IncludeWeights: []string{"attn_v", "blk.1."}}, []string{"--imatrix", matrix, "--include-weights", "attn_v", "--include-weights", "blk.1."}},
		{"exclude", in, "q5_0", Options{Imatrix: matrix, ExcludeWeights: []string{"ffn"}}, []string{"--imatrix", matrix, "--exclude-weights", "ffn"}},
		{"exclude all", in, "q4_0", Options{Imatrix: matrix, ExcludeWeights: []string{"weight"}}, []string{"--imatrix", matrix, "--exclude-weights", "weight"}},
		{"other model without fitting names", inMoE, "q4_k_m", Options{Imatrix: matrix, ExcludeWeights: []string{"attn"}}, []string{"--imatrix", matrix, "--exclude-weights", "attn"}},
		{"prune", inMoE, "q4_0", Options{Imatrix: matrixMoE, PruneLayers: []int{1, 2}}, []string{"--imatrix", matrixMoE, "--prune-layers", "1,2"}},
		{"pure", inMoE, "q3_k", Options{Imatrix: matrixMoE, Pure: true}, []string{"--imatrix", matrixMoE, "--pure"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			compare(t, tt.in, tt.ftype, tt.o, tt.flags...)
		})
	}
}

// Split models, read as one and kept apart.
func TestSplitsEqualReference(t *testing.T) {
	s := untied
	s.shards = 3
	in := s.write(t)
	single := tied.write(t)
	for _, tt := range []struct {
		name, in string
		n        int
		o        Options
		flags    []string
	}{
		{"joined", in, 0, Options{}, nil},
		{"kept", in, 3, Options{KeepSplit: true}, []string{"--keep-split"}},
		{"kept and pruned", in, 3, Options{KeepSplit: true, PruneLayers: []int{2}}, []string{"--keep-split", "--prune-layers", "2"}},
		{"kept single", single, 1, Options{KeepSplit: true}, []string{"--keep-split"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.n == 0 {
				compare(t, tt.in, "q4_k_m", tt.o, tt.flags...)
				return
			}
			dir := t.TempDir()
			mkdir(t, filepath.Join(dir, "want"))
			mkdir(t, filepath.Join(dir, "got"))
			if msg, err := runReference(t, append(slices.Clone(tt.flags), tt.in, filepath.Join(dir, "want", "m.gguf"), "q4_k_m")...); err != nil {
				t.Fatalf("%v\n%s", err, msg)
			}
			r := ours(t, tt.in, filepath.Join(dir, "got", "m.gguf"), "q4_k_m", tt.o)
			if len(r.Paths) != tt.n {
				t.Fatalf("got the files %v, want %d", r.Paths, tt.n)
			}
			for _, path := range r.Paths {
				sameFile(t, path, filepath.Join(dir, "want", filepath.Base(path)))
			}
		})
	}
}

// A file with another alignment: llama-quantize lays it out by 32 in spite of
// the key, so that it cannot be opened; ours can.
func TestAlignment(t *testing.T) {
	s := tied
	s.align = 128
	out := filepath.Join(t.TempDir(), "out.gguf")
	ours(t, s.write(t), out, "q4_0", Options{})
	f, err := gguf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Alignment != 128 || f.DataOffset%128 != 0 {
		t.Errorf("alignment: got %d and data at %d, want 128", f.Alignment, f.DataOffset)
	}
}

// Without a name the output goes where llama-quantize puts it.
func TestDefaultOutput(t *testing.T) {
	in := tied.write(t)
	r := ours(t, in, "", "15", Options{})
	want := filepath.Join(filepath.Dir(in), "ggml-model-Q4_K.gguf")
	if !slices.Equal(r.Paths, []string{want}) {
		t.Errorf("got %v, want %s", r.Paths, want)
	}
	if _, err := DefaultOutput(in, "Q9"); err == nil {
		t.Error("no error for an unknown type")
	}
}
