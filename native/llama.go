package llama

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// LLama is a loaded model with one context: go-llama.cpp's handle. It may be
// used by many goroutines; what needs the context (everything except
// TokenizeString, SetTokenCallback and Free) waits for its turn. A token
// callback therefore must not call those methods of the same LLama.
//
// Texts are tokenized with the tokens that the vocabulary adds by itself (such
// as BOS), and special tokens written in a text ("<|im_start|>") are parsed.
type LLama struct {
	refs     refs // calls in progress; Free ends the last hold
	options  ModelOptions
	model    *Model
	adapter  *Adapter // nil without LoraAdapter
	params   ContextParams
	order    uint64 // in which two LLamas are locked: each has its own number
	callback atomic.Pointer[func(string) bool]

	run    sync.Mutex // held by the call that uses the context
	memory *history
	// next is a token that was generated and not decoded yet, or -1. It
	// belongs to what SaveState saves.
	next Token
	// loaded says that memory came from LoadState and no call used it yet.
	loaded bool
}

// created numbers the LLamas.
var created atomic.Uint64

// New loads a GGUF file. The error of a file that cannot be loaded carries
// llama.cpp's reason.
func New(model string, opts ...ModelOption) (*LLama, error) {
	o := NewModelOptions(opts...)
	mp, cp, err := loadParams(o)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", model, err)
	}
	if o.NUMA {
		if err := initNUMA(); err != nil {
			return nil, err
		}
	}
	l := &LLama{options: o, params: cp, order: created.Add(1), next: -1}
	if l.model, err = LoadModel(model, mp); err != nil {
		return nil, err
	}
	if o.LoraAdapter != "" {
		if l.adapter, err = l.model.LoadAdapter(o.LoraAdapter); err != nil {
			return nil, errors.Join(err, l.model.Close())
		}
	}
	c, err := l.newContext()
	if err != nil {
		l.close(nil)
		return nil, err
	}
	l.memory = &history{c: c}
	l.refs.free = func() { l.close(c) }
	return l, nil
}

// Free gives the model and its context back. Calls in progress end early with
// an error, and later calls return one. A second Free does nothing.
func (l *LLama) Free() {
	if l != nil && l.model != nil {
		l.refs.close()
	}
}

// close frees what New made; c may be nil. Close of these values never fails.
func (l *LLama) close(c *ModelContext) {
	if c != nil {
		_ = c.Close()
	}
	if l.adapter != nil {
		_ = l.adapter.Close()
	}
	_ = l.model.Close()
}

// newContext makes a context with the options that New was called with.
func (l *LLama) newContext() (*ModelContext, error) {
	c, err := l.model.NewContext(l.params)
	if err != nil || l.adapter == nil {
		return c, err
	}
	if err := c.SetAdapters([]AdapterScale{{Adapter: l.adapter, Scale: 1}}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// hold keeps Free from freeing until the returned function is called.
func (l *LLama) hold() (release func(), err error) {
	if l == nil || l.model == nil {
		return nil, ErrClosed
	}
	if err := l.refs.acquire(); err != nil {
		return nil, err
	}
	return l.refs.release, nil
}

// begin waits for the context. The returned function must be called at the end.
func (l *LLama) begin() (end func(), err error) {
	release, err := l.hold()
	if err != nil {
		return nil, err
	}
	l.run.Lock()
	if l.freed() { // by somebody else, while waiting
		l.run.Unlock()
		release()
		return nil, ErrClosed
	}
	return func() { l.run.Unlock(); release() }, nil
}

// beginTwo waits for two contexts, always in the same order, so that two calls
// with the roles exchanged do not wait for each other.
func beginTwo(a, b *LLama) (end func(), err error) {
	if a == nil || b == nil {
		return nil, ErrClosed
	}
	if cmp.Compare(a.order, b.order) > 0 {
		a, b = b, a
	}
	endA, err := a.begin()
	if err != nil || a == b {
		return endA, err
	}
	endB, err := b.begin()
	if err != nil {
		endA()
		return nil, err
	}
	return func() { endB(); endA() }, nil
}

// freed tells whether Free was called.
func (l *LLama) freed() bool {
	l.refs.mu.Lock()
	defer l.refs.mu.Unlock()
	return l.refs.closed
}

// setThreads sets the number of CPU threads of c as a call asks for, never more
// than there are CPUs: more than that only wait for each other.
func setThreads(c *ModelContext, n int) error {
	if n <= 0 {
		return nil
	}
	n = min(n, runtime.NumCPU())
	return c.SetThreads(n, n)
}

// SetTokenCallback registers a function that sees each token right after it was
// generated, as text: not trimmed, possibly a part of a UTF-8 character, and
// empty for control tokens. Tokens of a stop word are seen too. Generation goes
// on while it returns true; the token for which it returned false is not part of
// the answer. nil removes the callback.
//
// It may be called at any time, also while a prediction runs and from the
// callback itself. A callback given as an option takes the place of this one,
// and at the end of that call none is registered.
func (l *LLama) SetTokenCallback(callback func(token string) bool) {
	if callback == nil {
		l.callback.Store(nil)
		return
	}
	l.callback.Store(&callback)
}

// useCallback registers the callback of one call, if it has one, and returns
// what removes it.
func (l *LLama) useCallback(callback func(string) bool) (remove func()) {
	if callback == nil {
		return func() {}
	}
	l.SetTokenCallback(callback)
	return func() { l.SetTokenCallback(nil) }
}

// TokenizeString splits text into tokens. It returns their number, and the
// tokens themselves, at most as many as the option Tokens says (0: 4096). A text
// of more tokens than the context has positions gives an error, and the number
// negative.
func (l *LLama) TokenizeString(text string, opts ...PredictOption) (int32, []int32, error) {
	release, err := l.hold()
	if err != nil {
		return 0, []int32{}, fmt.Errorf("tokenize string: %w", err)
	}
	defer release()
	tokens, err := l.model.Tokenize(text, true, true)
	if err != nil {
		return 0, []int32{}, fmt.Errorf("tokenize string: %w", err)
	}
	if n, limit := len(tokens), l.memory.c.NCtx(); n > limit {
		return int32(-n), []int32{}, fmt.Errorf("tokenize string: too many tokens: got %d, want at most %d, the context", n, limit)
	}
	limit := NewPredictOptions(opts...).Tokens
	if limit <= 0 {
		limit = 4096
	}
	return int32(len(tokens)), tokens[:min(len(tokens), limit)], nil
}

// Eval decodes text from position 0 on and keeps its state, for SaveState.
func (l *LLama) Eval(text string, opts ...PredictOption) error {
	end, err := l.begin()
	if err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	defer end()
	if err := l.eval(text, NewPredictOptions(opts...)); err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	return nil
}

func (l *LLama) eval(text string, po PredictOptions) error {
	if err := po.check(); err != nil {
		return err
	}
	tokens, err := l.model.Tokenize(text, true, true)
	if err != nil {
		return err
	}
	return l.decodeFromStart(tokens, po)
}

// decodeFromStart replaces what the memory holds by tokens.
func (l *LLama) decodeFromStart(tokens []Token, po PredictOptions) error {
	if len(tokens) == 0 {
		return errors.New("empty text: it gives no tokens")
	}
	if n, limit := len(tokens), l.memory.c.NCtx(); n > limit {
		return fmt.Errorf("text too long: got %d tokens, want at most %d, the context", n, limit)
	}
	if err := setThreads(l.memory.c, po.Threads); err != nil {
		return err
	}
	l.next, l.loaded = -1, false
	if err := l.memory.truncate(0); err != nil {
		return err
	}
	return l.memory.decode(tokens, false)
}
