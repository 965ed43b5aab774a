package batch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/persona-gguf/persona-gguf/convert"
)

// tinyModel writes a GGUF file of the example's base model, which answers with text.
func tinyModel(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "base.gguf")
	plan, err := convert.NewPlan(t.Context(), "../../examples/snow_white/base", convert.Options{OutType: "f32", OutFile: out})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if _, err := plan.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, path string, o Options) *Engine {
	t.Helper()
	o.Threads = 1
	e, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// prompt is begin tokens that all have in common, and own ones.
func prompt(e *Engine, begin, own, which int) []llama.Token {
	out := make([]llama.Token, 0, begin+own)
	for i := range begin + own {
		k := i
		if i >= begin {
			k += 1000 * (which + 1)
		}
		out = append(out, llama.Token((k*7919+13)%e.Model().NVocab()))
	}
	return out
}

// greedy takes the most likely token every time, so that an answer depends on the prompt alone.
func greedy(tokens []llama.Token, n int) Request {
	p := llama.DefaultSamplerParams()
	p.Temperature, p.RepeatPenalty, p.IgnoreEOG = 0, 1, true
	return Request{Tokens: tokens, NumPredict: n, Sampling: p}
}

// all asks at the same time and gives the answers in order.
func all(t *testing.T, e *Engine, requests []Request) []Result {
	t.Helper()
	out := make([]Result, len(requests))
	var wg sync.WaitGroup
	for i, r := range requests {
		wg.Go(func() {
			var err error
			if out[i], err = e.Generate(t.Context(), r); err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	return out
}

func computed(results []Result) int {
	n := 0
	for _, r := range results {
		n += r.PromptTokens - r.CachedTokens
	}
	return n
}

// TestSharedBegin counts the tokens of prompts that are computed, when many begin alike and come at once, and again.
func TestSharedBegin(t *testing.T) {
	const begin, own, calls, answer = 100, 5, 8, 6
	path := tinyModel(t)
	for _, unified := range []bool{false, true} {
		sharedBegin(t, path, unified, begin, own, calls, answer)
	}
}

func sharedBegin(t *testing.T, path string, unified bool, begin, own, calls, answer int) {
	e := open(t, path, Options{Parallel: 4, NumCtx: 256, NumBatch: 32, Unified: unified})
	var requests []Request
	for i := range calls {
		requests = append(requests, greedy(prompt(e, begin, own, i), answer))
	}
	got := all(t, e, requests)
	if n, want := computed(got), begin+calls*own; n != want {
		t.Errorf("%d prompts that begin alike: got %d tokens computed, want %d", calls, n, want)
	}
	for i, r := range got { // alone, nothing computed before
		one := open(t, path, Options{Parallel: 1, NumCtx: 256, NumBatch: 512})
		want, err := one.Generate(t.Context(), requests[i])
		if err != nil || r.Text == "" || r.Text != want.Text || r.Tokens != answer || r.DoneReason != "length" || r.PromptTokens != begin+own || want.CachedTokens != 0 {
			t.Errorf("call %d: got %+v, want %+v, %v", i, r, want, err)
		}
	}
	all(t, e, requests[:1])
	if n, want := computed(all(t, e, requests[:1])), 1; n != want { // its last token, for the logits
		t.Errorf("a prompt again: got %d tokens computed, want %d", n, want)
	}
}

// TestDialogues has several dialogues grow, turn by turn. Each turn computes what is new in it.
func TestDialogues(t *testing.T) {
	const dialogues, turn, answer = 3, 20, 4
	e := open(t, tinyModel(t), Options{Parallel: dialogues, NumCtx: 256, NumBatch: 16})
	texts := make([][]llama.Token, dialogues)
	for i := range texts {
		texts[i] = prompt(e, 0, 40, i)
	}
	for round := range 4 {
		var requests []Request
		for i := range texts {
			texts[i] = append(texts[i], prompt(e, 0, turn, 10*i+round)...)
			requests = append(requests, greedy(slices.Clone(texts[i]), answer))
		}
		want := dialogues * turn
		if round == 0 {
			want += dialogues * 40
		}
		if n := computed(all(t, e, requests)); n != want {
			t.Errorf("turn %d: got %d tokens computed, want %d", round, n, want)
		}
	}
}

// TestSizes mixes calls that want contexts of several sizes: one that is large enough serves them all.
func TestSizes(t *testing.T) {
	e := open(t, tinyModel(t), Options{Parallel: 2, NumBatch: 8})
	var requests []Request
	for i := range 12 {
		r := greedy(prompt(e, 0, 30+i, i), 3)
		r.NumCtx = 64 << (i % 3)
		requests = append(requests, r)
	}
	first := all(t, e, requests)
	for i, r := range all(t, e, requests) {
		if r.Text != first[i].Text || r.Tokens != 3 {
			t.Errorf("request %d: got %+v, before %+v", i, r, first[i])
		}
	}
	r := greedy(prompt(e, 0, 30, 0), 0) // until the context is full
	r.NumCtx = 64
	if got := all(t, e, []Request{r}); got[0].Tokens != 34 || got[0].DoneReason != "length" {
		t.Errorf("no num_predict: got %+v, want 34 tokens", got[0])
	}
}

func TestStops(t *testing.T) {
	e := open(t, tinyModel(t), Options{Parallel: 2, NumCtx: 128, NumBatch: 64})
	r := greedy(prompt(e, 0, 10, 3), 40)
	whole := all(t, e, []Request{r})[0].Text
	if len(whole) < 20 {
		t.Fatalf("got the answer %q, want a longer one", whole)
	}
	text := []rune(whole)
	stop := string(text[4:7])
	i := slices.Index(text, text[4])
	for ; string(text[i:i+3]) != stop; i++ {
	}
	r.Stops = []string{"", stop}
	if got := all(t, e, []Request{r})[0]; got.Text != string(text[:i]) || got.DoneReason != "stop" {
		t.Errorf("stop %q in %q: got %+v, want %q", stop, whole, got, string(text[:i]))
	}
}

// TestGrammar keeps answers to a grammar that has seen the first letters already.
func TestGrammar(t *testing.T) {
	e := open(t, tinyModel(t), Options{Parallel: 3, NumCtx: 128, NumBatch: 64})
	seen, err := e.Model().Tokenize("a", false, false)
	if err != nil {
		t.Fatal(err)
	}
	var requests []Request
	for i := range 5 {
		r := greedy(prompt(e, 0, 10, i), 20)
		r.Sampling.IgnoreEOG, r.Grammar, r.GrammarPrefix = false, `root ::= "a" "b" "c" "d"`, seen
		requests = append(requests, r)
	}
	for i, got := range all(t, e, requests) {
		if got.Text != "bcd" || got.DoneReason != "stop" {
			t.Errorf("request %d: got %+v, want bcd", i, got)
		}
	}
	bad := requests[0]
	bad.Grammar = "root ::= ("
	if _, err := e.Generate(t.Context(), bad); err == nil {
		t.Error("a grammar that is none: got no error")
	}
}

func TestErrors(t *testing.T) {
	path := tinyModel(t)
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none.gguf"), DefaultOptions()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	for _, o := range []Options{{}, {Parallel: 1}, {Parallel: 1, NumBatch: 1, NumCtx: -1}, {Parallel: 1 << 20, NumBatch: 1}} {
		if _, err := Open(t.Context(), path, o); err == nil {
			t.Errorf("%+v: got no error", o)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(done, path, DefaultOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	e := open(t, path, Options{Parallel: 1, NumCtx: 64, NumBatch: 8})
	if _, err := e.Generate(t.Context(), greedy(prompt(e, 0, 60, 0), 5)); !errors.Is(err, ErrContext) {
		t.Errorf("too long: got %v, want %v", err, ErrContext)
	}
	if _, err := e.Generate(t.Context(), greedy(nil, 5)); err == nil {
		t.Error("no prompt: got no error")
	}
	if _, err := e.Generate(done, greedy(prompt(e, 0, 5, 0), 5)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestClose ends an engine in the midst of calls: each gets an answer or an error, and none hangs.
func TestClose(t *testing.T) {
	e := open(t, tinyModel(t), Options{Parallel: 2, NumCtx: 1024, NumBatch: 8})
	started := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			started <- struct{}{}
			got, err := e.Generate(t.Context(), greedy(prompt(e, 0, 10+i, i), 1000))
			if err == nil && got.Tokens != 1000 || err != nil && !errors.Is(err, llama.ErrClosed) {
				t.Errorf("call %d: got %+v, %v", i, got, err)
			}
		})
	}
	<-started
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := e.Generate(t.Context(), greedy([]llama.Token{1}, 1)); err == nil {
		t.Error("after Close: got no error")
	}
}
