package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unsafe"
)

// ChatMessage is one message of a conversation, with the field names of the
// OpenAI API that chat templates are written for.
type ChatMessage struct {
	Role       string     `json:"role"` // "system", "user", "assistant" or "tool"
	Content    string     `json:"content"`
	Reasoning  string     `json:"reasoning_content,omitempty"` // what an assistant thought
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`        // what an assistant asks for
	Name       string     `json:"name,omitempty"`              // of the tool that answers
	ToolCallID string     `json:"tool_call_id,omitempty"`      // of the call that is answered
}

// ToolCall is a function call by the assistant.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // a JSON object
}

type toolCallJSON struct {
	ID       string `json:"id,omitempty"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// MarshalJSON writes the call in the form of the OpenAI API.
func (t ToolCall) MarshalJSON() ([]byte, error) {
	j := toolCallJSON{ID: t.ID, Type: "function"}
	j.Function.Name, j.Function.Arguments = t.Name, t.Arguments
	return json.Marshal(j)
}

// UnmarshalJSON reads the form of the OpenAI API.
func (t *ToolCall) UnmarshalJSON(data []byte) error {
	var j toolCallJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*t = ToolCall{ID: j.ID, Name: j.Function.Name, Arguments: j.Function.Arguments}
	return nil
}

// ChatOptions says how messages are rendered; start from DefaultChatOptions.
type ChatOptions struct {
	AddGenerationPrompt bool            // end with the begin of the assistant's turn
	EnableThinking      bool            // the template variable enable_thinking
	Tools               json.RawMessage // JSON array of tools in the form of the OpenAI API
	ToolChoice          string          // "auto", "required" or "none"; "" is auto
	ParallelToolCalls   bool
	JSONSchema          json.RawMessage // the answer must match it; fills ChatPrompt.Grammar
	Grammar             string          // GBNF for the answer; not together with Tools
	ContinueFinal       bool            // go on with the last message, which must be the assistant's
	ReasoningFormat     string          // how Parse splits thinking off: "none", "deepseek", "auto"; "" is none
	ExtraArgs           map[string]any  // more template variables
}

// DefaultChatOptions asks for an answer, thinking allowed (as transformers and
// llama.cpp do).
func DefaultChatOptions() ChatOptions {
	return ChatOptions{AddGenerationPrompt: true, EnableThinking: true}
}

// ChatPrompt is a rendered conversation and what belongs to its answer.
type ChatPrompt struct {
	// Prompt is to be tokenized with addSpecial and parseSpecial. Where the
	// tokenizer adds BOS, the template's own is left out.
	Prompt           string   `json:"-"`
	Stops            []string `json:"stops"`             // texts that end the answer, besides the end tokens
	Grammar          string   `json:"grammar"`           // GBNF, with Tools or JSONSchema
	GrammarLazy      bool     `json:"grammar_lazy"`      // the grammar begins to act at a tool call only
	GenerationPrompt string   `json:"generation_prompt"` // the end of Prompt that AddGenerationPrompt made
	SupportsThinking bool     `json:"supports_thinking"`
	ThinkingStart    string   `json:"thinking_start"`
	ThinkingEnd      []string `json:"thinking_end"`
	PreservedTokens  []string `json:"preserved_tokens"` // control tokens that Parse needs to see as text
	FormatName       string   `json:"format_name"`

	Format    int    `json:"format"`
	Parser    string `json:"parser"`
	reasoning string
}

// ChatTemplate renders conversations with llama.cpp's own Jinja engine (its
// common/ folder), the one of llama-server.
type ChatTemplate struct {
	mu    sync.Mutex
	model *Model // nil for a template without a model
	ptr   *C.nl_chat
}

// ChatTemplate returns a template that the model's file carries: "" is the
// default one, else a name such as "tool_use".
func (m *Model) ChatTemplate(name string) (string, bool) {
	key := "tokenizer.chat_template"
	if name != "" {
		key += "." + name
	}
	return m.Meta(key)
}

// NewChatTemplate takes the template of a model's file, or override if that is
// not empty. A model without one gets ChatML, as in llama.cpp. m may be nil, then
// override must be given and bos_token and eos_token are empty.
func NewChatTemplate(m *Model, override string) (*ChatTemplate, error) {
	return newChatTemplate(m, override, "", "")
}

// NewChatTemplateText takes a template without a model, and the texts of its
// variables bos_token and eos_token.
func NewChatTemplateText(template, bos, eos string) (*ChatTemplate, error) {
	return newChatTemplate(nil, template, bos, eos)
}

func newChatTemplate(m *Model, template, bos, eos string) (*ChatTemplate, error) {
	if err := Init(); err != nil {
		return nil, err
	}
	var cm *C.struct_llama_model
	object := ""
	if m == nil && template == "" {
		return nil, fmt.Errorf("chat template: it is empty and there is no model")
	}
	text := template
	if text == "" {
		text, _ = m.ChatTemplate("")
	}
	if err := checkTemplate(text); err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	if m != nil {
		if err := m.useVocab("chat template"); err != nil {
			return nil, err
		}
		cm = m.ptr
		object = "of " + m.path
	}
	var texts [3]*C.char
	for i, s := range []string{template, bos, eos} {
		cs, err := cString(s)
		if err != nil {
			return nil, fmt.Errorf("chat template: %w", err)
		}
		defer C.free(unsafe.Pointer(cs))
		texts[i] = cs
	}
	r := C.nl_chat_new(cm, texts[0], texts[1], texts[2])
	if err := check(r, "chat template", object); err != nil {
		if m != nil {
			m.release()
		}
		return nil, err
	}
	return &ChatTemplate{model: m, ptr: (*C.nl_chat)(r.p)}, nil
}

// Limits of a template: the parser calls itself, on the C stack. The largest
// template in llama.cpp's collection has 30 KB and nests 10 deep.
const (
	maxTemplateBytes = 1 << 20
	maxTemplateDepth = 200
)

var blockTag = regexp.MustCompile(`\{%[-+]?\s*(if|for|macro|call|filter|endif|endfor|endmacro|endcall|endfilter)\b`)

func checkTemplate(text string) error {
	if len(text) > maxTemplateBytes {
		return fmt.Errorf("got %d bytes, want at most %d", len(text), maxTemplateBytes)
	}
	depth := 0
	for _, tag := range blockTag.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(tag[1], "end") {
			depth--
		} else if depth++; depth > maxTemplateDepth {
			return fmt.Errorf("blocks nested more than %d deep", maxTemplateDepth)
		}
	}
	depth = 0
	for _, c := range []byte(text) {
		switch c {
		case '(', '[', '{':
			if depth++; depth > maxTemplateDepth {
				return fmt.Errorf("brackets nested more than %d deep", maxTemplateDepth)
			}
		case ')', ']', '}':
			depth = max(0, depth-1)
		}
	}
	return nil
}

