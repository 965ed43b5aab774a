package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/persona-gguf/persona-gguf/internal/batch"
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

// Local is a GGUF model in this process. Answers are generated together, and what their prompts begin with in common is
// computed once. Its methods may be called from several goroutines.
type Local struct {
	path     string
	batch    *batch.Engine
	template *llama.ChatTemplate
}

// OpenLocal loads a model. Close must be called.
func OpenLocal(path string, o LocalOptions) (*Local, error) {
	b, err := batch.Open(context.Background(), path, batch.Options{
		Parallel: o.Parallel, NumBatch: o.NumBatch, Threads: o.Threads, GPULayers: o.GPULayers,
		Unified: true, // scenes and dialogues are asked for with long prompts that are mostly the same
	})
	if err != nil {
		return nil, fmt.Errorf("local engine: %w", err)
	}
	template, err := llama.NewChatTemplate(b.Model(), "")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local engine: %w", err), b.Close())
	}
	return &Local{path: path, batch: b, template: template}, nil
}

// Close ends what is under way and frees the model.
func (l *Local) Close() error { return errors.Join(l.template.Close(), l.batch.Close()) }

// Name is the model's file.
func (l *Local) Name() string { return l.path }

// Inspect says how long the model's context can be and how many answers are generated at the same time.
func (l *Local) Inspect(context.Context) (Info, error) {
	return Info{Context: l.batch.Model().NCtxTrain(), Parallel: l.batch.Parallel()}, nil
}

// Alive is always so.
func (l *Local) Alive(context.Context) error { return nil }

// space is the grammar's rule for white space between the parts of JSON. llama.cpp allows much of it, which small
// models then write.
var space = regexp.MustCompile(`(?m)^space ::= .*$`)

// Chat asks the model.
func (l *Local) Chat(ctx context.Context, r Request) (Reply, error) {
	request, err := l.prepare(r)
	if err != nil {
		return Reply{}, fmt.Errorf("%s: %w", l.path, err)
	}
	start := time.Now()
	got, err := l.batch.Generate(ctx, request)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = &Error{Reason: Timeout, Err: fmt.Errorf("%s: %w", l.path, ctx.Err())}
	} else if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return Reply{
		Content: withoutThoughts(got.Text), DoneReason: got.DoneReason, PromptTokens: got.PromptTokens, Tokens: got.Tokens,
		Duration: time.Since(start),
	}, err
}

// prepare renders the prompt. llama.cpp's grammar of an answer begins with what the template puts before it.
func (l *Local) prepare(r Request) (batch.Request, error) {
	o := llama.DefaultChatOptions()
	o.EnableThinking, o.JSONSchema = false, r.Schema
	var messages []llama.ChatMessage
	for _, m := range r.Messages {
		messages = append(messages, llama.ChatMessage{Role: m.Role, Content: m.Content})
	}
	chat, err := l.template.Render(messages, o)
	if err != nil {
		return batch.Request{}, err
	}
	p := llama.DefaultSamplerParams()
	p.Seed, p.Temperature, p.TopP, p.TopK = uint32(r.Options.Seed), float32(r.Options.Temperature), float32(r.Options.TopP), r.Options.TopK
	p.RepeatPenalty, p.RepeatLastN = float32(r.Options.RepeatPenalty), r.Options.RepeatLastN
	request := batch.Request{NumCtx: r.Options.NumCtx, NumPredict: r.Options.NumPredict, Sampling: p, Stops: chat.Stops}
	if request.Tokens, err = l.batch.Model().Tokenize(chat.Prompt, true, true); err != nil {
		return request, err
	}
	if chat.Grammar != "" {
		request.Grammar = space.ReplaceAllString(chat.Grammar, `space ::= " "?`)
		request.GrammarPrefix, err = l.batch.Model().Tokenize(chat.GenerationPrompt, false, true)
	}
	return request, err
}
