// Package snowwhite_test asks the GGUF files made from the example's base, and from base and adapter in one pass,
// what PyTorch was asked, and wants the same answers (answers.json).
package snowwhite_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/lora"
)

// answer is one question of answers.json with what PyTorch made of it.
type answer struct {
	ID           string              `json:"id"`
	Messages     []llama.ChatMessage `json:"messages"`
	Prompt       string              `json:"prompt"`
	PromptTokens []llama.Token       `json:"prompt_tokens"`
	Answer       string              `json:"answer"`
	AnswerTokens []llama.Token       `json:"answer_tokens"`
}

type answers struct {
	MaxNewTokens int                 `json:"max_new_tokens"`
	Models       map[string][]answer `json:"models"`
}

func readAnswers(t *testing.T) answers {
	t.Helper()
	data, err := os.ReadFile("answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var a answers
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatalf("answers.json: %v", err)
	}
	return a
}

// session is a converted model with all that a question needs.
type session struct {
	model    *llama.Model
	context  *llama.ModelContext
	template *llama.ChatTemplate
}

// convertF16 converts the base, and the adapter with it if there is one.
func convertF16(t *testing.T, adapters ...lora.Source) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "f16.gguf")
	plan, err := convert.NewPlan(t.Context(), "base", convert.Options{OutFile: out, OutType: "f16", Adapters: adapters})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if _, err := plan.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, path string) session {
	t.Helper()
	model, err := llama.LoadModel(path, llama.DefaultModelParams())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { model.Close() })
	params := llama.DefaultContextParams()
	params.NCtx = 1024
	ctx, err := model.NewContext(params)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ctx.Close() })
	template, err := llama.NewChatTemplate(model, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { template.Close() })
	return session{model, ctx, template}
}

// ask renders, tokenizes and answers greedily, in an empty memory.
func (s session) ask(t *testing.T, messages []llama.ChatMessage, limit int) (prompt string, tokens []llama.Token, res llama.GenerateResult) {
	t.Helper()
	chat, err := s.template.Render(messages, llama.DefaultChatOptions())
	if err != nil {
		t.Fatal(err)
	}
	tokens, err = s.model.Tokenize(chat.Prompt, true, true)
	if err != nil {
		t.Fatal(err)
	}
	params := llama.DefaultSamplerParams()
	params.Temperature, params.RepeatPenalty = 0, 1
	sampler, err := llama.NewSampler(s.model, params)
	if err != nil {
		t.Fatal(err)
	}
	defer sampler.Close()
	if err := s.context.MemoryClear(true); err != nil {
		t.Fatal(err)
	}
	res, err = s.context.Generate(context.Background(), tokens, sampler, llama.GenerateOptions{MaxTokens: limit})
	if err != nil {
		t.Fatal(err)
	}
	return chat.Prompt, tokens, res
}

// TestAnswersEqualPyTorch converts both models to f16 and wants PyTorch's prompt
// text, prompt tokens, answer tokens and answer text, every one exactly. PyTorch had the
// folder that merge writes, so transformers loads it, and it is what one pass gives.
func TestAnswersEqualPyTorch(t *testing.T) {
	want := readAnswers(t)
	adapters := map[string][]lora.Source{"base": nil, "persona": {{Dir: "adapter", Weight: 1}}}
	if len(want.Models) != len(adapters) {
		t.Fatalf("answers.json: got %d models, want %d", len(want.Models), len(adapters))
	}
	for name, sources := range adapters {
		t.Run(name, func(t *testing.T) {
			if len(want.Models[name]) < 12 {
				t.Fatalf("answers.json: %s: got %d answers, want at least 12", name, len(want.Models[name]))
			}
			s := open(t, convertF16(t, sources...))
			for _, w := range want.Models[name] {
				t.Run(w.ID, func(t *testing.T) { compare(t, s, w, want.MaxNewTokens) })
			}
		})
	}
}

func compare(t *testing.T, s session, w answer, limit int) {
	prompt, tokens, got := s.ask(t, w.Messages, limit)
	if prompt != w.Prompt {
		t.Fatalf("prompt: got %q, want %q", prompt, w.Prompt)
	}
	if !slices.Equal(tokens, w.PromptTokens) {
		t.Fatalf("prompt tokens: got %v, want %v", tokens, w.PromptTokens)
	}
	if got.Text != w.Answer {
		t.Errorf("answer: got %q, want %q", got.Text, w.Answer)
	}
	if !slices.Equal(got.Tokens, w.AnswerTokens) {
		t.Errorf("answer tokens: got %v, want %v", got.Tokens, w.AnswerTokens)
	}
	if got.Reason != llama.ReasonEOG {
		t.Errorf("reason: got %q, want %q", got.Reason, llama.ReasonEOG)
	}
}
