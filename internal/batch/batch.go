// Package batch generates many answers of one model together: a token of each in one computation, so that several cost
// little more than one. Calls come and go at any time, and what prompts begin with in common is computed once.
package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	llama "github.com/go-skynet/go-llama.cpp"
)

// ErrContext says that a prompt and its answer are longer than the context.
var ErrContext = errors.New("prompt and answer do not fit into the context")

// Options say how an Engine works.
type Options struct {
	Parallel  int // answers that are generated at the same time
	NumCtx    int // tokens of one answer with its prompt; 0: as many as the calls ask for
	NumBatch  int // tokens that are computed at once
	Threads   int // 0: the physical cores
	GPULayers int // -1: all, if there is a GPU

	// Unified keeps all answers in one cache, whose cells they share where their prompts begin alike. That is faster for
	// prompts that are mostly alike and for answers that end at different times, and slower, since every answer's
	// attention passes over the cells of all, for long prompts that have little in common.
	Unified bool
}

// DefaultOptions are four answers at a time, and all of a GPU if there is one.
func DefaultOptions() Options { return Options{Parallel: 4, NumBatch: 512, GPULayers: -1} }

// Request is a prompt to go on from.
type Request struct {
	Tokens        []llama.Token       // the prompt, at least one token
	NumCtx        int                 // most tokens of prompt and answer; 0: the engine's
	NumPredict    int                 // most tokens of the answer; 0: until the context is full
	Sampling      llama.SamplerParams // RepeatLastN -1: the whole context
	Grammar       string              // GBNF that the answer keeps to; "": none
	GrammarPrefix []llama.Token       // what the grammar has seen before the answer begins
	Stops         []string            // texts that end the answer; they are not part of it
}

// Result is an answer.
type Result struct {
	Text         string
	DoneReason   string // "stop", or "length" when NumPredict or the context ended it
	PromptTokens int
	CachedTokens int // those of the prompt that were computed before, for this or another call
	Tokens       int // of the answer, with the one that ended it
}

// Engine is a GGUF model at work. Its methods may be called from several goroutines.
type Engine struct {
	path    string
	options Options
	model   *llama.Model

	queue  chan *call
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  chan struct{}
	closed sync.Once

	// These belong to the goroutine of loop.
	context *llama.ModelContext
	numCtx  int // tokens of one answer with its prompt that the context has room for
	places  []*place
	batch   []llama.BatchToken
	rows    []llama.SampledRow // one for each place of turn
	turn    []*place           // whose next token the batch gives
	workers int                // that choose tokens
	pieces  map[llama.Token][]byte
	clock   uint64 // calls admitted
}

// Open loads a model; ctx ends the loading. Close must be called.
func Open(ctx context.Context, path string, o Options) (*Engine, error) {
	if o.Parallel < 1 || o.Parallel > llama.MaxSequences() {
		return nil, fmt.Errorf("parallel: got %d, want 1 to %d", o.Parallel, llama.MaxSequences())
	}
	if o.NumBatch < 1 || o.NumCtx < 0 {
		return nil, fmt.Errorf("num_batch %d, num_ctx %d: want at least 1 and 0", o.NumBatch, o.NumCtx)
	}
	o.NumBatch = max(o.NumBatch, o.Parallel)
	params := llama.DefaultModelParams()
	params.GPULayers = o.GPULayers
	params.Progress = func(float32) bool { return ctx.Err() == nil }
	model, err := llama.LoadModel(path, params)
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), model.Close())
	}
	if err != nil {
		return nil, err
	}
	e := &Engine{
		path: path, options: o, model: model, pieces: map[llama.Token][]byte{},
		queue: make(chan *call), ended: make(chan struct{}),
	}
	if e.workers, err = choosers(o); err != nil {
		return nil, errors.Join(err, model.Close())
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	go e.loop()
	return e, nil
}

// choosers is how many goroutines choose tokens: one on the CPU, whose cores OpenMP's threads keep busy for a while after
// every computation, and some beside a GPU, which waits meanwhile.
func choosers(o Options) (int, error) {
	devices, err := llama.Devices()
	gpu := slices.ContainsFunc(devices, func(d llama.Device) bool { return strings.HasSuffix(d.Kind, "gpu") })
	if err != nil || !gpu || o.GPULayers == 0 {
		return 1, err
	}
	return min(o.Parallel, runtime.NumCPU(), 16), nil
}

// Close ends what is under way and frees the model.
func (e *Engine) Close() error {
	var err error
	e.closed.Do(func() {
		e.cancel()
		<-e.ended
		err = errors.Join(e.context.Close(), e.model.Close())
	})
	return err
}

// Model is the loaded model. It ends with the engine.
func (e *Engine) Model() *llama.Model { return e.model }

// Parallel is the number of answers that are generated at the same time.
func (e *Engine) Parallel() int { return e.options.Parallel }

// call is a request on its way.
type call struct {
	ctx     context.Context
	request Request
	sampler *llama.Sampler
	reply   chan reply // holds one
}

type reply struct {
	Result
	err error
}

// Generate answers a request; it waits while Parallel others are under way. When ctx ends, the answer so far comes with
// ctx's error.
func (e *Engine) Generate(ctx context.Context, r Request) (Result, error) {
	c, err := e.prepare(ctx, r)
	if err != nil {
		return Result{}, fmt.Errorf("generate with %s: %w", e.path, err)
	}
	defer c.sampler.Close()
	var got reply
	select {
	case e.queue <- c:
		got = <-c.reply // also when ctx ends: the loop looks at it
	case <-ctx.Done():
		got.err = ctx.Err()
	case <-e.ctx.Done():
		got.err = llama.ErrClosed
	}
	if got.err != nil {
		got.err = fmt.Errorf("generate with %s: %w", e.path, got.err)
	}
	return got.Result, got.err
}

// prepare checks a request and makes its sampler.
func (e *Engine) prepare(ctx context.Context, r Request) (*call, error) {
	if r.NumCtx == 0 {
		r.NumCtx = e.options.NumCtx
	}
	if r.NumPredict == 0 {
		r.NumPredict = max(1, r.NumCtx-len(r.Tokens))
	}
	if len(r.Tokens) == 0 || r.NumPredict < 0 {
		return nil, fmt.Errorf("got %d tokens of prompt, num_predict %d, want at least 1 and 0", len(r.Tokens), r.NumPredict)
	}
	if len(r.Tokens)+r.NumPredict > r.NumCtx {
		return nil, fmt.Errorf("%w: got %d tokens + num_predict %d, want at most num_ctx %d", ErrContext, len(r.Tokens), r.NumPredict, r.NumCtx)
	}
	p := r.Sampling
	if p.Grammar = r.Grammar; p.RepeatLastN < 0 {
		p.RepeatLastN = r.NumCtx
	}
	sampler, err := llama.NewSampler(e.model, p)
	if err != nil {
		return nil, err
	}
	err = sampler.AcceptPrompt(r.Tokens[max(0, len(r.Tokens)-p.RepeatLastN):])
	for i := 0; i < len(r.GrammarPrefix) && r.Grammar != "" && err == nil; i++ {
		err = sampler.Accept(r.GrammarPrefix[i])
	}
	if err != nil {
		return nil, errors.Join(err, sampler.Close())
	}
	return &call{ctx: ctx, request: r, sampler: sampler, reply: make(chan reply, 1)}, nil
}