// use locks the template for one call; the caller must unlock t.mu.
func (t *ChatTemplate) use(op string) error {
	if t == nil {
		return fmt.Errorf("%s: chat template: %w", op, ErrClosed)
	}
	t.mu.Lock()
	if t.ptr == nil {
		t.mu.Unlock()
		return fmt.Errorf("%s: chat template: %w", op, ErrClosed)
	}
	return nil
}

// Close frees the template.
func (t *ChatTemplate) Close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ptr == nil {
		return nil
	}
	_ = check(C.nl_chat_free(t.ptr), "free chat template", "")
	t.ptr = nil
	if t.model != nil {
		t.model.release()
	}
	return nil
}

// Source returns the template's Jinja text.
func (t *ChatTemplate) Source() (string, error) {
	if err := t.use("source"); err != nil {
		return "", err
	}
	defer t.mu.Unlock()
	empty := C.CString("")
	defer C.free(unsafe.Pointer(empty))
	r := C.nl_chat_source(t.ptr, empty)
	if err := check(r, "chat template", "source"); err != nil {
		return "", err
	}
	return takeString((*C.char)(r.p)), nil
}

// Caps returns what llama.cpp found the template to support ("supports_tools",
// "supports_system_role", "enable_thinking", …).
func (t *ChatTemplate) Caps() (map[string]bool, error) {
	if err := t.use("caps"); err != nil {
		return nil, err
	}
	defer t.mu.Unlock()
	r := C.nl_chat_caps(t.ptr)
	if err := check(r, "chat template", "caps"); err != nil {
		return nil, err
	}
	caps := map[string]bool{}
	if err := json.Unmarshal([]byte(takeString((*C.char)(r.p))), &caps); err != nil {
		return nil, fmt.Errorf("chat template caps: %w", err)
	}
	return caps, nil
}

