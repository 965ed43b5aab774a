package llama

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// TestRecurrentModel: the memory of a recurrent model cannot forget its last
// tokens. Whatever needs that decodes again, with the same result.
func TestRecurrentModel(t *testing.T) {
	path := write(t, tinymodel.Mamba(tinymodel.Options{}))
	l, draft := open(t, path, SetContext(256)), open(t, path, SetContext(256))
	other := open(t, write(t, tinymodel.Mamba(tinymodel.Options{Seed: "other"})), SetContext(256))
	const prompt = "once upon a time"
	want := predict(t, l, prompt, SetTokens(40), IgnoreEOS)
	if again := predict(t, l, prompt, SetTokens(40), IgnoreEOS); again != want {
		t.Fatalf("second answer: got %q, want %q", again, want)
	}
	for name, d := range map[string]*LLama{"same": draft, "other": other, "itself": l} {
		if got := speculate(t, l, d, prompt, SetTokens(40), SetNDraft(5), IgnoreEOS); got != want {
			t.Errorf("draft %s: got %q, want %q", name, got, want)
		}
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(l.Eval(prompt), l.SaveState(state), draft.LoadState(state)); err != nil {
		t.Fatal(err)
	}
	if got := predict(t, draft, "", SetTokens(40), IgnoreEOS); got != want {
		t.Errorf("from a state: got %q, want %q", got, want)
	}
	if got := predict(t, l, prompt, SetTokens(500), IgnoreEOS); len(got) < 400 {
		t.Errorf("answer past the context: got %d bytes", len(got))
	}
}

// TestContextThatCannotShift: a memory with several positions per token cannot
// move them, so a full one decodes what stays again.
func TestContextThatCannotShift(t *testing.T) {
	m := tinymodel.Random(tinymodel.Options{Arch: "qwen2vl", Heads: 2, KVHeads: 1})
	m.Set("qwen2vl.rope.dimension_sections", []int32{2, 3, 3, 0})
	path := write(t, m)
	l := open(t, path, SetContext(256))
	if l.memory.c.CanShift() {
		t.Fatal("the memory of this model can shift: the test needs another")
	}
	predict(t, l, "once upon a time", SetTokens(400), IgnoreEOS, SetNKeep(4))
	if !l.memory.dropped || len(l.memory.tokens) > 256 {
		t.Errorf("memory after 400 tokens: got %d tokens, dropped %v", len(l.memory.tokens), l.memory.dropped)
	}
	// What it holds is what a fresh context makes of the same tokens.
	fresh := open(t, path, SetContext(256))
	if err := fresh.memory.decode(l.memory.tokens, false); err != nil {
		t.Fatal(err)
	}
	got, err := fresh.memory.c.Logits(-1)
	if err != nil {
		t.Fatal(err)
	}
	want, err := l.memory.c.Logits(-1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if d := got[i] - want[i]; d < -0.05 || d > 0.05 {
			t.Fatalf("logit %d: got %v from a fresh context, %v after dropping", i, got[i], want[i])
		}
	}
}
