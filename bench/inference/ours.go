package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/persona-gguf/persona-gguf/bench/figure"
	"github.com/persona-gguf/persona-gguf/internal/batch"
)

// together generates answers for several prompts at once. Each is asked twice: for one token, which takes the time of
// the prompt, and for the whole answer, whose prompt is then computed but for its last token. So that is ntg
// computations of one token for every dialogue, as in llama-batched-bench.
func (o options) together(ctx context.Context, all *rates, name, file string, parallel int, shared bool) error {
	e, err := batch.Open(ctx, file, batch.Options{
		Parallel: parallel, NumCtx: o.npp + o.ntg, NumBatch: o.batch, Threads: o.threads, GPULayers: o.gpuLayers, Unified: shared,
	})
	if err != nil {
		return err
	}
	defer e.Close()
	random := rand.New(rand.NewPCG(1, uint64(parallel)))
	token := func() llama.Token { return llama.Token(random.IntN(e.Model().NVocab())) }
	tokens := func(n int) []llama.Token {
		out := make([]llama.Token, n)
		for i := range out {
			out[i] = token()
		}
		return out
	}
	if _, err := e.Generate(ctx, request(tokens(min(16, o.npp)), 1, 0)); err != nil { // warm-up, as there
		return err
	}
	begin := tokens(o.npp)
	prompts := make([][]llama.Token, parallel)
	for i := range prompts {
		prompts[i] = tokens(o.npp)
		if shared {
			copy(prompts[i][:o.npp-1], begin)
		}
	}
	first, err := ask(ctx, e, prompts, 1)
	if err != nil {
		return err
	}
	answers, err := ask(ctx, e, prompts, o.ntg)
	if err != nil {
		return err
	}
	computed := float64(parallel * o.npp)
	if shared {
		computed = float64(o.npp + parallel - 1) // each has a last token of its own
	}
	decoded := float64(parallel * o.ntg)
	addAll(all, name, parallel, figure.Ours, shared, computed/first, decoded/answers, (computed+decoded)/(first+answers))
	return nil
}

func request(prompt []llama.Token, n, seed int) batch.Request {
	p := llama.DefaultSamplerParams()
	p.Seed, p.IgnoreEOG = uint32(seed), true
	return batch.Request{Tokens: prompt, NumPredict: n, Sampling: p}
}

// ask generates n tokens for every prompt and gives the seconds until all are there.
func ask(ctx context.Context, e *batch.Engine, prompts [][]llama.Token, n int) (float64, error) {
	var wg sync.WaitGroup
	errs := make(chan error, len(prompts))
	start := time.Now()
	for i, p := range prompts {
		wg.Go(func() {
			got, err := e.Generate(ctx, request(p, n, i))
			if err == nil && got.Tokens != n {
				err = fmt.Errorf("answer %d: got %d tokens, want %d", i, got.Tokens, n)
			}
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	took := time.Since(start).Seconds()
	close(errs)
	return took, <-errs // nil: the channel is empty
}

// callbacks generates the same number of tokens by computing alone, with choosing of the most likely one, and with a
// callback that gets every piece of text. It does so on a thread that ends with it, and with the thread ends its team of
// OpenMP threads: with one that is left behind, libgomp counts more threads than CPUs and slows all others down.
func (o options) callbacks(ctx context.Context, all *rates, name, file string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- o.measureCallbacks(ctx, all, name, file)
	}()
	return <-done
}

func (o options) measureCallbacks(ctx context.Context, all *rates, name, file string) error {
	mp := llama.DefaultModelParams()
	mp.GPULayers = o.gpuLayers
	model, err := llama.LoadModel(file, mp)
	if err != nil {
		return err
	}
	defer model.Close()
	cp := llama.DefaultContextParams()
	cp.NCtx, cp.Threads, cp.NUBatch = o.gen+16, o.threads, 0
	c, err := model.NewContext(cp)
	if err != nil {
		return err
	}
	defer c.Close()
	sp := llama.DefaultSamplerParams()
	sp.Temperature, sp.RepeatPenalty, sp.IgnoreEOG = 0, 1, true
	s, err := llama.NewSampler(model, sp)
	if err != nil {
		return err
	}
	defer s.Close()
	var text strings.Builder
	ways := []struct {
		test string
		emit func(string) bool
	}{{"answer", nil}, {"answer with callback", func(piece string) bool { text.WriteString(piece); return true }}}
	prompt := []llama.Token{1, 2, 3, 4}
	for round := range 2 { // the first is the warm-up
		plain, err := decodeOnly(ctx, c, prompt, o.gen)
		if err != nil {
			return err
		}
		var took []time.Duration
		for _, way := range ways {
			if err := c.MemoryClear(false); err != nil {
				return err
			}
			r, err := c.Generate(ctx, prompt, s, llama.GenerateOptions{MaxTokens: o.gen, OnPiece: way.emit})
			if err != nil {
				return err
			}
			took = append(took, r.EvalTime)
		}
		if text.Len() == 0 {
			return fmt.Errorf("callback: got no text of %d tokens", o.gen)
		}
		if text.Reset(); round > 0 {
			o.addCallbacks(all, name, plain, took)
		}
	}
	return nil
}

func (o options) addCallbacks(all *rates, name string, plain time.Duration, took []time.Duration) {
	n := float64(o.gen - 1)
	all.add(name, "computing alone", 1, figure.Ours, n/plain.Seconds())
	all.add(name, "answer", 1, figure.Ours, n/took[0].Seconds())
	all.add(name, "answer with callback", 1, figure.Ours, n/took[1].Seconds())
}

// decodeOnly computes the prompt, and then n-1 tokens one by one, which takes the time that it gives.
func decodeOnly(ctx context.Context, c *llama.ModelContext, prompt []llama.Token, n int) (time.Duration, error) {
	if err := c.MemoryClear(false); err != nil {
		return 0, err
	}
	if err := c.DecodeTokensContext(ctx, prompt, 0, 0, llama.LogitsLast); err != nil {
		return 0, err
	}
	start := time.Now()
	for i := range n - 1 {
		if err := c.DecodeTokensContext(ctx, []llama.Token{llama.Token(i)}, 0, int32(len(prompt)+i), llama.LogitsLast); err != nil {
			return 0, err
		}
		if err := c.Synchronize(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