// chatRequest is what chat.cpp's chat_inputs reads.
type chatRequest struct {
	Messages            []ChatMessage   `json:"messages"`
	AddGenerationPrompt bool            `json:"add_generation_prompt"`
	EnableThinking      bool            `json:"enable_thinking"`
	Tools               json.RawMessage `json:"tools,omitempty"`
	ToolChoice          string          `json:"tool_choice,omitempty"`
	ParallelToolCalls   bool            `json:"parallel_tool_calls"`
	JSONSchema          json.RawMessage `json:"json_schema,omitempty"`
	Grammar             string          `json:"grammar,omitempty"`
	Continue            bool            `json:"continue_final_message,omitempty"`
	ReasoningFormat     string          `json:"reasoning_format,omitempty"`
	Kwargs              map[string]any  `json:"kwargs,omitempty"`
	Plain               bool            `json:"plain"`
}

// Render turns messages into the prompt that the model was trained on.
func (t *ChatTemplate) Render(msgs []ChatMessage, o ChatOptions) (ChatPrompt, error) {
	if len(msgs) == 0 {
		return ChatPrompt{}, fmt.Errorf("render chat: no messages")
	}
	for i, m := range msgs {
		if m.Role == "" {
			return ChatPrompt{}, fmt.Errorf("render chat: message %d: no role", i)
		}
	}
	if last := msgs[len(msgs)-1]; o.ContinueFinal && last.Role != "assistant" {
		return ChatPrompt{}, fmt.Errorf("render chat: last message to go on with: got role %s, want assistant", last.Role)
	}
	req, err := json.Marshal(chatRequest{
		Messages: msgs, AddGenerationPrompt: o.AddGenerationPrompt, EnableThinking: o.EnableThinking,
		Tools: o.Tools, ToolChoice: o.ToolChoice, ParallelToolCalls: o.ParallelToolCalls,
		JSONSchema: o.JSONSchema, Grammar: o.Grammar, Continue: o.ContinueFinal,
		ReasoningFormat: o.ReasoningFormat, Kwargs: o.ExtraArgs,
	})
	if err != nil {
		return ChatPrompt{}, fmt.Errorf("render chat: %w", err)
	}
	if err := t.use("render chat"); err != nil {
		return ChatPrompt{}, err
	}
	defer t.mu.Unlock()
	r := C.nl_chat_render(t.ptr, (*C.char)(unsafe.Pointer(&req[0])), C.size_t(len(req)))
	if err := check(C.nl_result{err: r.err}, "render chat", ""); err != nil {
		return ChatPrompt{}, err
	}
	defer C.free(unsafe.Pointer(r.prompt.p))
	defer C.free(unsafe.Pointer(r.details.p))
	p := ChatPrompt{reasoning: o.ReasoningFormat}
	if err := json.Unmarshal(unsafe.Slice((*byte)(unsafe.Pointer(r.details.p)), r.details.n), &p); err != nil {
		return ChatPrompt{}, fmt.Errorf("render chat: %w", err)
	}
	p.Prompt = string(unsafe.Slice((*byte)(unsafe.Pointer(r.prompt.p)), r.prompt.n))
	return p, nil
}

// Parse splits an answer to a rendered prompt into content, reasoning and tool
// calls. partial says that text may still go on.
func (t *ChatTemplate) Parse(p ChatPrompt, text string, partial bool) (ChatMessage, error) {
	reasoning := p.reasoning
	if reasoning == "" {
		reasoning = "none"
	}
	req, err := json.Marshal(map[string]any{
		"text": text, "partial": partial, "format": p.Format, "parser": p.Parser,
		"generation_prompt": p.GenerationPrompt, "reasoning_format": reasoning, "parse_tool_calls": true,
	})
	if err != nil {
		return ChatMessage{}, fmt.Errorf("parse chat: %w", err)
	}
	if err := t.use("parse chat"); err != nil {
		return ChatMessage{}, err
	}
	defer t.mu.Unlock()
	r := C.nl_chat_parse(t.ptr, (*C.char)(unsafe.Pointer(&req[0])), C.size_t(len(req)))
	if err := check(r, "parse chat", ""); err != nil {
		return ChatMessage{}, err
	}
	var m ChatMessage
	if err := json.Unmarshal([]byte(takeString((*C.char)(r.p))), &m); err != nil {
		return ChatMessage{}, fmt.Errorf("parse chat: %w", err)
	}
	return m, nil
}
