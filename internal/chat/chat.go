// Package chat talks with a GGUF model in this process: several turns, rendered by the model's own
// template, with the KV cache kept between turns.
package chat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
)

// DefaultContext is the context length when none is asked for (Ollama's for small machines), unless
// the model was trained for less.
const DefaultContext = 4096

// ErrContextFull says that a conversation has more tokens than the context holds.
var ErrContextFull = errors.New("the conversation does not fit into the context")

// Options says how to load a model and how it shall answer; start from [DefaultOptions].
type Options struct {
	NumCtx     int // tokens of prompt and replies together; 0: DefaultContext
	NumBatch   int // tokens of a prompt that are decoded at once
	NumPredict int // tokens of one reply; -1: until the model ends it or the context is full
	Threads    int // 0: the physical cores
	GPULayers  int // -1: all, if there is a GPU
	MainGPU    int
	NoMMap     bool
	Adapters   []Adapter // LoRA adapters that act on the model

	Sampling llama.SamplerParams // RepeatLastN -1: the whole context
	Stop     []string            // texts that end a reply, besides the template's
	System   string              // system message; "" leaves it to the template
	Template string              // Jinja source in place of the model's own
	Raw      bool                // no template: the text goes in as it is
	Think    bool                // the template may let the model think first

	Progress func(done, total int64) // told how much of the model is loaded, in bytes
}

// DefaultOptions are Ollama's.
func DefaultOptions() Options {
	return Options{NumBatch: 512, NumPredict: -1, GPULayers: -1, Sampling: llama.DefaultSamplerParams(), Think: true}
}

// Check looks at the numbers that llama.cpp does not check itself. [Open] does it too.
func (o *Options) Check() error {
	switch {
	case o.NumCtx < 0:
		return fmt.Errorf("num_ctx: got %d, want 0 or more", o.NumCtx)
	case o.NumBatch < 1:
		return fmt.Errorf("num_batch: got %d, want 1 or more", o.NumBatch)
	case o.NumPredict != -1 && o.NumPredict < 1:
		return fmt.Errorf("num_predict: got %d, want 1 or more, or -1 for no limit", o.NumPredict)
	case o.Sampling.RepeatLastN < -1:
		return fmt.Errorf("repeat_last_n: got %d, want 0 or more, or -1 for the whole context", o.Sampling.RepeatLastN)
	case o.Threads < 0:
		return fmt.Errorf("threads: got %d, want 1 or more, or 0 for the number of cores", o.Threads)
	case o.GPULayers < -1:
		return fmt.Errorf("gpu layers: got %d, want 0 or more, or -1 for all", o.GPULayers)
	}
	return nil
}

// Session is a conversation with a model. It is for one goroutine at a time.
type Session struct {
	path     string
	options  Options
	model    *llama.Model
	context  *llama.ModelContext
	adapters []*llama.Adapter
	sampler  *llama.Sampler
	template *llama.ChatTemplate // nil with Raw
	load     time.Duration

	history []llama.ChatMessage // without the system message
	text    string              // with Raw: everything so far
	cached  []llama.Token       // what the KV cache holds, from position 0
}

// Open loads the model at path. ctx ends the loading. Close must be called.
func Open(ctx context.Context, path string, o Options) (*Session, error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("chat with %s: %w", path, err)
	}
	s := &Session{path: path, options: o}
	start := time.Now()
	if err := s.open(ctx); err != nil {
		s.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // llama.cpp says only that it was told to stop
		}
		return nil, fmt.Errorf("chat with %s: %w", path, err)
	}
	s.load = time.Since(start)
	return s, nil
}

