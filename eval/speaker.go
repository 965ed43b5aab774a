package eval

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/batch"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Sampling says how a reply is chosen: the most likely one (Seed 0), or with the card's sampling and this seed. The most
// likely one is that without a penalty for repeating: Ollama's own engine, which runs Qwen3 and others, knows no such
// penalty and leaves repeat_penalty aside (v0.17.4, sample/samplers.go), so with it the replies of a server and of this
// process were different ones.
type Sampling struct{ Seed uint32 }

// Answer is what a Speaker says.
type Answer struct {
	Text       string
	DoneReason string // "stop" or "length"
	Tokens     int
}

// Speaker is the character of an interview: a model in this process, or one of a server. Its methods may be called from
// several goroutines.
type Speaker interface {
	// Reply answers the last of the turns, which is the user's.
	Reply(ctx context.Context, turns []persona.Turn, s Sampling) (Answer, error)
	// Stops are the texts that end a reply.
	Stops() []string
}

// ErrEnd says that a vocabulary has not the token that ends the turns of the card's format.
var ErrEnd = errors.New("end token")

// generator is what Local needs of a batch.Engine.
type generator interface {
	Generate(ctx context.Context, r batch.Request) (batch.Result, error)
}

// Local is a model in this process.
type Local struct {
	engine   generator
	model    *llama.Model
	renderer *persona.Renderer
	card     *persona.Card
}

// NewRenderer makes the renderer of the prompts that a GGUF file is asked with: the card's, with the control tokens of
// the file's vocabulary. end is the end token, "" for the usual one of the card's format.
func NewRenderer(path string, card *persona.Card, end string) (*persona.Renderer, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if arch, ok := f.Meta.String("general.architecture"); !ok || arch == "" || len(f.Tensors) == 0 {
		return nil, fmt.Errorf("%s: got no architecture or no tensors, want a whole model", path)
	}
	tokens, _ := f.Meta.Strings("tokenizer.ggml.tokens")
	value, _ := f.Meta.Get("tokenizer.ggml.token_type")
	types, _ := value.([]int32)
	vocabulary := []string{}
	known := false
	for i, t := range types {
		if i < len(tokens) && (t == typeControl || t == typeUnknown || t == typeUserDefined && persona.LooksLikeControl(tokens[i])) {
			vocabulary = append(vocabulary, tokens[i])
		}
	}
	r, err := persona.NewRenderer(card, persona.Options{End: end, Vocabulary: vocabulary})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, token := range vocabulary {
		known = known || token == r.End()
	}
	if !known {
		return nil, fmt.Errorf("%s: %w: format %s: got no control token %s in the vocabulary, want the one that the training data ended utterances with", path, ErrEnd, r.Format(), r.End())
	}
	return r, nil
}

// Token types of a vocabulary (llama.cpp, include/llama.h).
const (
	typeUnknown     = 2
	typeControl     = 3
	typeUserDefined = 4
)

// Reply renders the turns as in training and goes on from there.
func (l *Local) Reply(ctx context.Context, turns []persona.Turn, s Sampling) (Answer, error) {
	prompt, err := l.renderer.Prompt(turns)
	if err != nil {
		return Answer{}, err
	}
	tokens, err := l.model.Tokenize(prompt, true, true)
	if err != nil {
		return Answer{}, err
	}
	c := l.card.Sampling
	p := llama.DefaultSamplerParams()
	p.Seed, p.Temperature, p.TopP, p.TopK = s.Seed, float32(c.Temperature), float32(c.TopP), c.TopK
	p.RepeatPenalty, p.RepeatLastN = float32(c.RepeatPenalty), c.RepeatLastN
	if s.Seed == 0 {
		p.Temperature, p.RepeatPenalty = 0, 1
	}
	r, err := l.engine.Generate(ctx, batch.Request{
		Tokens: tokens, Sampling: p, NumPredict: c.NumPredict, Stops: l.renderer.Stops(),
		NumCtx: min(max(contextOf(l.card), len(tokens)+c.NumPredict), c.NumCtx),
	})
	return Answer{r.Text, r.DoneReason, r.Tokens}, err
}

// usualContext is what conversations of an interview need; a longer one gets more, up to the card's.
const usualContext = 2048

func contextOf(card *persona.Card) int {
	return min(card.Sampling.NumCtx, max(usualContext, 2*card.Sampling.NumPredict))
}

// Stops are the renderer's.
func (l *Local) Stops() []string { return l.renderer.Stops() }

// Remote is a model of an Ollama server, which has persona, template and parameters itself.
type Remote struct {
	client *api.Client
	server string
	model  string
	card   *persona.Card
	stops  []string
}

// ErrDown says that no server answers.
var ErrDown = errors.New("no answer from the Ollama server")

// NewRemote asks the server whether it has the model.
func NewRemote(ctx context.Context, server *url.URL, model string, card *persona.Card) (*Remote, error) {
	r, err := persona.NewRenderer(card, persona.Options{})
	if err != nil {
		return nil, err
	}
	out := &Remote{client: api.NewClient(server, &http.Client{}), server: server.String(), model: model, card: card, stops: r.Stops()}
	if _, err := out.client.Show(ctx, &api.ShowRequest{Model: model}); err != nil {
		return nil, out.explain(err)
	}
	return out, nil
}

func (r *Remote) explain(err error) error {
	var status api.StatusError
	if errors.As(err, &status) {
		return fmt.Errorf("%s: model %s: %w", r.server, r.model, err)
	}
	return fmt.Errorf("%s: %w: %w", r.server, ErrDown, err)
}

// Reply sends the messages of /api/chat, with the seed and, for the most likely reply, what makes it so.
func (r *Remote) Reply(ctx context.Context, turns []persona.Turn, s Sampling) (Answer, error) {
	var messages []api.Message
	for _, t := range turns {
		role := "user"
		if who, ok := r.card.Speaker(t.Role); ok && who.Kind == persona.Character {
			role = "assistant"
		}
		messages = append(messages, api.Message{Role: role, Content: t.Content})
	}
	options := map[string]any{"seed": int(s.Seed)}
	if s.Seed == 0 {
		options["temperature"], options["repeat_penalty"] = 0, 1 // 1 for the models that llama.cpp runs there
	}
	var out Answer
	var text strings.Builder
	stream := false
	err := r.client.Chat(ctx, &api.ChatRequest{Model: r.model, Messages: messages, Options: options, Stream: &stream}, func(a api.ChatResponse) error {
		text.WriteString(a.Message.Content)
		if a.Done {
			out.DoneReason, out.Tokens = a.DoneReason, a.EvalCount
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		err = r.explain(err)
	}
	out.Text = text.String()
	return out, err
}

// Stops are those of the card's format.
func (r *Remote) Stops() []string { return r.stops }
