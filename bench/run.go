package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
)

// Run measures every test of the grid and calls report after each, in order. It stops at the first
// error, report's included, and when ctx is done. Other work on the machine makes its figures worse.
func Run(ctx context.Context, p Params, report func(Result) error) error {
	if err := p.Check(); err != nil {
		return err
	}
	// The OpenMP runtime below llama.cpp keeps a team of threads for every thread that calls it. From a
	// goroutine that moves between threads each call could meet, or make, another team.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := runner{params: p, random: rand.New(rand.NewPCG(1, 2))}
	defer r.close()
	for _, in := range p.instances() {
		result, err := r.test(ctx, in)
		if err != nil {
			return fmt.Errorf("bench %s: %w", in.model, err)
		}
		if err := report(result); err != nil {
			return err
		}
	}
	return nil
}

// runner keeps what one test can take over from the one before.
type runner struct {
	params   Params
	random   *rand.Rand
	model    *llama.Model
	loaded   instance
	loadTime time.Duration
	tokens   []llama.Token // scratch

	depth      int // that depthState belongs to
	depthState []byte
}

func (r *runner) close() {
	if r.model != nil {
		r.model.Close()
		r.model, r.depth, r.depthState = nil, 0, nil
	}
}

// load makes sure that the model of in is loaded.
func (r *runner) load(ctx context.Context, in instance) error {
	if r.model != nil && r.loaded.sameModel(in) {
		return nil
	}
	r.close()
	p := llama.DefaultModelParams()
	p.GPULayers = in.nLayers
	p.Progress = func(float32) bool { return ctx.Err() == nil }
	start := time.Now()
	model, err := llama.LoadModel(in.model, p)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		if model != nil {
			model.Close()
		}
		return err
	}
	r.model, r.loaded, r.loadTime = model, in, time.Since(start)
	return nil
}

// test runs one test of the grid.
func (r *runner) test(ctx context.Context, in instance) (Result, error) {
	resetPeak()
	if err := r.load(ctx, in); err != nil {
		return Result{}, err
	}
	c, err := r.context(in)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	result, err := r.describe(in)
	if err != nil {
		return Result{}, err
	}
	if err := r.warmUp(ctx, c, in); err != nil {
		return Result{}, fmt.Errorf("warm-up: %w", err)
	}
	var times, firsts []time.Duration
	for i := range r.params.Reps {
		whole, first, err := r.repetition(ctx, c, in)
		if err != nil {
			return Result{}, fmt.Errorf("repetition %d: %w", i+1, err)
		}
		times = append(times, whole)
		if in.nPrompt > 0 {
			firsts = append(firsts, first)
		}
	}
	result.sum(times, firsts)
	result.PeakMemory = peakMemory()
	return result, nil
}

func (r *runner) context(in instance) (*llama.ModelContext, error) {
	p := llama.DefaultContextParams()
	p.NCtx = in.nPrompt + in.nGen + in.nDepth
	p.NBatch, p.NUBatch = in.nBatch, in.nUBatch
	p.Threads, p.ThreadsBatch = in.nThreads, in.nThreads
	p.SWAFull = false
	return r.model.NewContext(p)
}

func (r *runner) warmUp(ctx context.Context, c *llama.ModelContext, in instance) error {
	if r.params.NoWarmup {
		return nil
	}
	if err := r.prompt(ctx, c, in, in.nPrompt, 0); err != nil {
		return err
	}
	return r.generate(ctx, c, min(in.nGen, 1), in.nPrompt)
}

// repetition is one timed run. first is the time from its start until the token after the prompt is
// known; the choosing itself comes after the clock has stopped.
func (r *runner) repetition(ctx context.Context, c *llama.ModelContext, in instance) (whole, first time.Duration, err error) {
	if err := c.MemoryClear(false); err != nil {
		return 0, 0, err
	}
	if err := r.fill(ctx, c, in); err != nil {
		return 0, 0, fmt.Errorf("fill to depth %d: %w", in.nDepth, err)
	}
	start := time.Now()
	if err := r.prompt(ctx, c, in, in.nPrompt, in.nDepth); err != nil {
		return 0, 0, err
	}
	afterPrompt := time.Since(start)
	if err := r.generate(ctx, c, in.nGen, in.nDepth+in.nPrompt); err != nil {
		return 0, 0, err
	}
	whole = time.Since(start)
	choice, err := choose(c, in)
	return whole, afterPrompt + choice, err
}

// fill brings the KV cache to depth, from the saved state if there is one that fits.
func (r *runner) fill(ctx context.Context, c *llama.ModelContext, in instance) error {
	if in.nDepth == 0 {
		return nil
	}
	if r.depth == in.nDepth && c.SetSeqState(0, r.depthState) == nil {
		return nil
	}
	if err := c.MemoryClear(false); err != nil { // a state that did not fit may have left something
		return err
	}
	if err := r.prompt(ctx, c, in, in.nDepth, 0); err != nil {
		return err
	}
	state, err := c.SeqState(0)
	r.depth, r.depthState = in.nDepth, state
	return err
}

// prompt decodes n random tokens from position pos on, n_batch at a time, and waits for the result.
// The first token of all is BOS when the vocabulary asks for it.
func (r *runner) prompt(ctx context.Context, c *llama.ModelContext, in instance, n, pos int) error {
	if n == 0 {
		return nil
	}
	for done := 0; done < n; {
		batch := r.randomTokens(min(n-done, in.nBatch))
		if done == 0 && r.model.AddBOS() {
			batch[0] = r.model.BOS()
		}
		if err := c.DecodeTokensContext(ctx, batch, 0, int32(pos+done), llama.LogitsLast); err != nil {
			return err
		}
		done += len(batch)
	}
	return c.Synchronize()
}

// generate decodes n random tokens one by one, waiting for each.
func (r *runner) generate(ctx context.Context, c *llama.ModelContext, n, pos int) error {
	for i := range n {
		token := r.randomTokens(1)
		if i == 0 && r.model.AddBOS() {
			token[0] = r.model.BOS()
		}
		if err := c.DecodeTokensContext(ctx, token, 0, int32(pos+i), llama.LogitsLast); err != nil {
			return err
		}
		if err := c.Synchronize(); err != nil {
			return err
		}
	}
	return nil
}

// randomTokens returns n random tokens, valid until the next call.
func (r *runner) randomTokens(n int) []llama.Token {
	r.tokens = slices.Grow(r.tokens[:0], n)[:n]
	for i := range r.tokens {
		r.tokens[i] = llama.Token(r.random.IntN(r.model.NVocab()))
	}
	return r.tokens
}

// choose takes the most probable token after the last decode, as greedy sampling does, and says how
// long that took.
func choose(c *llama.ModelContext, in instance) (time.Duration, error) {
	if in.nPrompt == 0 {
		return 0, nil
	}
	start := time.Now()
	logits, err := c.Logits(-1)
	if err != nil {
		return 0, err
	}
	best := 0
	for i, x := range logits {
		if x > logits[best] {
			best = i
		}
	}
	return time.Since(start), nil
}