func (s *Session) open(ctx context.Context) error {
	o := &s.options
	params := llama.DefaultModelParams()
	params.GPULayers, params.MainGPU, params.UseMMap = o.GPULayers, o.MainGPU, !o.NoMMap
	params.Progress = func(share float32) bool {
		if info, err := os.Stat(s.path); err == nil && o.Progress != nil {
			o.Progress(int64(float64(share)*float64(info.Size())), info.Size())
		}
		return ctx.Err() == nil
	}
	var err error
	if s.model, err = llama.LoadModel(s.path, params); err != nil {
		return err
	}
	if o.NumCtx == 0 {
		o.NumCtx = DefaultContext
		if trained := s.model.NCtxTrain(); trained > 0 {
			o.NumCtx = min(o.NumCtx, trained)
		}
	}
	if s.context, err = s.newContext(); err != nil {
		return err
	}
	if err := s.loadAdapters(); err != nil {
		return err
	}
	if o.Sampling.RepeatLastN < 0 {
		o.Sampling.RepeatLastN = s.context.NCtx()
	}
	if s.sampler, err = llama.NewSampler(s.model, o.Sampling); err != nil {
		return err
	}
	if !o.Raw {
		s.template, err = llama.NewChatTemplate(s.model, o.Template)
	}
	return err
}

func (s *Session) newContext() (*llama.ModelContext, error) {
	p := llama.DefaultContextParams()
	p.NCtx, p.NBatch, p.Threads = s.options.NumCtx, s.options.NumBatch, s.options.Threads
	p.NUBatch = 0 // llama.cpp's, but never more than NBatch
	return s.model.NewContext(p)
}

// Close frees the model and what belongs to it.
func (s *Session) Close() error {
	err := errors.Join(s.template.Close(), s.sampler.Close(), s.context.Close())
	for _, a := range s.adapters {
		err = errors.Join(err, a.Close())
	}
	return errors.Join(err, s.model.Close())
}

// Clear forgets the conversation, but not the system message.
func (s *Session) Clear() { s.history, s.text = nil, "" }

// SetSystem changes the system message; "" leaves it to the template.
func (s *Session) SetSystem(text string) { s.options.System = text }

// NumCtx is the number of tokens that the context holds.
func (s *Session) NumCtx() int { return s.context.NCtx() }

// Reply is one answer and what it took. The JSON names are those of Ollama's /api/chat.
type Reply struct {
	Model      string  `json:"model"`
	Message    Message `json:"message"`
	DoneReason string  `json:"done_reason"` // "stop", "length" (num_predict), "context" (it is full) or "cancelled"

	TotalDuration      time.Duration `json:"total_duration"` // nanoseconds, as all of these
	LoadDuration       time.Duration `json:"load_duration"`
	FirstTokenDuration time.Duration `json:"first_token_duration"` // from the prompt to the first token of the reply
	PromptEvalCount    int           `json:"prompt_eval_count"`    // tokens of the prompt that were decoded
	PromptCacheCount   int           `json:"prompt_cache_count"`   // tokens of the prompt that were in the KV cache
	PromptEvalDuration time.Duration `json:"prompt_eval_duration"`
	EvalCount          int           `json:"eval_count"` // tokens of the reply, the end token included
	EvalDuration       time.Duration `json:"eval_duration"`
}

// Message is what was said.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// PromptRate is the tokens per second of decoding the prompt.
func (r *Reply) PromptRate() float64 { return rate(r.PromptEvalCount, r.PromptEvalDuration) }

// Rate is the tokens per second after the first token of the reply.
func (r *Reply) Rate() float64 { return rate(r.EvalCount-1, r.EvalDuration) }

