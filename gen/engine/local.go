package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
)

// LocalOptions say how a model in this process works.
type LocalOptions struct {
	Parallel  int // answers that are generated at the same time
	NumBatch  int // tokens that are computed at once
	Threads   int // 0: the physical cores
	GPULayers int // -1: all, if there is a GPU
}

// DefaultLocalOptions are those of the command without flags.
func DefaultLocalOptions() LocalOptions {
	return LocalOptions{Parallel: 4, NumBatch: 512, GPULayers: -1}
}

// Local is a GGUF model in this process. Answers are generated together, a token of each at a time, so that several
// cost little more than one; a prompt that begins as the one before in its place did is computed from where they
// differ. Its methods may be called from several goroutines.
type Local struct {
	path     string
	options  LocalOptions
	model    *llama.Model
	template *llama.ChatTemplate

	queue  chan *localCall
	stop   chan struct{}
	ended  chan struct{}
	closed sync.Once

	// These belong to the goroutine of loop.
	context *llama.ModelContext
	numCtx  int // tokens of one answer with its prompt
	places  []*place
}

// localCall is a call on its way.
type localCall struct {
	ctx     context.Context
	request Request
	prompt  []llama.Token
	sampler *llama.Sampler
	stops   []string
	start   time.Time
	reply   chan localReply // holds one
}

type localReply struct {
	Reply
	err error
}

// place is a sequence of the context.
type place struct {
	seq    int32
	cached []llama.Token // what is computed
	call   *localCall    // nil: free
	feed   []llama.Token // what is to be computed next
	out    []byte
	tokens int
	row    int // of the token in the batch whose logits choose the next one; -1: none
}

// OpenLocal loads a model. Close must be called.
func OpenLocal(path string, o LocalOptions) (*Local, error) {
	if o.Parallel < 1 || o.NumBatch < 1 || o.Parallel > llama.MaxSequences() {
		return nil, fmt.Errorf("local engine: parallel: got %d, want 1 to %d", o.Parallel, llama.MaxSequences())
	}
	o.NumBatch = max(o.NumBatch, o.Parallel)
	params := llama.DefaultModelParams()
	params.GPULayers = o.GPULayers
	model, err := llama.LoadModel(path, params)
	if err != nil {
		return nil, fmt.Errorf("local engine: %w", err)
	}
	template, err := llama.NewChatTemplate(model, "")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local engine: %w", err), model.Close())
	}
	l := &Local{
		path: path, options: o, model: model, template: template,
		queue: make(chan *localCall), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go l.loop()
	return l, nil
}

// Close ends what is under way and frees the model.
func (l *Local) Close() error {
	var err error
	l.closed.Do(func() {
		close(l.stop)
		<-l.ended
		err = errors.Join(l.context.Close(), l.template.Close(), l.model.Close())
	})
	return err
}

// Name is the model's file.
func (l *Local) Name() string { return l.path }

// Inspect says how long the model's context can be and how many answers are generated at the same time.
func (l *Local) Inspect(context.Context) (Info, error) {
	return Info{Context: l.model.NCtxTrain(), Parallel: l.options.Parallel}, nil
}

// Alive is always so.
func (l *Local) Alive(context.Context) error { return nil }

// space is the grammar's rule for white space between the parts of JSON. llama.cpp allows much of it, which small
// models then write.
var space = regexp.MustCompile(`(?m)^space ::= .*$`)

// Chat asks the model.
func (l *Local) Chat(ctx context.Context, r Request) (Reply, error) {
	c, err := l.prepare(ctx, r)
	if err != nil {
		return Reply{}, fmt.Errorf("%s: %w", l.path, err)
	}
	defer c.sampler.Close()
	select {
	case l.queue <- c:
	case <-ctx.Done():
		return Reply{}, l.ctxError(ctx)
	case <-l.stop:
		return Reply{}, fmt.Errorf("%s: %w", l.path, llama.ErrClosed)
	}
	reply := <-c.reply
	reply.Duration = time.Since(c.start)
	if reply.err != nil && ctx.Err() != nil {
		reply.err = l.ctxError(ctx)
	}
	return reply.Reply, reply.err
}

func (l *Local) ctxError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Reason: Timeout, Err: fmt.Errorf("%s: %w", l.path, ctx.Err())}
	}
	return ctx.Err()
}

