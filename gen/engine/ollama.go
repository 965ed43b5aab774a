package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
)

// Ollama is an Ollama server and a model on it. Its methods may be called from several goroutines.
type Ollama struct {
	*remote
	model     string
	keepAlive time.Duration
	think     *api.ThinkValue // false for a model that can think; absent for the others, as older servers want
}

// NewOllama takes the server's address and a model's tag. keepAlive is how long the model stays loaded after a
// call; a negative time: for ever.
func NewOllama(address, model string, keepAlive time.Duration) (*Ollama, error) {
	r, err := newRemote(address, "")
	if err != nil {
		return nil, err
	}
	return &Ollama{remote: r, model: model, keepAlive: keepAlive}, nil
}

// Inspect asks the server for its version and the model's context length, and finds out whether the model thinks.
func (o *Ollama) Inspect(ctx context.Context) (Info, error) {
	client := api.NewClient(o.base, o.http)
	version, err := client.Version(ctx)
	if err != nil {
		return Info{}, o.apiError(ctx, err)
	}
	show, err := client.Show(ctx, &api.ShowRequest{Model: o.model})
	if err != nil {
		return Info{}, fmt.Errorf("model %s: %w", o.model, o.apiError(ctx, err))
	}
	info := Info{Version: version}
	for key, value := range show.ModelInfo {
		if n, ok := value.(float64); ok && strings.HasSuffix(key, ".context_length") {
			info.Context = int(n)
		}
	}
	for _, c := range show.Capabilities {
		if c == "thinking" {
			o.think = &api.ThinkValue{Value: false}
		}
	}
	return info, nil
}

// apiError turns an error of the api package into one of ours.
func (o *Ollama) apiError(ctx context.Context, err error) error {
	if status := (api.StatusError{}); errors.As(err, &status) {
		return o.statusError(status.StatusCode, []byte(status.ErrorMessage))
	}
	return o.transportError(ctx, err)
}

// Alive asks whether the server answers at all.
func (o *Ollama) Alive(ctx context.Context) error {
	var v struct{}
	return o.do(ctx, http.MethodGet, "/api/version", "", &v)
}

// Body is the request as it is sent: all sampling inside options, where alone the server looks for it.
func (o *Ollama) Body(r Request) *api.ChatRequest {
	never := false
	body := &api.ChatRequest{
		Model: o.model, Stream: &never, Format: r.Schema, KeepAlive: &api.Duration{Duration: o.keepAlive}, Think: o.think,
		Truncate: &never, Shift: &never, // a prompt that does not fit is an error and not cut
		Options: map[string]any{
			"temperature": r.Options.Temperature, "top_p": r.Options.TopP, "top_k": r.Options.TopK,
			"repeat_penalty": r.Options.RepeatPenalty, "repeat_last_n": r.Options.RepeatLastN,
			"num_predict": r.Options.NumPredict, "num_ctx": r.Options.NumCtx, "seed": r.Options.Seed,
		},
	}
	for _, m := range r.Messages {
		body.Messages = append(body.Messages, api.Message{Role: m.Role, Content: m.Content})
	}
	return body
}

// Chat asks the model. The body is the api package's; it is not sent by its client, which takes 8 MiB for every call
// and does not tell an answer that breaks off from one that is complete.
func (o *Ollama) Chat(ctx context.Context, r Request) (Reply, error) {
	start := time.Now()
	var answer api.ChatResponse
	if err := o.post(ctx, "/api/chat", o.Body(r), &answer); err != nil {
		return Reply{Duration: time.Since(start)}, err
	}
	if !answer.Done {
		if answer.Message.Content == "" {
			return Reply{Duration: time.Since(start)}, &Error{Reason: ServerError, Err: fmt.Errorf("%s: got an answer that is not done", o.Name())}
		}
		answer.DoneReason = Aborted
	}
	return Reply{
		Content: withoutThoughts(answer.Message.Content), DoneReason: answer.DoneReason,
		PromptTokens: answer.PromptEvalCount, Tokens: answer.EvalCount, Duration: time.Since(start),
	}, nil
}

// Models lists the models that the server has.
func (o *Ollama) Models(ctx context.Context) ([]string, error) {
	list, err := api.NewClient(o.base, o.http).List(ctx)
	if err != nil {
		return nil, o.apiError(ctx, err)
	}
	var names []string
	for _, m := range list.Models {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names, nil
}
