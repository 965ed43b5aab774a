package llama

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

const qwen2Vocab = "../llamacpp/models/ggml-vocab-qwen2.gguf"

func vocabModel(t *testing.T, path string) *Model {
	t.Helper()
	m, err := LoadModel(path, ModelParams{VocabOnly: true, UseMMap: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestBackends(t *testing.T) {
	bs, err := Backends()
	if err != nil {
		t.Fatal(err)
	}
	cpu := false
	for _, b := range bs {
		cpu = cpu || b.Name == "CPU"
		if filepath.Dir(b.File) != LibraryDir() || !strings.HasPrefix(filepath.Base(b.File), "libggml-") {
			t.Errorf("backend %s: got file %s, want a libggml-… in %s", b.Name, b.File, LibraryDir())
		}
	}
	ds, err := Devices()
	if err != nil || !cpu {
		t.Fatalf("got backends %v, error %v, want CPU among them", bs, err)
	}
	for _, d := range ds {
		if d.Name == "" || d.Kind == "" || d.Backend == "" || d.Total == 0 || d.Free > d.Total {
			t.Errorf("device: got %+v", d)
		}
	}
	features, err := CPUFeatures()
	if err != nil || len(features) == 0 {
		t.Errorf("CPU features: got %v, %v", features, err)
	}
	if version, commit := BuildInfo(); version != "0.5.0" || len(commit) < 7 {
		t.Errorf("build info: got %q %q", version, commit)
	}
	if n := DefaultThreads(); n < 1 || n > runtime.NumCPU() {
		t.Errorf("default threads: got %d", n)
	}
}

func TestModelNumbers(t *testing.T) {
	tiny := tinymodel.Random(tinymodel.Options{})
	m := loadTiny(t, tiny)
	params := uint64(0)
	for _, x := range tiny.Tensors {
		params += uint64(len(x.Data))
	}
	if m.NumParams() != params || m.Size() != 4*params {
		t.Errorf("got %d weights, %d bytes, want %d, %d", m.NumParams(), m.Size(), params, 4*params)
	}
	if m.NCtxTrain() != 1024 || m.NEmbd() != 32 || m.NLayer() != 2 || m.NVocab() != 259 || !m.HasDecoder() || m.HasEncoder() || m.Recurrent() {
		t.Errorf("got %d %d %d %d", m.NCtxTrain(), m.NEmbd(), m.NLayer(), m.NVocab())
	}
	if m.BOS() != 256 || m.EOS() != 258 || !m.IsEOG(m.EOT()) || m.AddBOS() || m.NL() != 10 {
		t.Errorf("special tokens: got bos %d eos %d eot %d nl %d", m.BOS(), m.EOS(), m.EOT(), m.NL())
	}
	if !m.IsEOG(258) || m.IsEOG(65) || m.IsEOG(-1) || m.IsEOG(259) {
		t.Error("wrong end tokens")
	}
	if !strings.HasPrefix(m.Desc(), "qwen3") {
		t.Errorf("desc: got %q", m.Desc())
	}
	if v, ok := m.Meta("qwen3.context_length"); !ok || v != "1024" {
		t.Errorf("meta: got %q %v", v, ok)
	}
	if _, ok := m.Meta("no.such.key"); ok {
		t.Error("meta: a key that is not there")
	}
	if all := m.MetaAll(); all["general.architecture"] != "qwen3" || all["tokenizer.ggml.pre"] != "qwen2" {
		t.Errorf("all meta: got %v", all)
	}
}

func TestTokenizerRoundTrip(t *testing.T) {
	for _, name := range []string{"qwen2", "llama-spm", "llama-bpe", "gpt-2", "command-r"} {
		m := vocabModel(t, "../llamacpp/models/ggml-vocab-"+name+".gguf")
		for _, text := range []string{"Hello, world!", "안녕하세요, 저는 백설공주예요.", "a\n\n b\t  c", "🍎 apple", strings.Repeat("long text ", 500)} {
			tokens, err := m.Tokenize(text, false, false)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			back, err := m.Detokenize(tokens, true, false)
			if err != nil || strings.TrimPrefix(back, " ") != text {
				t.Errorf("%s: got %q, %v, want %q", name, back[:min(len(back), 60)], err, text[:min(len(text), 60)])
			}
			var pieces []byte
			for _, tok := range tokens {
				p, err := m.TokenBytes(tok, false)
				if err != nil {
					t.Fatal(err)
				}
				pieces = append(pieces, p...)
			}
			if strings.TrimPrefix(string(pieces), " ") != text {
				t.Errorf("%s: pieces of %.40q do not join to it", name, text)
			}
		}
		if tokens, err := m.Tokenize("", false, false); err != nil || len(tokens) != 0 {
			t.Errorf("%s: empty text: got %v, %v", name, tokens, err)
		}
	}
}

func TestTokenizerSpecial(t *testing.T) {
	m := vocabModel(t, qwen2Vocab)
	const text = "<|im_start|>user\n\x00hi<|im_end|>"
	tokens, err := m.Tokenize(text, false, true)
	if err != nil || tokens[0] != 151644 || tokens[len(tokens)-1] != 151645 {
		t.Fatalf("got %v, %v", tokens, err)
	}
	plain, err := m.Tokenize(text, false, false)
	if err != nil || len(plain) <= len(tokens) || plain[0] == 151644 {
		t.Errorf("without parsing: got %v, %v", plain, err)
	}
	if s, err := m.Detokenize(tokens, false, true); err != nil || s != text {
		t.Errorf("got %q, %v", s, err)
	}
	if b, err := m.TokenBytes(151645, false); err != nil || len(b) != 0 {
		t.Errorf("control token as text: got %q, %v", b, err)
	}
	if b, err := m.TokenBytes(151645, true); err != nil || string(b) != "<|im_end|>" {
		t.Errorf("control token: got %q, %v", b, err)
	}
	if s, err := m.TokenText(198); err != nil || s != "Ċ" {
		t.Errorf("token text: got %q, %v", s, err)
	}
	if m.TokenAttr(151645)&AttrControl == 0 || m.TokenAttr(198)&AttrNormal == 0 || m.TokenAttr(-5) != 0 {
		t.Error("wrong attributes")
	}
	for _, bad := range []Token{-1, 151936, 1 << 30} {
		if _, err := m.TokenBytes(bad, true); err == nil {
			t.Errorf("token %d: no error", bad)
		}
		if _, err := m.Detokenize([]Token{5, bad}, false, true); err == nil || !strings.Contains(err.Error(), "token 1") {
			t.Errorf("token %d: got %v", bad, err)
		}
	}
	// Bytes that are no UTF-8 must not end the process, whatever becomes of them.
	for _, s := range []string{"\xff\xfe", "a\xc3", "\xed\xa0\x80", strings.Repeat("\x80", 5000)} {
		if tokens, err := m.Tokenize(s, true, true); err == nil && len(tokens) == 0 {
			t.Errorf("%q: no tokens and no error", s[:2])
		}
	}
}

// badModels are one way each to be no model that can be loaded.
func badModels(t *testing.T) map[string]func(path string) error {
	whole := filepath.Join(t.TempDir(), "whole.gguf")
	if err := tinymodel.Random(tinymodel.Options{}).Write(whole); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	bytes := func(b []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, b, 0o644) }
	}
	with := func(key string, v any) func(string) error {
		return func(path string) error {
			m := tinymodel.Random(tinymodel.Options{})
			m.Set(key, v)
			return m.Write(path)
		}
	}
	missing := func(path string) error {
		m := tinymodel.Random(tinymodel.Options{})
		m.Tensors = m.Tensors[:len(m.Tensors)-1]
		return m.Write(path)
	}
	return map[string]func(string) error{
		"empty":           bytes(nil),
		"magic":           bytes(append([]byte("GGML"), data[4:]...)),
		"cut in header":   bytes(data[:1000]),
		"cut in tensors":  bytes(data[:len(data)-500]),
		"arch":            with("general.architecture", "no-such-arch"),
		"no blocks":       with("qwen3.block_count", uint32(0)), // an assert in llama-model.cpp
		"many blocks":     with("qwen3.block_count", uint32(1<<31)),
		"no heads":        with("qwen3.attention.head_count", uint32(0)),
		"epsilon":         with("qwen3.attention.layer_norm_rms_epsilon", float32(-1)), // an assert in a worker
		"equal tokens":    with("tokenizer.ggml.tokens", []string{"a", "a"}),           // an assert in llama-vocab.cpp
		"pre-tokenizer":   with("tokenizer.ggml.pre", "no-such-pre"),
		"wrong type":      with("qwen3.embedding_length", "32"),
		"missing tensor":  missing,
		"feed forward":    with("qwen3.feed_forward_length", uint32(65)),
		"embedding":       with("qwen3.embedding_length", uint32(1<<30)),
		"tokenizer model": with("tokenizer.ggml.model", "no-such-tokenizer"),
	}
}

func TestLoadModelErrors(t *testing.T) {
	for name, make := range badModels(t) {
		path := filepath.Join(t.TempDir(), "bad.gguf")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		m, err := LoadModel(path, DefaultModelParams())
		if err == nil {
			m.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if text := err.Error(); !strings.Contains(text, path) || strings.Contains(text, "no reason") || strings.HasSuffix(text, ": ") {
			t.Errorf("%s: got %q, want the path and a reason", name, text)
		}
	}
	for name, path := range map[string]string{"missing": "/no/such/file.gguf", "folder": t.TempDir(), "zero byte": "a\x00b"} {
		if _, err := LoadModel(path, DefaultModelParams()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestLoadModelMutated loads files with a few bytes changed: whatever they are
// called, they must not end the process.
func TestLoadModelMutated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := tinymodel.Random(tinymodel.Options{Blocks: 1}).Write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const header = 12000 // bytes before the tensors, about
	state := uint64(1)
	random := func(n int) int { // xorshift64
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		return int(state % uint64(n))
	}
	failed := 0
	for range 150 {
		bad := append([]byte(nil), data...)
		for range 1 + random(3) {
			bad[4+random(header)] = []byte{0, 1, 0x7f, 0x80, 0xff}[random(5)]
		}
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := useOnce(path); err != nil {
			failed++
		}
	}
	if failed == 0 || failed == 150 {
		t.Errorf("%d of 150 files failed: the changes do not test anything", failed)
	}
}

func useOnce(path string) error {
	m, err := LoadModel(path, DefaultModelParams())
	if err != nil {
		return err
	}
	defer m.Close()
	p := DefaultContextParams()
	p.NCtx, p.Threads = 64, 1
	c, err := m.NewContext(p)
	if err != nil {
		return err
	}
	defer c.Close()
	tokens, err := m.Tokenize("hello 안녕<|im_end|>", true, true)
	if err != nil {
		return err
	}
	return c.DecodeTokens(tokens, 0, 0, LogitsLast)
}

func TestLoadModelParamErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := tinymodel.Random(tinymodel.Options{}).Write(path); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ModelParams){
		"main gpu":     func(p *ModelParams) { p.MainGPU = -1 },
		"split":        func(p *ModelParams) { p.TensorSplit = make([]float32, 17) },
		"share":        func(p *ModelParams) { p.TensorSplit = []float32{-1} },
		"split mode":   func(p *ModelParams) { p.SplitMode = 9 },
		"no such mode": func(p *ModelParams) { p.SplitMode = -1 },
	} {
		p := DefaultModelParams()
		change(&p)
		if _, err := LoadModel(path, p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, p := range []ModelParams{{}, {UseMMap: true, UseMLock: true}, {CheckTensors: true, GPULayers: 1 << 40}, {TensorSplit: []float32{1, 2}}} {
		m, err := LoadModel(path, p)
		if err != nil {
			t.Errorf("%+v: %v", p, err)
			continue
		}
		m.Close()
	}
}

func TestLoadModelProgress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := tinymodel.Random(tinymodel.Options{}).Write(path); err != nil {
		t.Fatal(err)
	}
	var seen []float32
	p := DefaultModelParams()
	p.Progress = func(x float32) bool { seen = append(seen, x); return true }
	m, err := LoadModel(path, p)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if len(seen) < 2 || seen[len(seen)-1] != 1 {
		t.Errorf("progress: got %v, want it to end at 1", seen)
	}
	p.Progress = func(x float32) bool { return false }
	if _, err := LoadModel(path, p); !errors.Is(err, ErrAborted) {
		t.Errorf("cancelled: got %v, want ErrAborted", err)
	}
	p.Progress = func(x float32) bool { panic("stop") }
	if got := catch(func() { LoadModel(path, p) }); got != "stop" {
		t.Errorf("panic in the callback: got %v, want it raised again", got)
	}
}

// TestErrorsAtTheSameTime makes sure that log lines do not get mixed up.
func TestErrorsAtTheSameTime(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			arch := "arch-" + string(rune('a'+i))
			path := filepath.Join(dir, arch+".gguf")
			m := tinymodel.Random(tinymodel.Options{Blocks: 1})
			m.Set("general.architecture", arch)
			if err := m.Write(path); err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				_, err := LoadModel(path, DefaultModelParams())
				if err == nil || !strings.Contains(err.Error(), "'"+arch+"'") {
					t.Errorf("%s: got %v", arch, err)
				}
				var e *Error
				if !errors.As(err, &e) {
					t.Errorf("%s: got %T", arch, err)
					continue
				}
				for _, line := range e.Log {
					if strings.Contains(line, "arch-") && !strings.Contains(line, arch) {
						t.Errorf("%s: a line of another call: %s", arch, line)
					}
				}
			}
		}()
	}
	wg.Wait()
}

