package llama

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// A template of our own with what real ones use: roles, thinking, tools, dates.
const plainTemplate = `{{- bos_token }}{%- for m in messages %}[{{ m.role }}]{{ m.content | trim }}
{%- if m.tool_calls %}{% for c in m.tool_calls %}<call {{ c.function.name }} {{ c.function.arguments | tojson }}>{% endfor %}{% endif %}
{% endfor %}{% if tools %}tools:{% for t in tools %}{{ t.function.name }};{% endfor %}
{% endif %}{% if mood is defined %}mood={{ mood }}
{% endif %}{% if add_generation_prompt %}[assistant]{% if not enable_thinking %}<think></think>{% endif %}{% endif %}`

func template(t *testing.T, m *Model, text string) *ChatTemplate {
	t.Helper()
	tm, err := NewChatTemplate(m, text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tm.Close() })
	return tm
}

func render(t *testing.T, tm *ChatTemplate, o ChatOptions, msgs ...ChatMessage) string {
	t.Helper()
	p, err := tm.Render(msgs, o)
	if err != nil {
		t.Fatal(err)
	}
	return p.Prompt
}

func TestChatML(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{}) // no template in the file: ChatML
	tm := template(t, m, "")
	got := render(t, tm, DefaultChatOptions(),
		ChatMessage{Role: "system", Content: "You are Snow White."}, ChatMessage{Role: "user", Content: "너는 누구야?"})
	want := "<|im_start|>system\nYou are Snow White.<|im_end|>\n<|im_start|>user\n너는 누구야?<|im_end|>\n<|im_start|>assistant\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	o := DefaultChatOptions()
	o.AddGenerationPrompt = false
	if got := render(t, tm, o, ChatMessage{Role: "user", Content: "hi"}); got != "<|im_start|>user\nhi<|im_end|>\n" {
		t.Errorf("without a turn to fill: got %q", got)
	}
	if _, ok := m.ChatTemplate(""); ok {
		t.Error("the file has no template")
	}
}

func TestChatTemplateOptions(t *testing.T) {
	tm, err := NewChatTemplateText(plainTemplate, "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	defer tm.Close()
	user := ChatMessage{Role: "user", Content: " hi "}
	if got := render(t, tm, DefaultChatOptions(), user); got != "<s>[user]hi[assistant]" {
		t.Errorf("got %q", got)
	}
	o := DefaultChatOptions()
	o.EnableThinking = false
	o.ExtraArgs = map[string]any{"mood": "merry"}
	if got := render(t, tm, o, user); got != "<s>[user]himood=merry\n[assistant]<think></think>" {
		t.Errorf("no thinking: got %q", got)
	}
	o = DefaultChatOptions()
	o.Tools = json.RawMessage(`[{"type":"function","function":{"name":"mirror","description":"asks","parameters":{"type":"object","properties":{"q":{"type":"string"}}}}}]`)
	msgs := []ChatMessage{user,
		{Role: "assistant", ToolCalls: []ToolCall{{ID: "1", Name: "mirror", Arguments: `{"q":"who"}`}}},
		{Role: "tool", Content: "Snow White", Name: "mirror", ToolCallID: "1"}}
	got := render(t, tm, o, msgs...)
	for _, part := range []string{"<call mirror", "who", "[tool]Snow White", "tools:mirror;"} {
		if !strings.Contains(got, part) {
			t.Errorf("tools: got %q, want %q in it", got, part)
		}
	}
	if src, err := tm.Source(); err != nil || src != plainTemplate {
		t.Errorf("source: got %q, %v", src, err)
	}
	caps, err := tm.Caps()
	if err != nil || !caps["supports_tools"] || !caps["supports_system_role"] {
		t.Errorf("caps: got %v, %v", caps, err)
	}
}

func TestChatTemplateOfTheModel(t *testing.T) {
	tiny := tinymodel.Random(tinymodel.Options{AddBOS: true})
	tiny.Set("tokenizer.chat_template", plainTemplate)
	tiny.Set("tokenizer.chat_template.tool_use", "tool {{ messages[0].content }}")
	m := loadTiny(t, tiny)
	if got, ok := m.ChatTemplate(""); !ok || got != plainTemplate {
		t.Errorf("got %q, %v", got, ok)
	}
	if got, ok := m.ChatTemplate("tool_use"); !ok || !strings.HasPrefix(got, "tool") {
		t.Errorf("tool_use: got %q, %v", got, ok)
	}
	// BOS is left to the tokenizer, which adds it.
	if got := render(t, template(t, m, ""), DefaultChatOptions(), ChatMessage{Role: "user", Content: "hi"}); got != "[user]hi[assistant]" {
		t.Errorf("got %q", got)
	}
	if got := render(t, template(t, m, "{{ messages[0].content }}!"), DefaultChatOptions(), ChatMessage{Role: "user", Content: "hi"}); got != "hi!" {
		t.Errorf("override: got %q", got)
	}
}

func TestChatQwen3(t *testing.T) {
	text, err := os.ReadFile("../llamacpp/models/templates/Qwen-Qwen3-0.6B.jinja")
	if err != nil {
		t.Fatal(err)
	}
	tm, err := NewChatTemplateText(string(text), "", "<|im_end|>")
	if err != nil {
		t.Fatal(err)
	}
	defer tm.Close()
	o := DefaultChatOptions()
	o.EnableThinking = false
	user := ChatMessage{Role: "user", Content: "hi"}
	if got := render(t, tm, o, user); got != "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n" {
		t.Errorf("no thinking: got %q", got)
	}
	o = DefaultChatOptions()
	o.ReasoningFormat = "deepseek"
	o.Tools = json.RawMessage(`[{"type":"function","function":{"name":"mirror","description":"asks","parameters":{"type":"object","properties":{"q":{"type":"string"}},"required":["q"]}}}]`)
	p, err := tm.Render([]ChatMessage{user}, o)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.Prompt, "<tools>") || p.Grammar == "" || !p.GrammarLazy || !p.SupportsThinking {
		t.Errorf("tools: got %+v", p)
	}
	const answer = "<think>hm</think>\n\n<tool_call>\n{\"name\": \"mirror\", \"arguments\": {\"q\": \"who\"}}\n</tool_call>"
	msg, err := tm.Parse(p, answer, false)
	if err != nil {
		t.Fatal(err)
	}
	if msg.Role != "assistant" || strings.TrimSpace(msg.Reasoning) != "hm" || len(msg.ToolCalls) != 1 || msg.ToolCalls[0].Name != "mirror" {
		t.Errorf("parsed: got %+v", msg)
	}
	var args map[string]string
	if err := json.Unmarshal([]byte(msg.ToolCalls[0].Arguments), &args); err != nil || args["q"] != "who" {
		t.Errorf("arguments: got %q, %v", msg.ToolCalls[0].Arguments, err)
	}
	plain, err := tm.Render([]ChatMessage{user}, DefaultChatOptions())
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := tm.Parse(plain, "Hello!", true); err != nil || msg.Content != "Hello!" {
		t.Errorf("plain answer: got %+v, %v", msg, err)
	}
}

