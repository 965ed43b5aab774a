package llama

import (
	"errors"
	"fmt"
	"math"
)

// guidance is the second run of classifier-free guidance: the negative prompt in
// the place of the prompt, then the same tokens as the answer. A nil guidance is
// none.
type guidance struct {
	memory *history
	scale  float32
	logits []float32
}

// newGuidance decodes the negative prompt of a prompt of n tokens. There is
// guidance when the scale is above 1 and the negative prompt has tokens.
func (l *LLama) newGuidance(po PredictOptions, n int) (*guidance, error) {
	if !(po.NegativePromptScale > 1) {
		return nil, nil
	}
	if math.IsInf(float64(po.NegativePromptScale), 0) {
		return nil, fmt.Errorf("negative prompt scale: got %v, want a finite number", po.NegativePromptScale)
	}
	tokens, err := l.model.Tokenize(po.NegativePrompt, true, true)
	if err != nil || len(tokens) == 0 {
		return nil, err
	}
	c, err := l.newContext()
	if err != nil {
		return nil, err
	}
	g := &guidance{memory: &history{c: c}, scale: po.NegativePromptScale}
	if err := g.start(tokens, po, n); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return g, nil
}

func (g *guidance) start(tokens []Token, po PredictOptions, n int) error {
	if err := checkPrompt(tokens, g.memory.c); err != nil {
		return fmt.Errorf("negative %w", err)
	}
	if err := setThreads(g.memory.c, po.Threads); err != nil {
		return err
	}
	g.memory.keep = min(max(keepTokens(po.NKeep, n)+len(tokens)-n, 1), len(tokens))
	return g.memory.decode(tokens, false)
}

// sample chooses the next token from the last logits of c, steered if there is
// guidance.
func (g *guidance) sample(s *Sampler, c *ModelContext) (Token, error) {
	if g == nil {
		return s.Sample(c, -1)
	}
	logits, err := c.Logits(-1)
	if err != nil {
		return -1, err
	}
	negative, err := g.memory.c.Logits(-1)
	if err != nil {
		return -1, err
	}
	g.logits = steer(g.logits[:0], logits, negative, g.scale)
	return s.SampleLogits(g.logits)
}

// append decodes one more token of the answer.
func (g *guidance) append(t Token) error {
	if g == nil {
		return nil
	}
	if err := g.memory.room(1); err != nil {
		return err
	}
	return g.memory.decode([]Token{t}, false)
}

func (g *guidance) close() {
	if g != nil {
		_ = g.memory.c.Close()
	}
}

// steer appends negative + scale·(logits − negative) to dst, both taken as log
// probabilities (arXiv:2306.17806).
func steer(dst, logits, negative []float32, scale float32) []float32 {
	a, b := logSumExp(logits), logSumExp(negative)
	for i, x := range logits {
		p, n := float64(x)-a, float64(negative[i])-b
		dst = append(dst, float32(n+float64(scale)*(p-n)))
	}
	return dst
}

// logSumExp is log Σ exp x, without overflow.
func logSumExp(xs []float32) float64 {
	top := math.Inf(-1)
	for _, x := range xs {
		top = max(top, float64(x))
	}
	sum := 0.0
	for _, x := range xs {
		sum += math.Exp(float64(x) - top)
	}
	return top + math.Log(sum)
}