// prepare renders the prompt and makes the sampler.
func (l *Local) prepare(ctx context.Context, r Request) (*localCall, error) {
	o := llama.DefaultChatOptions()
	o.EnableThinking, o.JSONSchema = false, r.Schema
	var messages []llama.ChatMessage
	for _, m := range r.Messages {
		messages = append(messages, llama.ChatMessage{Role: m.Role, Content: m.Content})
	}
	chat, err := l.template.Render(messages, o)
	if err != nil {
		return nil, err
	}
	tokens, err := l.model.Tokenize(chat.Prompt, true, true)
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 || len(tokens)+r.Options.NumPredict > r.Options.NumCtx {
		return nil, fmt.Errorf("%w: got %d tokens + num_predict %d, want at most num_ctx %d", ErrContext, len(tokens), r.Options.NumPredict, r.Options.NumCtx)
	}
	p := llama.DefaultSamplerParams()
	p.Seed, p.Temperature, p.TopP, p.TopK = uint32(r.Options.Seed), float32(r.Options.Temperature), float32(r.Options.TopP), r.Options.TopK
	p.RepeatPenalty, p.RepeatLastN = float32(r.Options.RepeatPenalty), r.Options.RepeatLastN
	if p.RepeatLastN < 0 {
		p.RepeatLastN = r.Options.NumCtx
	}
	if chat.Grammar != "" {
		p.Grammar = space.ReplaceAllString(chat.Grammar, `space ::= " "?`)
	}
	sampler, err := llama.NewSampler(l.model, p)
	if err != nil {
		return nil, err
	}
	if err := l.prime(sampler, tokens[max(0, len(tokens)-p.RepeatLastN):], chat); err != nil {
		return nil, errors.Join(err, sampler.Close())
	}
	return &localCall{ctx: ctx, request: r, prompt: tokens, sampler: sampler, stops: chat.Stops, start: time.Now(), reply: make(chan localReply, 1)}, nil
}

// prime tells a sampler of the prompt. llama.cpp's grammar of an answer begins with what the template puts before it.
func (l *Local) prime(s *llama.Sampler, prompt []llama.Token, chat llama.ChatPrompt) error {
	if err := s.AcceptPrompt(prompt); err != nil || chat.Grammar == "" || chat.GenerationPrompt == "" {
		return err
	}
	tokens, err := l.model.Tokenize(chat.GenerationPrompt, false, true)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if err := s.Accept(t); err != nil {
			return err
		}
	}
	return nil
}

// loop generates until the engine is closed.
func (l *Local) loop() {
	runtime.LockOSThread() // llama.cpp's OpenMP keeps a team of threads for every thread that calls it
	defer close(l.ended)
	var waiting *localCall // it wants a context of another size, or came while all places were taken
	for {
		if waiting == nil {
			if waiting = l.receive(); waiting == nil && l.idle() {
				l.fail(llama.ErrClosed)
				return
			}
		}
		if waiting != nil && l.admit(waiting) {
			waiting = nil
			continue
		}
		if err := l.step(); err != nil {
			l.fail(err)
		}
		select {
		case <-l.stop:
			l.fail(llama.ErrClosed)
			if waiting != nil {
				waiting.reply <- localReply{err: llama.ErrClosed}
			}
			return
		default:
		}
	}
}

// receive takes the next call; it waits for one if there is nothing else to do, and gives nil if there is none or the
// engine is closed.
func (l *Local) receive() *localCall {
	if l.idle() {
		select {
		case c := <-l.queue:
			return c
		case <-l.stop:
			return nil
		}
	}
	select {
	case c := <-l.queue:
		return c
	default:
		return nil
	}
}

func (l *Local) idle() bool {
	return !slices.ContainsFunc(l.places, func(p *place) bool { return p.call != nil })
}

