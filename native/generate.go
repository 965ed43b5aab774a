package llama

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// GenerateOptions says how far Generate goes.
type GenerateOptions struct {
	MaxTokens int      // 0 or less: until the model ends or its context is full
	Stops     []string // texts that end the answer; they are not part of it
	Seq       int32    // the sequence in memory
	Pos       int32    // the position of the first token, the number of positions there already
	// OnPiece gets the answer as it grows, in whole UTF-8 characters, without
	// what could still become a stop text; false ends the generation.
	OnPiece func(piece string) bool
	Special bool // render control tokens as text
}

// Reasons why a generation ended.
const (
	ReasonEOG      = "eog"      // the model ended its turn
	ReasonStop     = "stop"     // a stop text
	ReasonLength   = "length"   // MaxTokens, or the context is full
	ReasonCallback = "callback" // OnPiece
)

// GenerateResult is the answer.
type GenerateResult struct {
	Text         string  // up to a stop text
	Tokens       []Token // all sampled, the end token included
	Reason       string
	PromptTokens int
	FirstToken   time.Duration // from the call to the first sampled token
	PromptTime   time.Duration // decoding the prompt
	EvalTime     time.Duration // everything after the first sampled token
}

// Generate decodes tokens (the prompt) and samples an answer. The prompt is
// remembered by the sampler's penalties, and decoded tokens stay in memory: the
// sequence then holds the prompt and all sampled tokens but the last. When ctx is
// done, the result so far is returned with its error.
func (c *ModelContext) Generate(ctx context.Context, tokens []Token, s *Sampler, o GenerateOptions) (GenerateResult, error) {
	defer onOneThread()()
	start := time.Now()
	res := GenerateResult{PromptTokens: len(tokens)}
	if err := c.DecodeTokensContext(ctx, tokens, o.Seq, o.Pos, LogitsLast); err != nil {
		return res, fmt.Errorf("generate: %w", err)
	}
	if err := s.AcceptPrompt(tokens); err != nil {
		return res, fmt.Errorf("generate: %w", err)
	}
	res.PromptTime = time.Since(start)
	out := newPieces(o.Stops, o.OnPiece)
	err := c.generate(ctx, start, int(o.Pos)+len(tokens), s, o, out, &res)
	out.flush(&res)
	res.Text = out.text()
	if len(res.Tokens) > 0 {
		res.EvalTime = time.Since(start) - res.FirstToken
	}
	if err != nil {
		return res, fmt.Errorf("generate: %w", err)
	}
	return res, nil
}

func (c *ModelContext) generate(ctx context.Context, start time.Time, pos int, s *Sampler, o GenerateOptions, out *pieces, res *GenerateResult) error {
	next := make([]Token, 1)
	for {
		t, err := s.Sample(c, -1)
		if err != nil {
			return err
		}
		if len(res.Tokens) == 0 {
			res.FirstToken = time.Since(start)
		}
		res.Tokens = append(res.Tokens, t)
		if c.model.IsEOG(t) {
			res.Reason = ReasonEOG
			return nil
		}
		if err := s.Accept(t); err != nil {
			return err
		}
		piece, err := c.model.TokenBytes(t, o.Special)
		if err != nil {
			return err
		}
		if res.Reason = out.add(piece); res.Reason != "" {
			return nil
		}
		if (o.MaxTokens > 0 && len(res.Tokens) >= o.MaxTokens) || pos >= c.nCtx {
			res.Reason = ReasonLength
			return nil
		}
		next[0] = t
		if err := c.DecodeTokensContext(ctx, next, o.Seq, int32(pos), LogitsLast); err != nil {
			return err
		}
		pos++
	}
}

// pieces collects an answer and passes on what is certain to stay: whole
// characters that cannot be the begin of a stop text.
type pieces struct {
	stops []string
	emit  func(string) bool
	buf   []byte // everything
	sent  int    // bytes of buf passed on
}

func newPieces(stops []string, emit func(string) bool) *pieces {
	p := &pieces{emit: emit}
	for _, s := range stops {
		if s != "" {
			p.stops = append(p.stops, s)
		}
	}
	return p
}

// add appends bytes and returns a reason to end, or "".
func (p *pieces) add(piece []byte) string {
	p.buf = append(p.buf, piece...)
	rest := string(p.buf[p.sent:])
	cut := -1
	for _, s := range p.stops {
		if i := strings.Index(rest, s); i >= 0 && (cut < 0 || i < cut) {
			cut = i
		}
	}
	if cut >= 0 {
		p.buf = p.buf[:p.sent+cut]
		return ReasonStop
	}
	if !p.send(len(rest) - p.hold(rest)) {
		return ReasonCallback
	}
	return ""
}

// hold returns how many bytes at the end of s may not be passed on yet.
func (p *pieces) hold(s string) int {
	n := 0
	for _, stop := range p.stops {
		for k := min(len(stop)-1, len(s)); k > n; k-- {
			if strings.HasSuffix(s, stop[:k]) {
				n = k
				break
			}
		}
	}
	return max(n, incomplete(s))
}

// incomplete returns the bytes at the end of s that begin a UTF-8 character
// whose rest is missing.
func incomplete(s string) int {
	for n := 1; n <= min(len(s), utf8.UTFMax-1); n++ {
		c := s[len(s)-n]
		if utf8.RuneStart(c) {
			if !utf8.FullRuneInString(s[len(s)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// send passes on the next n bytes.
func (p *pieces) send(n int) bool {
	if n <= 0 {
		return true
	}
	piece := string(p.buf[p.sent : p.sent+n])
	p.sent += n
	return p.emit == nil || p.emit(piece)
}

// flush passes on what was held back when the generation ended otherwise.
func (p *pieces) flush(res *GenerateResult) {
	if res.Reason != ReasonCallback {
		p.send(len(p.buf) - p.sent)
	}
}

func (p *pieces) text() string { return string(p.buf) }
