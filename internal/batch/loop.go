package batch

import (
	"errors"
	"runtime"
	"slices"

	llama "github.com/go-skynet/go-llama.cpp"
)

// worthSharing is the number of tokens from which on it is better to wait for another call that computes them, and to
// copy them, than to compute them again.
const worthSharing = 32

// loop generates until the engine is closed.
func (e *Engine) loop() {
	runtime.LockOSThread() // llama.cpp's OpenMP keeps a team of threads for every thread that calls it
	defer close(e.ended)
	var waiting *call // it wants a larger context, or came while all places were taken
	for {
		if waiting == nil {
			waiting = e.receive()
		}
		if e.ctx.Err() != nil {
			e.fail(llama.ErrClosed)
			if waiting != nil {
				waiting.reply <- reply{err: llama.ErrClosed}
			}
			return
		}
		if waiting != nil && e.admit(waiting) {
			waiting = nil
			continue
		}
		if err := e.step(); err != nil && e.ctx.Err() == nil { // else the next round ends all
			e.fail(err)
		}
	}
}

// receive takes the next call; it waits for one if there is nothing else to do, and gives nil if there is none or the
// engine is closed.
func (e *Engine) receive() *call {
	if e.idle() {
		select {
		case c := <-e.queue:
			return c
		case <-e.ctx.Done():
			return nil
		}
	}
	select {
	case c := <-e.queue:
		return c
	default:
		return nil
	}
}

func (e *Engine) idle() bool {
	return !slices.ContainsFunc(e.places, func(p *place) bool { return p.call != nil })
}

// admit gives a call a place, if there is one for it now. One that cannot be served is answered with the error.
func (e *Engine) admit(c *call) bool {
	if err := c.ctx.Err(); err != nil {
		c.reply <- reply{err: err}
		return true
	}
	if e.context == nil || e.numCtx < c.request.NumCtx {
		if !e.idle() {
			return false
		}
		if err := e.resize(max(c.request.NumCtx, e.options.NumCtx)); err != nil {
			c.reply <- reply{err: err}
			return true
		}
	}
	var best *place
	most := -1
	for _, p := range e.places { // the one that has most of the prompt, else the one that was used longest ago
		n := common(p.cached, c.request.Tokens)
		if p.call == nil && (n > most || n == most && p.used < best.used) {
			best, most = p, n
		}
	}
	if best == nil {
		return false
	}
	e.clock++
	*best = place{seqs: best.seqs, cached: best.cached, used: e.clock, call: c}
	return true
}

// resize makes the context anew.
func (e *Engine) resize(numCtx int) error {
	if err := e.context.Close(); err != nil {
		return err
	}
	e.context, e.places = nil, nil
	p := llama.DefaultContextParams()
	p.NSeqMax, p.NCtx, p.NBatch, p.Threads = e.options.Parallel, e.options.Parallel*numCtx, e.options.NumBatch, e.options.Threads
	p.NUBatch, p.KVUnified = 0, e.options.Unified
	context, err := e.model.NewContext(p)
	if err != nil {
		return err
	}
	e.context, e.numCtx = context, numCtx
	for i := range e.options.Parallel {
		e.places = append(e.places, &place{seqs: []int32{int32(i)}})
	}
	return nil
}

// fail answers everything that is under way with an error.
func (e *Engine) fail(err error) {
	for _, p := range e.places {
		if p.call != nil {
			p.end("", err)
		}
		p.cached = nil // who knows how far it came
	}
	if e.context != nil && !errors.Is(err, llama.ErrClosed) {
		_ = e.context.MemoryClear(false) // what is wrong with it shows again with the next call
	}
}

// step computes one batch, and chooses a token for every answer whose turn it is.
func (e *Engine) step() error {
	for _, p := range e.places {
		if p.call != nil && p.call.ctx.Err() != nil {
			p.end("", p.call.ctx.Err())
		}
	}
	if err := e.begin(); err != nil {
		return err
	}
	e.fill()
	if len(e.batch) == 0 {
		return nil
	}
	if err := e.context.DecodeContext(e.ctx, e.batch); err != nil {
		return err
	}
	if err := e.context.SampleRows(e.rows, e.workers); err != nil {
		return err
	}
	for i, p := range e.turn {
		if err := e.add(p, e.rows[i]); err != nil {
			p.end("", err)
		}
	}
	return nil
}

// begin starts calls that were admitted. One whose prompt begins as that of a call whose prompt is being computed waits
// until that is done, and is given a copy.
func (e *Engine) begin() error {
	for _, p := range e.places {
		if p.call == nil || p.begun {
			continue
		}
		prompt := p.call.request.Tokens
		keep, from := common(p.cached, prompt), p
		coming := 0
		for _, q := range e.places {
			if q == p {
				continue
			}
			if n := common(q.cached, prompt); n >= keep+worthSharing {
				keep, from = n, q
			}
			if q.begun && len(q.feed) > 1 {
				coming = max(coming, common(q.call.request.Tokens, prompt))
			}
		}
		if coming = min(coming, len(prompt)-1); coming >= keep+worthSharing || p.waits && coming > keep {
			p.waits = true
			continue
		}
		keep = min(keep, len(prompt)-1) // the last token is computed again, for its logits
		if err := e.share(from, p, keep); err != nil {
			return err
		}
	}
	return nil
}

// share begins p's call behind the first keep tokens that the cache has for from.
func (e *Engine) share(from, p *place, keep int) error {
	if from != p {
		if _, err := e.context.SeqRemove(p.seqs[0], -1, -1); err != nil {
			return err
		}
		if err := e.context.SeqCopy(from.seqs[0], p.seqs[0], -1, -1); err != nil {
			return err
		}
		p.cached = append(p.cached[:0], from.cached...)
	}
	removed, err := e.context.SeqRemove(p.seqs[0], int32(keep), -1)
	if err == nil && !removed { // a memory that cannot forget a part
		keep = 0
		_, err = e.context.SeqRemove(p.seqs[0], -1, -1)
	}
	p.cached, p.feed = p.cached[:keep], p.call.request.Tokens[keep:]
	p.begun, p.reused = true, keep
	return err
}

func common(a, b []llama.Token) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
