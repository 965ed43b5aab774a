package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/internal/fakellm"
)

var question = Request{
	Messages: []Message{{"user", "누구예요? <|eot|>"}},
	Options:  Options{Temperature: 0.7, TopP: 0.95, TopK: 40, RepeatPenalty: 1.1, RepeatLastN: 64, NumPredict: 300, NumCtx: 4096, Seed: 7},
	Schema:   json.RawMessage(`{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"string"}}}`),
}

// TestGoldenBodies compares what is sent with testdata: the sampling stands inside options, where alone Ollama looks
// for it, and the keys of the schema keep their order.
func TestGoldenBodies(t *testing.T) {
	s := &fakellm.Server{Models: []string{"exaone3.5:2.4b"}, Context: 8192}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ollama, err := NewOllama(s.URL, "exaone3.5:2.4b", 30*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer ollama.Close()
	openai, err := NewOpenAI(s.URL+"/v1", "exaone3.5:2.4b", "sk-not-to-be-seen", map[string]any{"top_k": 40})
	if err != nil {
		t.Fatal(err)
	}
	defer openai.Close()
	text := question
	text.Schema = nil
	for _, c := range []struct {
		golden string
		chat   func(context.Context, Request) (Reply, error)
		q      Request
	}{
		{"ollama_json", ollama.Chat, question}, {"ollama_text", ollama.Chat, text},
		{"openai_json", openai.Chat, question}, {"openai_text", openai.Chat, text},
	} {
		before := len(s.Bodies())
		reply, err := c.chat(t.Context(), c.q)
		if err != nil || reply.DoneReason != "stop" || reply.PromptTokens == 0 {
			t.Errorf("%s: got %+v, %v", c.golden, reply, err)
		}
		want, err := os.ReadFile("testdata/" + c.golden + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(s.Bodies()[before]); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.golden, got, want)
		}
	}
	for name, inspect := range map[string]func(context.Context) (Info, error){"ollama": ollama.Inspect, "openai": openai.Inspect} {
		if info, err := inspect(t.Context()); err != nil || info.Context != 8192 {
			t.Errorf("%s: got %+v, %v", name, info, err)
		}
	}
	if models, err := ollama.Models(t.Context()); err != nil || len(models) != 1 {
		t.Errorf("models: got %v, %v", models, err)
	}
	if openai.Alive(t.Context()) != nil || ollama.Alive(t.Context()) != nil {
		t.Error("Alive: got an error")
	}
}

// TestErrors has a server that answers in all wrong ways.
func TestErrors(t *testing.T) {
	var status int
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // only then the end of the connection is seen
		if status == 0 {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer s.Close()
	const key = "sk-not-to-be-seen"
	ollama, err := NewOllama(s.URL, "m", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer ollama.Close()
	openai, err := NewOpenAI(s.URL+"/v1", "m", key, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer openai.Close()
	for _, c := range []struct {
		status int
		body   string
		fatal  error
		reason string
		want   string
	}{
		{404, `{"error":"model 'm' not found"}`, ErrModel, "", "model 'm' not found"},
		{400, `{"error":"invalid option"}`, ErrRefused, "", "HTTP status 400: invalid option"},
		{401, `{"error":{"message":"wrong key ` + key + `"}}`, ErrRefused, "", "wrong key"},
		{400, `{"error":"the input length exceeds the context length"}`, ErrContext, "", "exceeds"},
		{500, `oh`, nil, ServerError, "HTTP status 500: oh"},
		{503, `{"error":"server busy"}`, nil, ServerError, "server busy"},
		{429, `{"error":"slower"}`, nil, ServerError, "slower"},
		{200, `{"message":`, nil, ServerError, "answer of 11 bytes"},
		{200, ``, nil, ServerError, "answer of 0 bytes"},
		{200, `{}`, nil, ServerError, "got an answer "},
		{0, "", nil, Timeout, "deadline exceeded"},
	} {
		status, body = c.status, c.body
		for name, chat := range map[string]func(context.Context, Request) (Reply, error){"ollama": ollama.Chat, "openai": openai.Chat} {
			ctx, cancel := context.WithTimeout(t.Context(), map[bool]time.Duration{true: 50 * time.Millisecond, false: time.Minute}[status == 0])
			_, err := chat(ctx, question)
			cancel()
			var failed *Error
			if c.fatal != nil && (!errors.Is(err, c.fatal) || errors.As(err, &failed)) || c.reason != "" && (!errors.As(err, &failed) || failed.Reason != c.reason || failed.Down) {
				t.Errorf("%s: status %d, %s: got %v", name, c.status, c.body, err)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || name == "openai" && strings.Contains(err.Error(), key) {
				t.Errorf("%s: status %d, %s: got %v, want %q and no key", name, c.status, c.body, err, c.want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ollama.Chat(ctx, question); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	nobody, err := NewOllama("user:password@127.0.0.1:1", "m", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, err = nobody.Chat(t.Context(), question)
	var failed *Error
	if !errors.As(err, &failed) || !failed.Down || strings.Contains(err.Error(), "password") {
		t.Errorf("nobody listens: got %v", err)
	}
	if _, err := nobody.Inspect(t.Context()); !errors.As(err, &failed) || !failed.Down || strings.Contains(err.Error(), "password") {
		t.Errorf("Inspect, nobody listens: got %v", err)
	}
	for _, address := range []string{"", "ftp://x", "http://", "http://a b"} {
		if _, err := NewOllama(address, "m", time.Minute); err == nil {
			t.Errorf("%q: got no error", address)
		}
	}
}

// TestAborted has an answer that the server has given up: it is text, and no failure of the server.
func TestAborted(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"message":{"role":"assistant","content":"따 따 따"},"done":false}`))
	}))
	defer s.Close()
	e, err := NewOllama(s.URL, "m", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if reply, err := e.Chat(t.Context(), Request{}); err != nil || reply.Content != "따 따 따" || reply.DoneReason != Aborted {
		t.Errorf("got %+v, %v, want the text and %q", reply, err, Aborted)
	}
}

func TestThoughts(t *testing.T) {
	for text, want := range map[string]string{
		"<think>\n음\n</think>\n\n{}": "{}", "음</think> 답": "답", "답": "답", "<think>끝없는": "", "a <think>b</think> c": "c",
	} {
		if got := withoutThoughts(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestThinkingModel turns thinking off where the model has it, and says nothing of it elsewhere.
func TestThinkingModel(t *testing.T) {
	for capability, want := range map[string]string{"thinking": `"think":false`, "completion": ""} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"version":"0.17.4","capabilities":["` + capability + `"],"model_info":{"qwen3.context_length":40960}}`))
		}))
		o, err := NewOllama(s.URL, "m", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := o.Inspect(t.Context()); err != nil || info.Context != 40960 || info.Version != "0.17.4" {
			t.Errorf("got %+v, %v", info, err)
		}
		body, err := json.Marshal(o.Body(question))
		if err != nil || want != "" != strings.Contains(string(body), `"think"`) || !strings.Contains(string(body), want) {
			t.Errorf("%s: got %s, %v", capability, body, err)
		}
		o.Close()
		s.Close()
	}
}
