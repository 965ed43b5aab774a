package llama

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

func TestDecodeInPiecesIsTheSame(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	tokens := mustTokens(t, m, strings.Repeat("Snow White and the seven dwarfs. ", 5)) // 165 tokens, n_batch 64
	want := lastLogits(t, c, tokens, 0)
	if _, err := c.SeqRemove(0, -1, -1); err != nil {
		t.Fatal(err)
	}
	for i, tok := range tokens {
		if err := c.DecodeTokens([]Token{tok}, 0, int32(i), LogitsLast); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Logits(0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "one by one", got, want, 0.02) // the cache is f16
	far(t, "another text", want, lastLogits(t, c, mustTokens(t, m, "other"), 0))
}

func TestDecodeManySequences(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	one := tinyContext(t, m, nil)
	many := tinyContext(t, m, func(p *ContextParams) { p.NSeqMax = 4; p.NCtx = 1024 })
	if many.NSeqMax() != 4 {
		t.Fatalf("n_seq_max: got %d", many.NSeqMax())
	}
	texts := []string{"mirror", "apple", "forest!", "dwarf"}
	var batch []BatchToken
	var last []int
	for s, text := range texts {
		tokens := mustTokens(t, m, text)
		for i, tok := range tokens {
			batch = append(batch, BatchToken{Token: tok, Pos: int32(i), Seqs: []int32{int32(s)}, Logits: i == len(tokens)-1})
		}
		last = append(last, len(batch)-1)
	}
	if err := many.Decode(batch); err != nil {
		t.Fatal(err)
	}
	for s, text := range texts {
		got, err := many.Logits(last[s])
		if err != nil {
			t.Fatal(err)
		}
		near(t, text, got, lastLogits(t, one, mustTokens(t, m, text), 0), 1e-3)
		negative, err := many.Logits(s - len(texts))
		if err != nil {
			t.Fatal(err)
		}
		near(t, text+" counted from the end", negative, got, 0)
	}
	if _, err := many.Logits(0); err == nil || !strings.Contains(err.Error(), "not asked for") {
		t.Errorf("logits that were not asked for: got %v", err)
	}
}

func TestDecodeChecks(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, func(p *ContextParams) { p.NSeqMax = 2; p.KVUnified = true })
	long := make([]BatchToken, 100)
	for i := range long {
		long[i] = BatchToken{Token: 1, Pos: int32(i), Seqs: []int32{0}, Logits: i == 3}
	}
	for name, batch := range map[string][]BatchToken{
		"empty":        {},
		"token":        {{Token: 259, Seqs: []int32{0}}},
		"negative":     {{Token: -1, Seqs: []int32{0}}},
		"position":     {{Token: 1, Pos: -1, Seqs: []int32{0}}},
		"no sequence":  {{Token: 1}},
		"sequence":     {{Token: 1, Seqs: []int32{2}}},
		"sequence -1":  {{Token: 1, Seqs: []int32{-1}}},
		"sequences":    {{Token: 1, Seqs: []int32{0, 1, 0}}},
		"early output": long,
		"gap":          {{Token: 1, Pos: 0, Seqs: []int32{0}}, {Token: 1, Pos: 5, Seqs: []int32{0}}},
	} {
		if err := c.Decode(batch); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, f := range map[string]func() error{
		"no tokens": func() error { return c.DecodeTokens(nil, 0, 0, LogitsLast) },
		"sequence":  func() error { return c.DecodeTokens([]Token{1}, 2, 0, LogitsLast) },
		"position":  func() error { return c.DecodeTokens([]Token{1}, 0, -1, LogitsLast) },
		"overflow":  func() error { return c.DecodeTokens([]Token{1, 2}, 0, math.MaxInt32, LogitsLast) },
		"token":     func() error { return c.DecodeTokens([]Token{1, 1 << 20}, 0, 0, LogitsLast) },
		"outputs":   func() error { return c.DecodeTokens([]Token{1}, 0, 0, 7) },
		"all":       func() error { return c.DecodeTokens(make([]Token, 65), 0, 0, LogitsAll) },
		"far ahead": func() error {
			if err := c.DecodeTokens([]Token{1}, 0, 0, LogitsLast); err != nil {
				t.Fatal(err)
			}
			return c.DecodeTokens([]Token{1}, 0, 100, LogitsLast)
		},
		"logits": func() error { _, err := c.Logits(5); return err },
		"first":  func() error { _, err := c.Logits(-2); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := c.DecodeTokens(make([]Token, 300), 0, 0, LogitsLast); !errors.Is(err, ErrNoKVSlot) {
		t.Errorf("too many tokens: got %v, want ErrNoKVSlot", err)
	}
	if err := c.MemoryClear(true); err != nil {
		t.Fatal(err)
	}
	if err := c.DecodeTokens(make([]Token, 256), 0, 0, LogitsLast); err != nil {
		t.Fatal(err)
	}
	if err := c.DecodeTokens([]Token{1}, 0, 256, LogitsLast); !errors.Is(err, ErrNoKVSlot) {
		t.Errorf("full memory: got %v, want ErrNoKVSlot", err)
	}
	if _, err := c.Logits(-1); err == nil {
		t.Error("logits after a failed decode: no error")
	}
}

func TestContextParamErrors(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	for name, change := range map[string]func(*ContextParams){
		"n_ctx":     func(p *ContextParams) { p.NCtx = -1 },
		"huge":      func(p *ContextParams) { p.NCtx = math.MaxInt32 / 2 },
		"too huge":  func(p *ContextParams) { p.NCtx = math.MaxInt64 },
		"n_batch":   func(p *ContextParams) { p.NBatch = -5 },
		"sequences": func(p *ContextParams) { p.NSeqMax = MaxSequences() + 1 },
		"few":       func(p *ContextParams) { p.NCtx, p.NSeqMax = 3, 4 },
		"threads":   func(p *ContextParams) { p.Threads = 100_000 },
		"pooling":   func(p *ContextParams) { p.Pooling = 17 },
		"attention": func(p *ContextParams) { p.FlashAttn = 5 },
		"type":      func(p *ContextParams) { p.TypeK = 4 },
		"type iq":   func(p *ContextParams) { p.TypeV = 16 },
		"block":     func(p *ContextParams) { p.TypeK = 8; p.FlashAttn = FlashAttnOn }, // Q8_0 rows of 16
		"rope":      func(p *ContextParams) { p.RopeFreqBase = float32(math.NaN()) },
	} {
		p := DefaultContextParams()
		p.NCtx = 128
		change(&p)
		c, err := m.NewContext(p)
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", name)
		} else if !strings.HasPrefix(err.Error(), "new context") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	v := vocabModel(t, qwen2Vocab)
	if _, err := v.NewContext(DefaultContextParams()); err == nil {
		t.Error("a model without weights: no error")
	}
	if _, err := v.LoadAdapter("x"); err == nil {
		t.Error("adapter of a model without weights: no error")
	}
}

func TestCacheTypes(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{HeadDim: 64})
	tokens := mustTokens(t, m, "the same text")
	want := lastLogits(t, tinyContext(t, m, nil), tokens, 0)
	for typ := range cacheTypes {
		c := tinyContext(t, m, func(p *ContextParams) { p.TypeK, p.TypeV = typ, typ })
		tol := 0.05
		if typ.IsQuantized() {
			tol = 3
		}
		near(t, typ.String(), lastLogits(t, c, tokens, 0), want, tol)
		c.Close()
	}
}

func TestMemory(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, func(p *ContextParams) { p.NSeqMax = 2; p.KVUnified = true; p.NCtx = 512 })
	tokens := mustTokens(t, m, "one two three four")
	want := lastLogits(t, c, tokens, 0)
	pos := func(seq, wantMin, wantMax int32) {
		t.Helper()
		lo, err := c.SeqPosMin(seq)
		hi, err2 := c.SeqPosMax(seq)
		if err != nil || err2 != nil || lo != wantMin || hi != wantMax {
			t.Errorf("sequence %d: got positions %d to %d, want %d to %d", seq, lo, hi, wantMin, wantMax)
		}
	}
	n := int32(len(tokens))
	pos(0, 0, n-1)
	pos(1, -1, -1)
	if err := c.SeqCopy(0, 1, -1, n-1); err != nil {
		t.Fatal(err)
	}
	pos(1, 0, n-2)
	if err := c.DecodeTokens(tokens[n-1:], 1, n-1, LogitsLast); err != nil {
		t.Fatal(err)
	}
	got, err := c.Logits(-1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "copied sequence", got, want, 1e-3)
	if ok, err := c.SeqRemove(0, 5, -1); err != nil || !ok {
		t.Fatalf("remove: got %v, %v", ok, err)
	}
	pos(0, 0, 4)
	if !c.CanShift() {
		t.Fatal("cannot shift")
	}
	if err := c.SeqAdd(0, 2, -1, 10); err != nil {
		t.Fatal(err)
	}
	pos(0, 0, 14)
	if err := c.SeqDiv(0, 2, -1, 2); err != nil {
		t.Fatal(err)
	}
	pos(0, 0, 7)
	if err := c.SeqKeep(1); err != nil {
		t.Fatal(err)
	}
	pos(0, -1, -1)
	if err := c.MemoryClear(false); err != nil {
		t.Fatal(err)
	}
	pos(1, -1, -1)
	for name, f := range map[string]func() error{
		"remove": func() error { _, err := c.SeqRemove(2, 0, 1); return err },
		"copy":   func() error { return c.SeqCopy(0, 2, 0, 1) },
		"copy 2": func() error { return c.SeqCopy(-1, 0, 0, 1) },
		"keep":   func() error { return c.SeqKeep(-1) },
		"add":    func() error { return c.SeqAdd(9, 0, 1, 1) },
		"div":    func() error { return c.SeqDiv(0, 0, 1, 0) },
		"pos":    func() error { _, err := c.SeqPosMax(2); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	split := tinyContext(t, m, func(p *ContextParams) { p.NSeqMax = 2; p.NCtx = 512 })
	lastLogits(t, split, tokens, 0)
	if err := split.SeqCopy(0, 1, 2, 4); err == nil {
		t.Error("part of a sequence between separate caches: no error")
	}
	if err := split.SeqCopy(0, 1, 0, n); err != nil {
		t.Errorf("whole sequence between separate caches: %v", err)
	}
}

func TestState(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	tokens := mustTokens(t, m, "mirror mirror on the wall")
	n := len(tokens) - 1
	want := lastLogits(t, c, tokens, 0)
	lastLogits(t, c, tokens[:n], 0)
	path := filepath.Join(t.TempDir(), "state.bin")
	if err := c.SaveState(path, tokens[:n]); err != nil {
		t.Fatal(err)
	}
	state, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	seq, err := c.SeqState(0)
	if err != nil {
		t.Fatal(err)
	}
	goOn := func(what string, d *ModelContext) {
		t.Helper()
		if err := d.DecodeTokens(tokens[n:], 0, int32(n), LogitsLast); err != nil {
			t.Fatal(err)
		}
		got, err := d.Logits(-1)
		if err != nil {
			t.Fatal(err)
		}
		near(t, what, got, want, 0.02)
	}
	d := tinyContext(t, m, nil)
	if got, err := d.LoadState(path); err != nil || len(got) != n || got[0] != tokens[0] {
		t.Fatalf("load: got %v, %v", got, err)
	}
	goOn("from a file", d)
	if err := d.SetState(state); err != nil {
		t.Fatal(err)
	}
	goOn("from memory", d)
	if err := d.MemoryClear(true); err != nil {
		t.Fatal(err)
	}
	if err := d.SetSeqState(0, seq); err != nil {
		t.Fatal(err)
	}
	goOn("of one sequence", d)
	testBadStates(t, d, path, state, seq)
	lastLogits(t, d, tokens[:n], 0)
	goOn("after the errors", d)
}

func testBadStates(t *testing.T, d *ModelContext, path string, state, seq []byte) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.bin")
	for name, b := range map[string][]byte{
		"empty": {}, "magic": append([]byte("xxxx"), data[4:]...), "cut": data[:len(data)/2],
		"count": append(append([]byte(nil), data[:8]...), append([]byte{255, 255, 255, 127}, data[12:]...)...),
	} {
		if err := os.WriteFile(bad, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := d.LoadState(bad); err == nil {
			t.Errorf("state file %s: no error", name)
		}
		if hi, err := d.SeqPosMax(0); err != nil || hi != -1 {
			t.Errorf("state file %s: memory has positions to %d, %v, want none", name, hi, err)
		}
	}
	for name, err := range map[string]error{
		"no state":     d.SetState(nil),
		"cut state":    d.SetState(state[:len(state)-100]),
		"other bytes":  d.SetState([]byte("this is not a state at all, but some text")),
		"no sequence":  d.SetSeqState(0, nil),
		"cut sequence": d.SetSeqState(0, seq[:len(seq)/2]),
		"sequence id":  d.SetSeqState(7, seq),
		"missing": func() error {
			_, err := d.LoadState("/no/such/state")
			return err
		}(),
		"no folder": d.SaveState("/no/such/folder/state", nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for i := 0; i < len(data); i += 1 + len(data)/40 { // changed bytes must not end the process
		b := append([]byte(nil), data...)
		b[i] ^= 0x55
		if err := os.WriteFile(bad, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := d.LoadState(bad); errors.Is(err, ErrBroken) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if err := d.MemoryClear(true); err != nil {
		t.Fatal(err)
	}
}

func TestContextEmbeddings(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	tokens := mustTokens(t, m, "an apple")
	none := tinyContext(t, m, func(p *ContextParams) { p.Embeddings = true; p.Pooling = PoolingNone })
	if err := none.DecodeTokens(tokens, 0, 0, LogitsAll); err != nil {
		t.Fatal(err)
	}
	mean := make([]float32, m.NEmbd())
	var last []float32
	for i := range tokens {
		e, err := none.Embeddings(i)
		if err != nil || len(e) != m.NEmbd() {
			t.Fatalf("got %d values, %v", len(e), err)
		}
		for j, x := range e {
			mean[j] += x / float32(len(tokens))
		}
		last = e
	}
	for pooling, want := range map[Pooling][]float32{PoolingMean: mean, PoolingLast: last} {
		c := tinyContext(t, m, func(p *ContextParams) { p.Embeddings = true; p.Pooling = pooling })
		if err := c.DecodeTokens(tokens, 0, 0, LogitsLast); err != nil {
			t.Fatal(err)
		}
		got, err := c.SeqEmbeddings(0)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "pooled", got, want, 1e-3)
		if _, err := c.Embeddings(0); err == nil {
			t.Error("token embeddings of a pooling context: no error")
		}
		if pooling == PoolingMean {
			if err := c.DecodeTokens(make([]Token, 65), 0, 0, LogitsLast); err == nil {
				t.Error("mean over more than n_ubatch tokens: no error")
			}
		}
	}
	if _, err := none.SeqEmbeddings(0); err == nil {
		t.Error("pooled embedding of a context that does not pool: no error")
	}
	plain := tinyContext(t, m, nil)
	lastLogits(t, plain, tokens, 0)
	if _, err := plain.Embeddings(-1); err == nil {
		t.Error("embeddings of a context without: no error")
	}
	if err := none.SetCausal(false); err != nil {
		t.Fatal(err)
	}
	if err := none.DecodeTokens(make([]Token, 100), 0, 0, LogitsLast); err == nil { // an assert in llama-context.cpp
		t.Error("non-causal attention over more than n_ubatch tokens: no error")
	}
}

func TestAbort(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	tokens := mustTokens(t, m, "some words to compute")
	var asked atomic.Int32
	if err := c.SetAbort(func() bool { asked.Add(1); return true }); err != nil {
		t.Fatal(err)
	}
	if err := c.DecodeTokens(tokens, 0, 0, LogitsLast); !errors.Is(err, ErrAborted) || asked.Load() == 0 {
		t.Errorf("got %v after %d questions, want ErrAborted", err, asked.Load())
	}
	if err := c.SetAbort(func() bool { panic("no") }); err != nil {
		t.Fatal(err)
	}
	if got := catch(func() { c.DecodeTokens(tokens, 0, 0, LogitsLast) }); got != "no" {
		t.Errorf("panic in the callback: got %v", got)
	}
	if err := c.SetAbort(nil); err != nil {
		t.Fatal(err)
	}
	if err := c.MemoryClear(true); err != nil {
		t.Fatal(err)
	}
	lastLogits(t, c, tokens, 0)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.DecodeTokensContext(ctx, tokens, 0, int32(len(tokens)), LogitsLast); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: got %v", err)
	}
	if err := c.DecodeContext(ctx, []BatchToken{{Token: 1, Pos: int32(len(tokens)), Seqs: []int32{0}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: got %v", err)
	}
	lastLogits(t, c, tokens, 0)
}

// TestCancelWhileDecoding cancels as soon as the computation has begun.
func TestCancelWhileDecoding(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{Blocks: 8, Embd: 256, FF: 1024, Context: 4096})
	c := tinyContext(t, m, func(p *ContextParams) { p.NCtx, p.NBatch, p.NUBatch = 4096, 4096, 64 })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := make(chan struct{})
	var once atomic.Bool
	if err := c.SetAbort(func() bool {
		if once.CompareAndSwap(false, true) {
			close(begun)
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-begun
		cancel()
	}()
	err := c.DecodeTokensContext(ctx, make([]Token, 4096), 0, 0, LogitsLast)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if hi, err := c.SeqPosMax(0); err != nil || hi >= 4095 {
		t.Errorf("computed up to position %d, %v, want fewer than all", hi, err)
	}
}

func TestPerfAndThreads(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	if err := c.SetThreads(2, 2); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, -1, 100_000} {
		if c.SetThreads(n, 1) == nil || c.SetThreads(1, n) == nil {
			t.Errorf("%d threads: no error", n)
		}
	}
	lastLogits(t, c, mustTokens(t, m, "some text"), 0)
	if err := c.Synchronize(); err != nil {
		t.Fatal(err)
	}
	p, err := c.Perf()
	if err != nil || p.PromptTokens != 9 || p.PromptMS <= 0 {
		t.Errorf("got %+v, %v, want 9 prompt tokens", p, err)
	}
	if err := c.ResetPerf(); err != nil {
		t.Fatal(err)
	}
	if p, err = c.Perf(); err != nil || p.PromptTokens > 1 {
		t.Errorf("after reset: got %+v, %v", p, err)
	}
}

func TestClosed(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	s, err := NewSampler(m, DefaultSamplerParams())
	if err != nil {
		t.Fatal(err)
	}
	tm, err := NewChatTemplate(m, "")
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	m.Close()
	// What was made from the model goes on, the model itself does not.
	if err := c.DecodeTokens([]Token{1}, 0, 0, LogitsLast); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sample(c, -1); err != nil {
		t.Error(err)
	}
	_, err = m.NewContext(DefaultContextParams())
	wantClosed(t, "new context", err)
	_, err = m.Tokenize("x", true, true)
	wantClosed(t, "tokenize", err)
	_, err = NewSampler(m, DefaultSamplerParams())
	wantClosed(t, "new sampler", err)
	_, err = NewChatTemplate(m, "")
	wantClosed(t, "new template", err)
	_, err = m.LoadAdapter("x")
	wantClosed(t, "adapter", err)
	for range 2 {
		if c.Close() != nil || s.Close() != nil || tm.Close() != nil {
			t.Fatal("close failed")
		}
	}
	wantClosed(t, "decode", c.DecodeTokens([]Token{1}, 0, 1, LogitsLast))
	_, err = c.Logits(0)
	wantClosed(t, "logits", err)
	_, err = c.SeqRemove(0, 0, 1)
	wantClosed(t, "remove", err)
	wantClosed(t, "accept", s.Accept(1))
	_, err = s.Sample(c, 0)
	wantClosed(t, "sample", err)
	_, err = tm.Render([]ChatMessage{{Role: "user"}}, DefaultChatOptions())
	wantClosed(t, "render", err)
	var nc *ModelContext
	var nm *Model
	var ns *Sampler
	var nt *ChatTemplate
	var na *Adapter
	if nc.Close() != nil || nm.Close() != nil || ns.Close() != nil || nt.Close() != nil || na.Close() != nil {
		t.Error("close of nil failed")
	}
	wantClosed(t, "nil context", nc.MemoryClear(true))
	wantClosed(t, "nil sampler", ns.Accept(1))
	_, err = nm.Tokenize("x", true, true)
	wantClosed(t, "nil model", err)
}

func wantClosed(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrClosed) {
		t.Errorf("%s: got %v, want ErrClosed", what, err)
	}
}

// TestBroken: after an assert the object is refused, and closing it is safe.
func TestBroken(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	c.broken = true
	if err := c.DecodeTokens([]Token{1}, 0, 0, LogitsLast); !errors.Is(err, ErrBroken) {
		t.Errorf("got %v, want ErrBroken", err)
	}
	done := make(chan struct{})
	go func() { c.Close(); m.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("close does not return")
	}
}