func rate(n int, d time.Duration) float64 {
	if n <= 0 || d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Say adds text as the user's turn and generates the reply; emit, unless nil, gets it as it grows, in
// whole UTF-8 characters. After an error the conversation is as it was before; only when ctx is done
// the reply so far is kept, and returned with the error.
func (s *Session) Say(ctx context.Context, text string, emit func(piece string)) (Reply, error) {
	// The OpenMP runtime below llama.cpp keeps a team of threads for every thread that calls it: a goroutine
	// that moves between threads halves the speed of generating.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	reply, err := s.say(ctx, text, emit)
	if err != nil {
		return reply, fmt.Errorf("chat with %s: %w", s.path, err)
	}
	return reply, nil
}

func (s *Session) say(ctx context.Context, text string, emit func(piece string)) (Reply, error) {
	start := time.Now()
	prompt, stops, err := s.prompt(text)
	if err != nil {
		return Reply{}, err
	}
	if len(prompt) >= s.context.NCtx() {
		return Reply{}, fmt.Errorf("%w: got %d tokens, want fewer than num_ctx %d", ErrContextFull, len(prompt), s.context.NCtx())
	}
	known, err := s.reuse(prompt)
	if err != nil {
		return Reply{}, err
	}
	if err := s.prime(prompt[:known]); err != nil {
		return Reply{}, err
	}
	result, err := s.context.Generate(ctx, prompt[known:], s.sampler, llama.GenerateOptions{
		MaxTokens: s.options.NumPredict, Stops: stops, Pos: int32(known),
		OnPiece: func(piece string) bool {
			if emit != nil {
				emit(piece)
			}
			return true
		},
	})
	reply := s.reply(result, known)
	reply.TotalDuration = time.Since(start)
	if err != nil {
		s.cached = nil // who knows how far it came
		if ctx.Err() == nil {
			return Reply{}, err
		}
		reply.DoneReason = "cancelled"
	} else {
		s.cached = append(prompt, result.Tokens[:max(0, len(result.Tokens)-1)]...)
	}
	s.remember(text, result.Text)
	return reply, err
}

// prompt renders the conversation with text as its last turn, and gives its tokens and the texts that
// end the reply.
func (s *Session) prompt(text string) ([]llama.Token, []string, error) {
	rendered, stops := s.text+text, s.options.Stop
	if s.template != nil {
		var messages []llama.ChatMessage
		if s.options.System != "" {
			messages = append(messages, llama.ChatMessage{Role: "system", Content: s.options.System})
		}
		messages = append(append(messages, s.history...), llama.ChatMessage{Role: "user", Content: text})
		options := llama.DefaultChatOptions()
		options.EnableThinking = s.options.Think
		chat, err := s.template.Render(messages, options)
		if err != nil {
			return nil, nil, err
		}
		rendered, stops = chat.Prompt, append(slices.Clone(stops), chat.Stops...)
	}
	tokens, err := s.model.Tokenize(rendered, true, true)
	if err == nil && len(tokens) == 0 {
		err = errors.New("the prompt is empty: got no tokens, want at least one")
	}
	return tokens, stops, err
}

// reuse cuts the KV cache down to what it has in common with prompt, and says how many tokens that is.
// The last token of the prompt is always decoded again, because its logits are needed.
func (s *Session) reuse(prompt []llama.Token) (int, error) {
	known := 0
	for known < min(len(prompt)-1, len(s.cached)) && prompt[known] == s.cached[known] {
		known++
	}
	first, err := s.context.SeqPosMin(0)
	if err != nil {
		return 0, err
	}
	if first == 0 && known > 0 { // else a sliding window has dropped positions that would be needed
		removed, err := s.context.SeqRemove(0, int32(known), -1)
		if err != nil {
			return 0, err
		}
		if removed {
			s.cached = s.cached[:known]
			return known, nil
		}
	}
	s.cached = nil
	return 0, s.context.MemoryClear(false)
}

// prime begins a reply as if all of it were new: the random numbers at their seed, and the cached part of
// the prompt in view of the penalties.
func (s *Session) prime(cached []llama.Token) error {
	if err := s.sampler.Reset(); err != nil {
		return err
	}
	return s.sampler.AcceptPrompt(cached[max(0, len(cached)-s.options.Sampling.RepeatLastN):])
}

// remember adds the turn to the conversation.
func (s *Session) remember(text, reply string) {
	s.text += text + reply
	s.history = append(s.history,
		llama.ChatMessage{Role: "user", Content: text}, llama.ChatMessage{Role: "assistant", Content: reply})
}

func (s *Session) reply(r llama.GenerateResult, known int) Reply {
	reason := "stop"
	if r.Reason == llama.ReasonLength {
		reason = "length"
		if len(r.Tokens) != s.options.NumPredict {
			reason = "context"
		}
	}
	return Reply{
		Model: s.path, Message: Message{"assistant", r.Text}, DoneReason: reason,
		LoadDuration: s.load, FirstTokenDuration: r.FirstToken,
		PromptEvalCount: r.PromptTokens, PromptCacheCount: known, PromptEvalDuration: r.PromptTime,
		EvalCount: len(r.Tokens), EvalDuration: r.EvalTime,
	}
}
