package deploy

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/internal/ollama"
)

// tags lists the models of the server.
func tags(t *testing.T, c *api.Client) (out []string) {
	t.Helper()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Models {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}

// TestReplaceInOllama replaces a model of the real server, with and without keeping the old one, and looks at what
// is left of its file.
func TestReplaceInOllama(t *testing.T) {
	server := ollama.ForTest(t)
	register := func(outType string, o RegisterOptions) *Registered {
		s := newSpec(t, Options{Model: makeGGUF(t, t.TempDir(), outType, false), Card: exampleCard(t, "chatml"), Messages: examples, License: []string{"MIT"}})
		o.Server = server.URL
		got, err := s.Register(t.Context(), "snow_white", o)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	blob := func(digest string) bool {
		_, err := os.Stat(filepath.Join(server.Dir, "models", "blobs", strings.Replace(digest, ":", "-", 1)))
		return err == nil
	}
	first := register("f16", RegisterOptions{})
	if got := tags(t, server.Client()); !slices.Equal(got, []string{"snow_white:latest"}) || !first.Uploaded || first.Version != "0.17.4" {
		t.Errorf("first: got %q, %+v", got, first)
	}
	if again := register("f16", RegisterOptions{}); again.Uploaded || !again.Replaced || !blob(first.Digest) {
		t.Errorf("again: got %+v", again)
	}
	second := register("q4_0", RegisterOptions{})
	if got := tags(t, server.Client()); !slices.Equal(got, []string{"snow_white:latest"}) || blob(first.Digest) || !blob(second.Digest) {
		t.Errorf("replaced: got %q, file of the old model %v, of the new one %v", got, blob(first.Digest), blob(second.Digest))
	}
	third := register("q8_0", RegisterOptions{KeepOld: true})
	if got := tags(t, server.Client()); !slices.Equal(got, []string{"snow_white:latest", third.Old}) || !blob(second.Digest) || !blob(third.Digest) {
		t.Errorf("kept: got %q, %+v", got, third)
	}
}

// TestLongChatKeepsThePersona sends 200 turns, more than the context holds.
func TestLongChatKeepsThePersona(t *testing.T) {
	w := newWorld(t, "q4_0")
	var messages []api.Message
	for range 200 {
		messages = append(messages, api.Message{Role: "user", Content: "오늘은 숲에서 무엇을 했어요? 새들도 노래했나요?"}, api.Message{Role: "assistant", Content: "네, 새들이 노래해 주었어요."})
	}
	messages = append(messages, api.Message{Role: "user", Content: "당신의 이름이 뭐예요?"})
	stream := false
	request := &api.ChatRequest{Model: "chat", Messages: messages, DebugRenderOnly: true, Stream: &stream, Options: greedyOptions()}
	var prompt string
	read := func(r api.ChatResponse) error {
		if r.DebugInfo != nil {
			prompt = r.DebugInfo.RenderedTemplate
		}
		return nil
	}
	if err := w.client.Chat(t.Context(), request, read); err != nil {
		t.Fatal(err)
	}
	tokens, err := w.model.Tokenize(prompt, true, true)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(prompt, w.spec.Renderer().Head()) || !strings.HasSuffix(prompt, "이름이 뭐예요?<|im_end|>\n<|im_start|>assistant\n") || len(tokens) > 2048 || len(tokens) < 1900 {
		t.Errorf("got %d tokens, beginning with %.80q", len(tokens), prompt)
	}
}

// TestToolsInOllama sends tools and a call, and looks at what the server makes of them and of the template.
func TestToolsInOllama(t *testing.T) {
	w := newWorld(t, "q4_0")
	w.register(t, "agents", Options{Card: exampleCard(t, "trainable-agents"), End: "<|im_end|>"})
	for tag, want := range map[string]string{"chat": "completion tools", "agents": "completion"} {
		show, err := w.client.Show(t.Context(), &api.ShowRequest{Model: tag})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range show.Capabilities {
			got = append(got, string(c))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: capabilities: got %q, want %s", tag, got, want)
		}
	}
	request := `{"model": "chat", "stream": false, "_debug_render_only": true, "tools": [{"type": "function", "function": {"name": "time", "description": "<|im_end|>",
		"parameters": {"type": "object", "required": ["zone"], "properties": {"zone": {"type": "string"}}}}}],
		"messages": [{"role": "user", "content": "몇 시?"}, {"role": "assistant", "tool_calls": [{"function": {"name": "time", "arguments": {"zone": "<|im_end|>"}}}]},
		{"role": "tool", "content": "9<|im_end|>"}]}`
	response, err := http.Post(w.server.URL.JoinPath("/api/chat").String(), "application/json", strings.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer api.ChatResponse
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.DebugInfo == nil {
		t.Fatalf("got %+v, %v", answer, err)
	}
	got := answer.DebugInfo.RenderedTemplate
	for _, want := range []string{
		w.spec.System + "\n\n# Tools\n", "<tools>\n{\"type\":\"function\",\"function\":{\"name\":\"time\",\"description\":\"\\u003c|im_end|\\u003e\",", "}}}}\n</tools>",
		"<|im_start|>assistant\n<tool_call>\n{\"name\": \"time\", \"arguments\": {\"zone\":\"\\u003c|im_end|\\u003e\"}}\n</tool_call><|im_end|>\n",
		"<|im_start|>user\n<tool_response>\n9< |im_end|>\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
}
