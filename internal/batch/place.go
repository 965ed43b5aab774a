package batch

import (
	"slices"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"
)

// place is a sequence of the context.
type place struct {
	seqs   []int32       // its number
	cached []llama.Token // what is computed
	used   uint64        // clock of its last call
	call   *call         // nil: free
	waits  bool          // for another call that computes what it needs too
	begun  bool          // the cache is cut down to what the call can use
	reused int           // tokens of the prompt that were there
	feed   []llama.Token // what is to be computed next: the rest of the prompt, or the token chosen last
	next   [1]llama.Token
	out    []byte
	tokens int
}

// fill makes the next batch: a token of every answer, and then prompts, in the order in which they came. While answers
// are under way, prompts get half of a batch, so that a long one does not hold them up.
func (e *Engine) fill() {
	e.batch, e.rows, e.turn = e.batch[:0], e.rows[:0], e.turn[:0]
	var prompts []*place
	for _, p := range e.places { // llama.cpp computes sequences together that follow each other in number
		switch {
		case p.call == nil || !p.begun:
		case p.tokens > 0:
			e.feed(p, 1)
		default:
			prompts = append(prompts, p)
		}
	}
	slices.SortFunc(prompts, func(a, b *place) int { return int(a.used) - int(b.used) })
	room := e.options.NumBatch - len(e.batch)
	if len(e.batch) > 0 {
		room = min(room, max(1, e.options.NumBatch/2))
	}
	for _, p := range prompts {
		n := min(room, len(p.feed))
		e.feed(p, n)
		room -= n
	}
}

// feed puts the next n tokens of a place into the batch.
func (e *Engine) feed(p *place, n int) {
	for _, t := range p.feed[:n] {
		e.batch = append(e.batch, llama.BatchToken{Token: t, Pos: int32(len(p.cached)), Seqs: p.seqs})
		p.cached = append(p.cached, t)
	}
	if p.feed = p.feed[n:]; n > 0 && len(p.feed) == 0 {
		e.batch[len(e.batch)-1].Logits = true
		e.rows = append(e.rows, llama.SampledRow{Index: len(e.batch) - 1, Sampler: p.call.sampler})
		e.turn = append(e.turn, p)
	}
}

// add takes the token that was chosen for an answer, and ends the answer where it ends.
func (e *Engine) add(p *place, chosen llama.SampledRow) error {
	if chosen.Err != nil {
		return chosen.Err
	}
	p.tokens++
	if chosen.EOG {
		p.end("stop", nil)
		return nil
	}
	piece, err := e.piece(chosen.Token)
	if err != nil {
		return err
	}
	p.out = append(p.out, piece...)
	for _, stop := range p.call.request.Stops {
		from := max(0, len(p.out)-len(piece)-len(stop))
		if i := strings.Index(string(p.out[from:]), stop); stop != "" && i >= 0 {
			p.out = p.out[:from+i]
			p.end("stop", nil)
			return nil
		}
	}
	if p.tokens >= p.call.request.NumPredict {
		p.end("length", nil)
		return nil
	}
	p.next[0] = chosen.Token
	p.feed = p.next[:]
	return nil
}

// piece is the text of a token.
func (e *Engine) piece(t llama.Token) ([]byte, error) {
	if piece, ok := e.pieces[t]; ok {
		return piece, nil
	}
	piece, err := e.model.TokenBytes(t, false)
	if err == nil {
		e.pieces[t] = piece
	}
	return piece, err
}

// end answers the call and frees the place; what is computed stays, for a prompt that begins in the same way.
func (p *place) end(reason string, err error) {
	c := p.call
	c.reply <- reply{Result{
		Text: strings.ToValidUTF8(string(p.out), ""), DoneReason: reason,
		PromptTokens: len(c.request.Tokens), CachedTokens: p.reused, Tokens: p.tokens,
	}, err}
	*p = place{seqs: p.seqs, cached: p.cached, used: p.used}
}
