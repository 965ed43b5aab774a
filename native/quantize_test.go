package llama

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// quantizable is a model whose rows are long enough for every type.
func quantizable(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.gguf")
	if err := tinymodel.Random(tinymodel.Options{Embd: 256, FF: 256, HeadDim: 64}).Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func fileBytes(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestQuantizeFile compares with llama-quantize of the same build.
func TestQuantizeFile(t *testing.T) {
	in := quantizable(t)
	dir := t.TempDir()
	for _, name := range []string{"Q4_0", "Q4_K_M", "Q8_0", "F16", "BF16"} {
		f, err := ParseFType(name)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, name+".gguf")
		var seen []int
		total := 0
		err = QuantizeFile(in, out, DefaultQuantizeParams(f), func(done, all int) {
			seen, total = append(seen, done), all
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) < 3 || seen[0] != 0 || seen[len(seen)-1] != total || total == 0 {
			t.Errorf("%s: progress: got %v of %d", name, seen, total)
		}
		ref := filepath.Join(dir, "ref.gguf")
		tool, err := filepath.Abs("../bin/llama-quantize")
		if err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(tool, in, ref, name).CombinedOutput(); err != nil {
			t.Fatalf("llama-quantize: %v\n%s", err, msg)
		}
		if string(fileBytes(t, out)) != string(fileBytes(t, ref)) {
			t.Errorf("%s: not the bytes of llama-quantize", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestQuantizeOptions(t *testing.T) {
	in := quantizable(t)
	out := filepath.Join(t.TempDir(), "out.gguf")
	f, _ := ParseFType("Q4_0")
	plain := DefaultQuantizeParams(f)
	if err := QuantizeFile(in, out, plain, nil); err != nil {
		t.Fatal(err)
	}
	base := string(fileBytes(t, out))
	imatrix := map[string][]float32{}
	for _, n := range []string{"attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up", "ffn_down", "attn_output"} {
		for _, blk := range []string{"blk.0.", "blk.1."} {
			v := make([]float32, 256)
			for i := range v {
				v[i] = float32(1 + i%7)
			}
			imatrix[blk+n+".weight"] = v
		}
	}
	q6, q5 := TensorType(14), TensorType(6)
	for name, change := range map[string]func(*QuantizeParams){
		"pure":      func(p *QuantizeParams) { p.Pure = true },
		"output":    func(p *QuantizeParams) { p.OutputTensorType = &q5 },
		"embedding": func(p *QuantizeParams) { p.TokenEmbeddingType = &q6 },
		"leave":     func(p *QuantizeParams) { p.QuantizeOutputTensor = false },
		"rule":      func(p *QuantizeParams) { p.TensorTypes = []TensorTypeRule{{"attn_v", q6}, {"ffn_.*", q5}} },
		"imatrix":   func(p *QuantizeParams) { p.Imatrix = imatrix },
		"copy":      func(p *QuantizeParams) { p.OnlyCopy = true },
		"prune":     func(p *QuantizeParams) { p.PruneLayers = []int{1} },
		"override": func(p *QuantizeParams) {
			p.KVOverrides = []KVOverride{{"my.text", "값"}, {"my.int", int64(5)}, {"my.float", 0.5}, {"my.bool", true}}
		},
	} {
		p := plain
		change(&p)
		if err := QuantizeFile(in, out, p, nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := string(fileBytes(t, out))
		if got == base {
			t.Errorf("%s: it makes no difference", name)
		}
		if name == "override" && (!strings.Contains(got, "my.text") || !strings.Contains(got, "값")) {
			t.Errorf("override: the keys are not there")
		}
	}
	dry := plain
	dry.DryRun = true
	none := filepath.Join(t.TempDir(), "none.gguf")
	if err := QuantizeFile(in, none, dry, nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("dry run: it wrote a file")
	}
}

func TestQuantizeErrors(t *testing.T) {
	in := quantizable(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.gguf")
	if err := os.WriteFile(out, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	q4, _ := ParseFType("Q4_0")
	iq, _ := ParseFType("IQ2_XXS")
	quantized := filepath.Join(t.TempDir(), "q8.gguf")
	q8, _ := ParseFType("Q8_0")
	if err := QuantizeFile(in, quantized, DefaultQuantizeParams(q8), nil); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	if err := os.WriteFile(bad, fileBytes(t, in)[:5000], 0o644); err != nil {
		t.Fatal(err)
	}
	q8k := TensorType(15)
	with := func(change func(*QuantizeParams)) QuantizeParams {
		p := DefaultQuantizeParams(q4)
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		in, out string
		p       QuantizeParams
		reason  string
	}{
		"missing":    {"/no/such.gguf", out, DefaultQuantizeParams(q4), "no such file"},
		"folder":     {dir, out, DefaultQuantizeParams(q4), "regular"},
		"cut":        {bad, out, DefaultQuantizeParams(q4), "failed to read"},
		"output":     {in, "/no/such/folder/out.gguf", DefaultQuantizeParams(q4), "no such file"},
		"requantize": {quantized, out, DefaultQuantizeParams(q4), "requantizing"},
		"no imatrix": {in, out, DefaultQuantizeParams(iq), "imatrix"},
		"ftype":      {in, out, DefaultQuantizeParams(4), "file type"},
		"pattern":    {in, out, with(func(p *QuantizeParams) { p.TensorTypes = []TensorTypeRule{{"(", 2}} }), ""},
		"empty":      {in, out, with(func(p *QuantizeParams) { p.TensorTypes = []TensorTypeRule{{"", 2}} }), "pattern"},
		"type":       {in, out, with(func(p *QuantizeParams) { p.OutputTensorType = &q8k }), "q8_K"},
		"size":       {in, out, with(func(p *QuantizeParams) { p.Imatrix = map[string][]float32{"blk.0.attn_q.weight": {1, 2}} }), "imatrix size"},
		"no values":  {in, out, with(func(p *QuantizeParams) { p.Imatrix = map[string][]float32{"x": nil} }), "imatrix"},
		"long key":   {in, out, with(func(p *QuantizeParams) { p.KVOverrides = []KVOverride{{strings.Repeat("k", 128), true}} }), "127"},
		"long text":  {in, out, with(func(p *QuantizeParams) { p.KVOverrides = []KVOverride{{"k", strings.Repeat("v", 128)}} }), "127"},
		"value":      {in, out, with(func(p *QuantizeParams) { p.KVOverrides = []KVOverride{{"k", 5}} }), "type int"},
		"prune":      {in, out, with(func(p *QuantizeParams) { p.PruneLayers = []int{-1} }), "prune"},
		"threads":    {in, out, with(func(p *QuantizeParams) { p.Threads = -1 }), "threads"},
	} {
		err := QuantizeFile(test.in, test.out, test.p, nil)
		if err == nil || !strings.Contains(err.Error(), test.reason) || strings.Contains(err.Error(), "no reason") {
			t.Errorf("%s: got %v, want %q in it", name, err, test.reason)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	last := 0
	err := QuantizeFileContext(ctx, in, out, DefaultQuantizeParams(q4), func(done, total int) {
		if last = done; done == 3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || last != 3 {
		t.Errorf("cancelled at tensor 3: got %v at %d", err, last)
	}
	if got := catch(func() {
		_ = QuantizeFile(in, out, DefaultQuantizeParams(q4), func(done, total int) { panic("stop") })
	}); got != "stop" {
		t.Errorf("panic in the callback: got %v", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || string(fileBytes(t, out)) != "before" {
		t.Errorf("after the errors: got %v, %v, want the old output alone", entries, err)
	}
}