func TestChatErrors(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	for name, text := range map[string]string{
		"open":   "{% if x %}",
		"tag":    "{% nothing %}",
		"braces": "{{ messages",
		"zero":   "a\x00b",
		"deep":   "{{ " + strings.Repeat("(", 50_000) + "1" + strings.Repeat(")", 50_000) + " }}",
		"blocks": strings.Repeat("{% if true %}", 50_000) + strings.Repeat("{% endif %}", 50_000),
	} {
		tm, err := NewChatTemplate(m, text)
		if err == nil {
			tm.Close()
			t.Errorf("%s: no error", name)
		} else if strings.HasSuffix(err.Error(), "std::exception") {
			t.Errorf("%s: got %v, want the reason", name, err)
		}
	}
	if _, err := NewChatTemplate(nil, ""); err == nil {
		t.Error("neither model nor template: no error")
	}
	raising := template(t, m, "{{ raise_exception('roles must alternate') }}")
	if _, err := raising.Render([]ChatMessage{{Role: "user", Content: "x"}}, DefaultChatOptions()); err == nil || !strings.Contains(err.Error(), "roles must alternate") {
		t.Errorf("a template that refuses: got %v", err)
	}
	tm := template(t, m, "")
	user := []ChatMessage{{Role: "user", Content: "x"}}
	for name, change := range map[string]func(*ChatOptions){
		"tools":         func(o *ChatOptions) { o.Tools = json.RawMessage(`{"a":1}`) },
		"tool":          func(o *ChatOptions) { o.Tools = json.RawMessage(`[{"type":"x"}]`) },
		"no json":       func(o *ChatOptions) { o.Tools = json.RawMessage(`[`) },
		"choice":        func(o *ChatOptions) { o.ToolChoice = "perhaps" },
		"reasoning":     func(o *ChatOptions) { o.ReasoningFormat = "perhaps" },
		"argument":      func(o *ChatOptions) { o.ExtraArgs = map[string]any{"f": func() {}} },
		"schema":        func(o *ChatOptions) { o.JSONSchema = json.RawMessage(`{"type":"no-such-type"}`) },
		"final message": func(o *ChatOptions) { o.ContinueFinal = true; o.AddGenerationPrompt = true; o.ReasoningFormat = "?" },
	} {
		o := DefaultChatOptions()
		change(&o)
		if _, err := tm.Render(user, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := tm.Render(nil, DefaultChatOptions()); err == nil {
		t.Error("no messages: no error")
	}
	if _, err := tm.Render([]ChatMessage{{Content: "x"}}, DefaultChatOptions()); err == nil {
		t.Error("no role: no error")
	}
	bad := ChatMessage{Role: "user", Content: "bad \xff\xfe utf-8"}
	if got := render(t, tm, DefaultChatOptions(), bad); !strings.Contains(got, "bad") {
		t.Errorf("bytes that are no UTF-8: got %q", got)
	}
	if _, err := tm.Parse(ChatPrompt{Format: 99}, "x", false); err == nil {
		t.Error("unknown format: no error")
	}
	if _, err := tm.Parse(ChatPrompt{Format: 2, Parser: "{"}, "x", false); err == nil {
		t.Error("broken parser: no error")
	}
}

func TestChatContinue(t *testing.T) {
	tm := template(t, tinyModel(t, tinymodel.Options{}), "")
	o := DefaultChatOptions()
	o.ContinueFinal = true
	got := render(t, tm, o, ChatMessage{Role: "user", Content: "who?"}, ChatMessage{Role: "assistant", Content: "I am Sn"})
	if got != "<|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\nI am Sn" {
		t.Errorf("got %q", got)
	}
	if _, err := tm.Render([]ChatMessage{{Role: "user", Content: "who?"}}, o); err == nil {
		t.Error("the last message is the user's: no error")
	}
}

func TestChatTemplateShared(t *testing.T) {
	tm := template(t, tinyModel(t, tinymodel.Options{}), "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			text := strings.Repeat("x", i+1)
			p, err := tm.Render([]ChatMessage{{Role: "user", Content: text}}, DefaultChatOptions())
			if err != nil || !strings.Contains(p.Prompt, "user\n"+text+"<|im_end|>") {
				t.Errorf("got %q, %v", p.Prompt, err)
			}
		}()
	}
	wg.Wait()
}