// admit gives a call a place, if there is one for it now. One that cannot be served is answered with the error.
func (l *Local) admit(c *localCall) bool {
	if l.context == nil || l.numCtx != c.request.Options.NumCtx {
		if !l.idle() {
			return false
		}
		if err := l.resize(c.request.Options.NumCtx); err != nil {
			c.reply <- localReply{err: err}
			return true
		}
	}
	var best *place
	most := -1
	for _, p := range l.places {
		if n := common(p.cached, c.prompt); p.call == nil && n > most {
			best, most = p, n
		}
	}
	if best == nil {
		return false
	}
	keep := min(most, len(c.prompt)-1) // the last token is computed again, for its logits
	removed, err := l.context.SeqRemove(best.seq, int32(keep), -1)
	if err == nil && !removed {
		keep = 0
		_, err = l.context.SeqRemove(best.seq, -1, -1)
	}
	if err != nil {
		c.reply <- localReply{err: err}
		return true
	}
	*best = place{seq: best.seq, cached: best.cached[:keep:keep], call: c, feed: c.prompt[keep:], row: -1}
	return true
}

func common(a, b []llama.Token) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// resize makes the context anew.
func (l *Local) resize(numCtx int) error {
	if err := l.context.Close(); err != nil {
		return err
	}
	p := llama.DefaultContextParams()
	p.NSeqMax, p.NCtx, p.NBatch, p.Threads = l.options.Parallel, l.options.Parallel*numCtx, l.options.NumBatch, l.options.Threads
	p.NUBatch = 0
	context, err := l.model.NewContext(p)
	if err != nil {
		return err
	}
	l.context, l.numCtx, l.places = context, numCtx, nil
	for i := range l.options.Parallel {
		l.places = append(l.places, &place{seq: int32(i), row: -1})
	}
	return nil
}

// fail answers everything that is under way with an error.
func (l *Local) fail(err error) {
	for _, p := range l.places {
		if p.call != nil {
			p.end("", err)
		}
		p.cached = nil // who knows how far it came
	}
	if l.context != nil && !errors.Is(err, llama.ErrClosed) {
		_ = l.context.MemoryClear(false) // what is wrong with it shows again with the next call
	}
}

// step computes one batch, and chooses a token for every answer whose turn it is.
func (l *Local) step() error {
	var batch []llama.BatchToken
	order := slices.Clone(l.places)
	slices.SortStableFunc(order, func(a, b *place) int { return len(a.feed) - len(b.feed) }) // answers before prompts
	for _, p := range order {
		p.row = -1
		if p.call == nil {
			continue
		}
		if p.call.ctx.Err() != nil {
			p.end("", p.call.ctx.Err())
			continue
		}
		for len(p.feed) > 0 && len(batch) < l.options.NumBatch {
			last := len(p.feed) == 1
			batch = append(batch, llama.BatchToken{Token: p.feed[0], Pos: int32(len(p.cached)), Seqs: []int32{p.seq}, Logits: last})
			p.cached, p.feed = append(p.cached, p.feed[0]), p.feed[1:]
			if last {
				p.row = len(batch) - 1
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	if err := l.context.Decode(batch); err != nil {
		return err
	}
	for _, p := range l.places {
		if p.call != nil && p.row >= 0 {
			if err := l.choose(p); err != nil {
				p.end("", err)
			}
		}
	}
	return nil
}

// choose samples the next token of an answer, and ends the answer where it ends.
func (l *Local) choose(p *place) error {
	t, err := p.call.sampler.Sample(l.context, p.row)
	if err != nil {
		return err
	}
	p.tokens++
	if l.model.IsEOG(t) {
		p.end("stop", nil)
		return nil
	}
	if err := p.call.sampler.Accept(t); err != nil {
		return err
	}
	piece, err := l.model.TokenBytes(t, false)
	if err != nil {
		return err
	}
	p.out = append(p.out, piece...)
	for _, stop := range p.call.stops {
		from := max(0, len(p.out)-len(piece)-len(stop))
		if i := strings.Index(string(p.out[from:]), stop); stop != "" && i >= 0 {
			p.out = p.out[:from+i]
			p.end("stop", nil)
			return nil
		}
	}
	if p.tokens >= p.call.request.Options.NumPredict {
		p.end("length", nil)
		return nil
	}
	p.feed = []llama.Token{t}
	return nil
}

// end answers the call and frees the place; what is computed stays, for a prompt that begins in the same way.
func (p *place) end(reason string, err error) {
	c := p.call
	c.reply <- localReply{Reply{
		Content: withoutThoughts(strings.ToValidUTF8(string(p.out), "")), DoneReason: reason, PromptTokens: len(c.prompt), Tokens: p.tokens,
	}, err}
	*p = place{seq: p.seq, cached: p.cached, row: -1}
}
