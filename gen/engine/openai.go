package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// OpenAI is a server with OpenAI's chat API, such as vLLM, SGLang or llama-server. Its methods may be called from
// several goroutines.
type OpenAI struct {
	*remote
	model string
	extra map[string]any
}

// NewOpenAI takes the address up to and with /v1, a model's name, a key (may be empty), which never stands in an
// error, and more fields for every request: top_k and a repetition penalty are not in the API, and every server calls
// them otherwise or refuses them.
func NewOpenAI(address, model, key string, extra map[string]any) (*OpenAI, error) {
	r, err := newRemote(address, key)
	if err != nil {
		return nil, err
	}
	return &OpenAI{r, model, extra}, nil
}

type openAIModels struct {
	Data []struct {
		ID          string `json:"id"`
		MaxModelLen int    `json:"max_model_len"` // vLLM's and SGLang's
	} `json:"data"`
}

// Inspect looks whether the server has the model.
func (o *OpenAI) Inspect(ctx context.Context) (Info, error) {
	var list openAIModels
	if err := o.do(ctx, http.MethodGet, "/models", "", &list); err != nil {
		if errors.Is(err, ErrModel) || errors.Is(err, ErrRefused) {
			return Info{}, fmt.Errorf("list of models: %w", err)
		}
		return Info{}, err
	}
	var names []string
	for _, m := range list.Data {
		if m.ID == o.model {
			return Info{Context: m.MaxModelLen}, nil
		}
		names = append(names, m.ID)
	}
	return Info{}, fmt.Errorf("%w: %s: got %s, want one of %v", ErrModel, o.Name(), o.model, names)
}

// Alive asks whether the server answers at all.
func (o *OpenAI) Alive(ctx context.Context) error {
	var v json.RawMessage
	return o.do(ctx, http.MethodGet, "/models", "", &v)
}

// Body is the request as it is sent.
func (o *OpenAI) Body(r Request) map[string]any {
	body := map[string]any{
		"model": o.model, "messages": r.Messages, "stream": false, "max_tokens": r.Options.NumPredict,
		"temperature": r.Options.Temperature, "top_p": r.Options.TopP, "seed": r.Options.Seed,
	}
	if len(r.Schema) > 0 {
		body["response_format"] = map[string]any{
			"type":        "json_schema",
			"json_schema": map[string]any{"name": "answer", "strict": true, "schema": r.Schema},
		}
	}
	maps.Copy(body, o.extra)
	return body
}

type openAIAnswer struct {
	Choices []struct {
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	} `json:"usage"`
}

// Chat asks the model.
func (o *OpenAI) Chat(ctx context.Context, r Request) (Reply, error) {
	start := time.Now()
	var answer openAIAnswer
	if err := o.post(ctx, "/chat/completions", o.Body(r), &answer); err != nil {
		return Reply{Duration: time.Since(start)}, err
	}
	if len(answer.Choices) == 0 {
		return Reply{Duration: time.Since(start)}, &Error{Reason: ServerError, Err: fmt.Errorf("%s: got an answer without choices", o.Name())}
	}
	c := answer.Choices[0]
	return Reply{
		Content: withoutThoughts(c.Message.Content), DoneReason: c.FinishReason,
		PromptTokens: answer.Usage.PromptTokens, Tokens: answer.Usage.CompletionTokens, Duration: time.Since(start),
	}, nil
}
