package llama

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

func TestNewErrors(t *testing.T) {
	dir := t.TempDir()
	good := write(t, tinymodel.Random(tinymodel.Options{}))
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("not a model"), 0o644); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for _, test := range []struct {
		name, path, want string
		opts             []ModelOption
	}{
		{"no file", missing, missing, nil},
		{"empty path", "", "load", nil},
		{"not a model", text, text, nil},
		{"main GPU", good, `main GPU: got "first"`, []ModelOption{SetMainGPU("first")}},
		{"main GPU below 0", good, `main GPU: got "-1"`, []ModelOption{SetMainGPU("-1")}},
		{"tensor split", good, `share 2: got "x"`, []ModelOption{SetTensorSplit("1,x")}},
		{"tensor split below 0", good, `share 1: got "-1"`, []ModelOption{SetTensorSplit("-1")}},
		{"tensor split of nothing", good, "tensor split", []ModelOption{SetTensorSplit(",/")}},
		{"tensor split too long", good, "tensor split", []ModelOption{SetTensorSplit(strings.Repeat("1,", 1000))}},
		{"context size", good, "context size: got -1", []ModelOption{SetContext(-1)}},
		{"rope base", good, "rope frequency base: got -5", []ModelOption{WithRopeFreqBase(-5)}},
		{"rope scale", good, "rope frequency scale: got -5", []ModelOption{WithRopeFreqScale(-5)}},
		{"adapter not there", good, missing, []ModelOption{SetLoraAdapter(missing)}},
		{"adapter of text", good, text, []ModelOption{SetLoraAdapter(text)}},
		{"adapter that is a model", good, "adapter", []ModelOption{SetLoraAdapter(good)}},
	} {
		l, err := New(test.path, test.opts...)
		if err == nil || l != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, error %v, want nil and an error with %q", test.name, l, err, test.want)
		}
	}
}

