package chat

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

// tinyModel writes a GGUF file of a tiny model.
func tinyModel(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	spec, err := testmodel.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	plan, err := convert.NewPlan(t.Context(), dir, convert.Options{OutType: "f16", OutFile: filepath.Join(dir, "m.gguf")})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	result, err := plan.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result.Path
}

// greedy are options under which a reply is always the same.
func greedy() Options {
	o := DefaultOptions()
	o.Sampling.Temperature, o.NumPredict, o.NumCtx, o.Threads = 0, 6, 512, 1
	return o
}

func open(t *testing.T, path string, o Options) *Session {
	t.Helper()
	s, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func say(t *testing.T, s *Session, text string) Reply {
	t.Helper()
	var streamed strings.Builder
	reply, err := s.Say(t.Context(), text, func(piece string) { streamed.WriteString(piece) })
	if err != nil {
		t.Fatal(err)
	}
	if streamed.String() != reply.Message.Content {
		t.Errorf("%q: got %q in pieces, %q as a whole", text, streamed.String(), reply.Message.Content)
	}
	return reply
}

// TestCacheChangesNothing holds the same conversation with the KV cache and without: the replies are the same,
// and only the new part of the prompt is decoded. Gemma 3 has a sliding window, whose cache forgets.
func TestCacheChangesNothing(t *testing.T) {
	for _, name := range []string{"qwen3-tied", "llama-spm", "gemma3"} {
		t.Run(name, func(t *testing.T) {
			path := tinyModel(t, name)
			cached, fresh := open(t, path, greedy()), open(t, path, greedy())
			for turn, text := range []string{"Who are you?", "너는 누구야? 🍎", "And where do you live?"} {
				fresh.cached = nil // as if all were new
				got, want := say(t, cached, text), say(t, fresh, text)
				if got.Message != want.Message {
					t.Errorf("turn %d: got %q with the cache, %q without", turn, got.Message.Content, want.Message.Content)
				}
				if want.PromptCacheCount != 0 || got.PromptEvalCount+got.PromptCacheCount != want.PromptEvalCount {
					t.Errorf("turn %d: got %d decoded and %d cached, want %d in all", turn, got.PromptEvalCount, got.PromptCacheCount, want.PromptEvalCount)
				}
				if turn > 0 && got.PromptCacheCount == 0 {
					t.Errorf("turn %d: got nothing out of the cache", turn)
				}
			}
		})
	}
}

func TestClearAndSystem(t *testing.T) {
	s := open(t, tinyModel(t, "qwen3-tied"), greedy())
	first := say(t, s, "Who are you?")
	say(t, s, "And you?")
	s.Clear()
	again := say(t, s, "Who are you?")
	if again.Message != first.Message || again.PromptEvalCount+again.PromptCacheCount != first.PromptEvalCount {
		t.Errorf("after Clear: got %+v, want what the first turn said: %+v", again, first)
	}
	s.Clear()
	s.SetSystem("You are Snow White.")
	if with := say(t, s, "Who are you?"); with.PromptEvalCount+with.PromptCacheCount <= first.PromptEvalCount {
		t.Errorf("with a system message: got %d tokens, want more than %d", with.PromptEvalCount+with.PromptCacheCount, first.PromptEvalCount)
	}
}

// TestTemplate checks what the model sees: its own template, another one, or none.
func TestTemplate(t *testing.T) {
	path := tinyModel(t, "qwen3-tied")
	prompt := func(o Options, text string) string {
		s := open(t, path, o)
		tokens, _, err := s.prompt(text)
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := s.model.Detokenize(tokens, false, true)
		if err != nil {
			t.Fatal(err)
		}
		return rendered
	}
	o := greedy()
	o.System = "백설공주"
	if got, want := prompt(o, "안녕"), "<|im_start|>system\n백설공주<|im_end|>\n<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n"; got != want {
		t.Errorf("own template: got %q, want %q", got, want)
	}
	o.Template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
	if got, want := prompt(o, "hi"), "[system] 백설공주 [user] hi"; strings.TrimSpace(got) != want {
		t.Errorf("other template: got %q, want %q", got, want)
	}
	o.Raw = true
	if got := prompt(o, "<|im_start|>hi"); got != "<|im_start|>hi" {
		t.Errorf("raw: got %q", got)
	}
}

func TestRawGoesOn(t *testing.T) {
	o := greedy()
	o.Raw = true
	s := open(t, tinyModel(t, "qwen3-tied"), o)
	first := say(t, s, "Once upon")
	second := say(t, s, " a time")
	if s.text != "Once upon"+first.Message.Content+" a time"+second.Message.Content {
		t.Errorf("got the text %q", s.text)
	}
}

func TestLimits(t *testing.T) {
	path := tinyModel(t, "qwen3-tied")
	s := open(t, path, greedy())
	reply := say(t, s, "hello")
	if reply.DoneReason != "length" || reply.EvalCount != 6 {
		t.Errorf("num_predict 6: got %s after %d tokens", reply.DoneReason, reply.EvalCount)
	}
	_, err := s.Say(t.Context(), strings.Repeat("Once upon a time. ", 200), nil)
	if !errors.Is(err, ErrContextFull) || !strings.Contains(err.Error(), "want fewer than num_ctx 512") || !strings.Contains(err.Error(), path) {
		t.Errorf("a prompt beyond the context: got %v", err)
	}
	if again := say(t, s, "and you?"); again.PromptCacheCount == 0 {
		t.Error("after that: the conversation is not as it was")
	}

	o := greedy()
	o.NumPredict, o.NumCtx, o.Sampling.RepeatPenalty = -1, 256, 1
	o.Sampling.LogitBias = endless(t, s.model)
	full := say(t, open(t, path, o), "hello")
	if full.DoneReason != "context" || full.PromptEvalCount+full.EvalCount != 256+1 {
		t.Errorf("no limit: got %s after %d and %d tokens, want the context of 256 to be full", full.DoneReason, full.PromptEvalCount, full.EvalCount)
	}
}

// endless forbids the tokens that end a reply.
func endless(t *testing.T, m *llama.Model) map[llama.Token]float32 {
	t.Helper()
	bias := map[llama.Token]float32{}
	for token := range llama.Token(m.NVocab()) {
		if m.IsEOG(token) {
			bias[token] = -1e9
		}
	}
	if len(bias) == 0 {
		t.Fatal("the model has no end tokens")
	}
	return bias
}

func TestStop(t *testing.T) {
	path := tinyModel(t, "qwen3-tied")
	whole := say(t, open(t, path, greedy()), "hello").Message.Content
	if len(whole) < 4 {
		t.Fatalf("the reply %q is too short for this test", whole)
	}
	o := greedy()
	o.Stop = []string{whole[2:4]}
	reply := say(t, open(t, path, o), "hello")
	if want, _, _ := strings.Cut(whole, whole[2:4]); reply.Message.Content != want || reply.DoneReason != "stop" {
		t.Errorf("stop %q: got %q (%s), want %q of %q", o.Stop, reply.Message.Content, reply.DoneReason, want, whole)
	}
}

func TestSeed(t *testing.T) {
	path := tinyModel(t, "qwen3-tied")
	o := greedy()
	o.Sampling.Temperature, o.Sampling.TopK, o.Sampling.TopP, o.Sampling.Seed, o.NumPredict = 5, 0, 1, 42, 24
	s := open(t, path, o)
	first := say(t, s, "hello")
	s.Clear()
	if again := say(t, s, "hello"); again.Message != first.Message {
		t.Errorf("the same seed: got %q, then %q", first.Message.Content, again.Message.Content)
	}
	o.Sampling.Seed = 43
	if other := say(t, open(t, path, o), "hello"); other.Message == first.Message {
		t.Errorf("another seed: got %q again", other.Message.Content)
	}
}

func TestCancel(t *testing.T) {
	path := tinyModel(t, "qwen3-tied")
	o := greedy()
	o.NumPredict = -1
	s := open(t, path, o)
	ctx, cancel := context.WithCancel(t.Context())
	var got strings.Builder
	reply, err := s.Say(ctx, "hello", func(piece string) {
		got.WriteString(piece)
		cancel()
	})
	if !errors.Is(err, context.Canceled) || reply.DoneReason != "cancelled" || !strings.HasPrefix(got.String(), reply.Message.Content[:1]) {
		t.Errorf("got %v, %+v", err, reply)
	}
	if len(s.history) != 2 || s.history[1].Content != reply.Message.Content {
		t.Errorf("the reply so far is not part of the conversation: %+v", s.history)
	}
	if after := say(t, s, "go on"); after.EvalCount == 0 {
		t.Error("the conversation does not go on")
	}
	if s, err := Open(ctx, path, o); !errors.Is(err, context.Canceled) {
		s.Close()
		t.Errorf("load after the end: got %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	path := tinyModel(t, "qwen3-tied")
	for want, spoil := range map[string]func(o *Options){
		"num_ctx: got -1":       func(o *Options) { o.NumCtx = -1 },
		"num_batch: got 0":      func(o *Options) { o.NumBatch = 0 },
		"num_predict: got 0":    func(o *Options) { o.NumPredict = 0 },
		"repeat_last_n: got -2": func(o *Options) { o.Sampling.RepeatLastN = -2 },
		"threads: got -1":       func(o *Options) { o.Threads = -1 },
		"gpu layers: got -2":    func(o *Options) { o.GPULayers = -2 },
		"top_p: got -1":         func(o *Options) { o.Sampling.TopP = -1 },
		"template":              func(o *Options) { o.Template = "{% for %}" },
	} {
		o := greedy()
		spoil(&o)
		s, err := Open(t.Context(), path, o)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := open(t, path, greedy()).Say(t.Context(), "", nil); err != nil {
		t.Errorf("an empty turn in a template is a turn: got %v", err)
	}
	o := greedy()
	o.Raw = true
	if _, err := open(t, path, o).Say(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty raw prompt: got %v", err)
	}
}
