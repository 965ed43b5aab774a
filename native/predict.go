package llama

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Predict generates an answer to text, which is decoded from position 0 on: an
// earlier call has no influence. Of a LoadState or a prompt cache the part that
// agrees with text is reused, and all of it when text is empty.
//
// The answer ends with an end-of-generation token, in front of a stop word, with
// the last of Tokens, or when the callback says so. It is returned without the
// prompt, and without one leading newline. A context that is full drops the older
// half of its tokens behind the first NKeep. A prompt of more tokens than the
// context's size less 4 is an error.
func (l *LLama) Predict(text string, opts ...PredictOption) (string, error) {
	po := NewPredictOptions(opts...)
	end, err := l.begin()
	if err != nil {
		return "", fmt.Errorf("predict: %w", err)
	}
	defer end()
	defer l.useCallback(po.TokenCallback)()
	answer, err := l.predict(text, po)
	if err != nil {
		return "", fmt.Errorf("predict: %w", err)
	}
	return answer, nil
}

func (l *LLama) predict(text string, po PredictOptions) (string, error) {
	params, err := l.samplerParams(po)
	if err != nil {
		return "", err
	}
	s, err := NewSampler(l.model, params)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := setThreads(l.memory.c, po.Threads); err != nil {
		return "", err
	}
	cache, err := l.openCache(po)
	if err != nil {
		return "", err
	}
	prompt, err := l.startPrompt(text, po, s)
	if err != nil {
		return "", err
	}
	g, err := l.newGuidance(po, len(prompt))
	if err != nil {
		return "", err
	}
	defer g.close()
	if err := cache.savePrompt(l, prompt); err != nil {
		return "", err
	}
	a := l.newAnswer(po)
	if err := l.generate(a, s, g); err != nil {
		return "", err
	}
	if err := cache.saveAll(l); err != nil {
		return "", err
	}
	a.debug(po, len(prompt))
	return a.text(), nil
}

// startPrompt tokenizes text and decodes what the memory does not hold already.
func (l *LLama) startPrompt(text string, po PredictOptions, s *Sampler) ([]Token, error) {
	m := l.memory
	held := m.tokens
	if !l.loaded {
		held = nil
	}
	prompt, err := l.promptTokens(text, held)
	if err != nil {
		return nil, err
	}
	reused := 0
	if l.loaded {
		reused, err = m.reuse(prompt)
	} else {
		err = m.truncate(0)
	}
	l.loaded, l.next = false, -1
	if err != nil {
		return nil, err
	}
	if po.DebugMode {
		slog.Info("llama: prompt", "tokens", len(prompt), "reused", reused)
	}
	m.keep, m.dropped = min(keepTokens(po.NKeep, len(prompt)), m.c.NCtx()-4), false
	if err := m.decode(prompt[reused:], false); err != nil {
		return nil, err
	}
	return prompt, s.AcceptPrompt(prompt)
}

// promptTokens returns the tokens of text, or for an empty text those of the
// loaded state.
func (l *LLama) promptTokens(text string, held []Token) ([]Token, error) {
	if text == "" && len(held) > 0 {
		return slices.Clone(held), nil
	}
	prompt, err := l.model.Tokenize(text, true, true)
	if err != nil {
		return nil, err
	}
	if len(prompt) == 0 {
		if l.model.BOS() < 0 {
			return nil, errors.New("empty prompt: it gives no tokens, and the vocabulary has no begin-of-sequence token")
		}
		prompt = []Token{l.model.BOS()}
	}
	return prompt, checkPrompt(prompt, l.memory.c)
}

// checkPrompt leaves room for at least 4 tokens of an answer.
func checkPrompt(prompt []Token, c *ModelContext) error {
	if limit := c.NCtx() - 4; len(prompt) > limit {
		return fmt.Errorf("prompt too long: got %d tokens, want at most %d, the context less 4", len(prompt), limit)
	}
	return nil
}

// keepTokens is how many of n prompt tokens stay in a full context: as many as
// asked for, all if less than 0, and the first always.
func keepTokens(asked, n int) int {
	if asked < 0 || asked > n {
		return n
	}
	return max(asked, 1)
}

// generate samples and decodes until the answer is complete.
func (l *LLama) generate(a *answer, s *Sampler, g *guidance) error {
	for {
		t, err := g.sample(s, l.memory.c)
		if err != nil {
			return err
		}
		done, keep, err := a.add(t)
		if err != nil {
			return err
		}
		if done {
			if keep {
				l.next = t
			}
			return nil
		}
		if err := s.Accept(t); err != nil {
			return err
		}
		if err := l.append(t); err != nil {
			return err
		}
		if err := g.append(t); err != nil {
			return err
		}
	}
}

// append decodes one more token.
func (l *LLama) append(t Token) error {
	if err := l.memory.room(1); err != nil {
		return err
	}
	return l.memory.decode([]Token{t}, false)
}

// flush decodes the token that was generated last, if that is still to be done.
func (l *LLama) flush() error {
	if l.next < 0 {
		return nil
	}
	t := l.next
	l.next = -1
	return l.append(t)
}

// answer is the text of a prediction while it grows.
type answer struct {
	l       *LLama
	bytes   []byte
	stops   []string
	longest int // bytes of the longest stop word
	tokens  int
	limit   int // tokens; 0 or less is none
	start   time.Time
}

func (l *LLama) newAnswer(po PredictOptions) *answer {
	a := &answer{l: l, limit: po.Tokens, start: time.Now()}
	for _, stop := range po.StopPrompts {
		if stop != "" {
			a.stops = append(a.stops, stop)
			a.longest = max(a.longest, len(stop))
		}
	}
	return a
}

// add takes the next token. done says that it is the last, keep that it belongs
// to the answer (and to the state that SaveState saves).
func (a *answer) add(t Token) (done, keep bool, err error) {
	if a.l.freed() {
		return true, false, ErrClosed
	}
	piece, err := a.l.model.TokenBytes(t, false)
	if err != nil {
		return true, false, err
	}
	a.tokens++
	if callback := a.l.callback.Load(); callback != nil && !(*callback)(string(piece)) {
		return true, false, nil
	}
	if a.l.model.IsEOG(t) {
		return true, false, nil
	}
	a.bytes = append(a.bytes, piece...)
	return a.cutAtStop(len(piece)) || a.tokens == a.limit, true, nil
}

// cutAtStop looks for the first stop word that ends in the last n bytes.
func (a *answer) cutAtStop(n int) bool {
	if len(a.stops) == 0 {
		return false
	}
	from := max(0, len(a.bytes)-n-a.longest+1)
	tail, cut := string(a.bytes[from:]), -1
	for _, stop := range a.stops {
		if i := strings.Index(tail, stop); i >= 0 && (cut < 0 || i < cut) {
			cut = i
		}
	}
	if cut < 0 {
		return false
	}
	a.bytes = a.bytes[:from+cut]
	return true
}

// text is the answer as it is returned.
func (a *answer) text() string {
	return strings.TrimPrefix(string(a.bytes), "\n")
}

func (a *answer) debug(po PredictOptions, prompt int) {
	if po.DebugMode {
		d := time.Since(a.start)
		slog.Info("llama: answer", "tokens", a.tokens, "prompt_tokens", prompt, "duration", d,
			"tokens_per_second", float64(a.tokens)/max(d.Seconds(), 1e-9))
	}
}