// TestAssertBecomesError reaches a real assert of ggml's C code.
func TestAssertBecomesError(t *testing.T) {
	row := make([]byte, 4*256)
	dst := make([]byte, 66)
	err := encodeRows(dst, 16 /* IQ2_XXS */, row, 0, 1, 256, nil, false)
	if !errors.Is(err, errAssert) || !strings.Contains(err.Error(), "imatrix != NULL") {
		t.Errorf("got %v", err)
	}
	if err := EncodeRows(make([]byte, 18), 2, make([]byte, 128), 0, 32, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLogger(t *testing.T) {
	var mu sync.Mutex
	var lines strings.Builder
	SetLogger(func(level int, text string) {
		mu.Lock()
		defer mu.Unlock()
		lines.WriteString(text)
	})
	tinyModel(t, tinymodel.Options{}).Close()
	SetLogger(nil)
	mu.Lock()
	defer mu.Unlock()
	n := lines.Len()
	if !strings.Contains(lines.String(), "general.architecture") {
		t.Errorf("got %d bytes of log without the metadata", n)
	}
}

// TestNothingIsPrinted looks at the file descriptors, where C would write.
func TestNothingIsPrinted(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	if err := os.WriteFile(bad, []byte("GGUFxxxxxxxxxxxxxxxxxxxxxxxx"), 0o644); err != nil {
		t.Fatal(err)
	}
	printed := capture(t, func() {
		if _, err := LoadModel(bad, DefaultModelParams()); err == nil {
			t.Error("no error")
		}
		tm, err := NewChatTemplate(m, "")
		if err != nil {
			t.Error(err)
			return
		}
		defer tm.Close()
		tools := []byte(`[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]`)
		o := DefaultChatOptions()
		o.Tools = tools
		_, _ = tm.Render([]ChatMessage{{Role: "user", Content: "x"}}, o)
		_, _ = NewChatTemplate(m, "{% if %}")
		_, _ = NewSampler(m, SamplerParams{Grammar: "root ::= (", RepeatPenalty: 1})
	})
	if printed != "" {
		t.Errorf("printed: %q", printed)
	}
}