func TestNewReadsGPUOptions(t *testing.T) {
	for s, want := range map[string][]float32{"": nil, "3": {3}, "3,1": {3, 1}, "3/1": {3, 1}, " 0.5 , 2 ": {0.5, 2}, "1,/2": {1, 2}} {
		if got, err := parseTensorSplit(s); err != nil || !slices.Equal(got, want) {
			t.Errorf("parseTensorSplit(%q): got %v, %v, want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]int{"": 0, "0": 0, "2": 2, " 3 ": 3} {
		if got, err := parseMainGPU(s); err != nil || got != want {
			t.Errorf("parseMainGPU(%q): got %v, %v, want %v", s, got, err, want)
		}
	}
	l := random(t, SetMainGPU("0"), SetTensorSplit("3,1"), SetGPULayers(10))
	if got := predict(t, l, "a", SetTokens(3)); len(got) == 0 {
		t.Error("model with GPU options gives no answer")
	}
}

func TestNewTakesEveryOption(t *testing.T) {
	path := write(t, tinymodel.Random(tinymodel.Options{}))
	want := predict(t, open(t, path), "hello", SetTokens(20))
	for name, opts := range map[string][]ModelOption{
		"without effect":   {EnabelLowVRAM, EnableF16Memory, SetMulMatQ(false), SetLoraBase("nothing"), SetPerplexity(true), SetModelSeed(3)},
		"no mmap":          {SetMMap(false)},
		"NUMA":             {EnableNUMA},
		"NUMA again":       {EnableNUMA},
		"all layers":       {SetGPULayers(-1)},
		"more layers":      {SetGPULayers(1 << 40)},
		"default batch":    {SetNBatch(0)},
		"batch below 0":    {SetNBatch(-7)},
		"training context": {SetContext(0)},
	} {
		l := open(t, path, opts...)
		if got := predict(t, l, "hello", SetTokens(20)); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := open(t, path, SetContext(0)).memory.c.NCtx(); got != 1024 {
		t.Errorf("context size 0: got %d positions, want the model's 1024", got)
	}
	if got := open(t, path, SetContext(128)).memory.c.NCtx(); got < 128 {
		t.Errorf("context size 128: got %d positions, want at least 128", got)
	}
}

func TestRopeDefaultsAreTheModels(t *testing.T) {
	// A model of base 1e6, as Qwen3's: the default options must not change it.
	path := write(t, tinymodel.Random(tinymodel.Options{RopeBase: 1e6}))
	embed := func(opts ...ModelOption) []float32 {
		t.Helper()
		got, err := open(t, path, append(opts, EnableEmbeddings)...).Embeddings("a text long enough for positions to count", SetThreads(1))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := embed()
	for name, test := range map[string]struct {
		opts []ModelOption
		same bool
	}{
		"base 0":      {[]ModelOption{WithRopeFreqBase(0)}, true},
		"base 10000":  {[]ModelOption{WithRopeFreqBase(10000)}, true},
		"base 1e6":    {[]ModelOption{WithRopeFreqBase(1e6)}, true},
		"base 9999":   {[]ModelOption{WithRopeFreqBase(9999)}, false},
		"scale 0":     {[]ModelOption{WithRopeFreqScale(0)}, true},
		"scale 1":     {[]ModelOption{WithRopeFreqScale(1)}, true},
		"scale 0.5":   {[]ModelOption{WithRopeFreqScale(0.5)}, false},
		"both of old": {[]ModelOption{WithRopeFreqBase(10000), WithRopeFreqScale(1)}, true},
	} {
		if got := embed(test.opts...); slices.Equal(got, want) != test.same {
			t.Errorf("%s: embedding is the default's: got %v, want %v", name, !test.same, test.same)
		}
	}
}

func TestLoraAdapter(t *testing.T) {
	m := tinymodel.Random(tinymodel.Options{})
	path, adapter := write(t, m), write(t, tinymodel.LoRA(m, "lora", 4))
	plain, adapted := open(t, path, SetContext(256)), open(t, path, SetContext(256), SetLoraAdapter(adapter))
	a, b := predict(t, plain, "hello", SetTokens(30)), predict(t, adapted, "hello", SetTokens(30))
	if a == b {
		t.Errorf("answers with and without the adapter are the same: %q", a)
	}
	// The guiding run and a draft of its own have the adapter as well.
	if got := predict(t, adapted, "hello", SetTokens(30), SetNegativePrompt("hello"), SetNegativePromptScale(2)); got != b {
		t.Errorf("guided by the prompt itself: got %q, want %q", got, b)
	}
	if d := runDraft(t, adapted, adapted, "hello", SetTokens(30)); d.accepted != d.proposed {
		t.Errorf("draft by itself: accepted %d of %d, want all", d.accepted, d.proposed)
	}
}

func TestUseAfterFree(t *testing.T) {
	l := random(t, EnableEmbeddings)
	state := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(l.Eval("a"), l.SaveState(state)); err != nil {
		t.Fatal(err)
	}
	l.Free()
	l.Free()
	for _, l := range []*LLama{l, nil, {}} {
		l.Free()
		calls := map[string]func() error{
			"Predict":             func() error { _, err := l.Predict("a"); return err },
			"Eval":                func() error { return l.Eval("a") },
			"Embeddings":          func() error { _, err := l.Embeddings("a"); return err },
			"TokenEmbeddings":     func() error { _, err := l.TokenEmbeddings([]int{1}); return err },
			"TokenizeString":      func() error { _, _, err := l.TokenizeString("a"); return err },
			"SpeculativeSampling": func() error { _, err := l.SpeculativeSampling(l, "a"); return err },
			"SaveState":           func() error { return l.SaveState(state) },
			"LoadState":           func() error { return l.LoadState(state) },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Free: got error %v, want %v", name, err, ErrClosed)
			}
		}
		if l != nil {
			l.SetTokenCallback(func(string) bool { return true })
			l.SetTokenCallback(nil)
		}
	}
}

func TestFreeEndsCallsInProgress(t *testing.T) {
	l := chain(t, letters)
	started := make(chan struct{})
	var once sync.Once
	l.SetTokenCallback(func(string) bool { once.Do(func() { close(started) }); return true })
	var wg sync.WaitGroup
	for range 3 { // one runs, two wait for it
		wg.Go(func() {
			if _, err := l.Predict("z", SetTokens(0), SetThreads(1)); !errors.Is(err, ErrClosed) {
				t.Errorf("predict without an end: got error %v, want %v", err, ErrClosed)
			}
		})
	}
	<-started
	l.Free()
	wg.Wait()
}

func TestConcurrentPredict(t *testing.T) {
	path := write(t, tinymodel.Random(tinymodel.Options{}))
	models := []*LLama{open(t, path), open(t, path, EnableEmbeddings)}
	want := predict(t, models[0], "hello", SetTokens(25))
	var wg sync.WaitGroup
	for i := range 8 {
		l := models[i%2]
		wg.Go(func() {
			got, err := l.Predict("hello", append(slices.Clone(likeliestOnly), SetTokens(25), SetTokenCallback(func(string) bool { return true }))...)
			if err != nil || got != want {
				t.Errorf("answer: got %q, %v, want %q", got, err, want)
			}
		})
		wg.Go(func() {
			if n, _, err := l.TokenizeString("hello"); n != 5 || err != nil {
				t.Errorf("tokens: got %d, %v, want 5", n, err)
			}
		})
	}
	wg.Go(func() {
		if _, err := models[1].Embeddings("hello"); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
}
