package llama

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

func TestStateRoundTripContinuesTheSame(t *testing.T) {
	path := write(t, tinymodel.Random(tinymodel.Options{}))
	first, second := open(t, path, SetContext(256)), open(t, path, SetContext(256))
	const prompt = "it was a dark night"
	want := predict(t, first, prompt, SetTokens(30), IgnoreEOS)

	for _, afterPrompt := range []bool{true, false} {
		state := filepath.Join(t.TempDir(), "state")
		head := ""
		if afterPrompt {
			if err := first.Eval(prompt); err != nil {
				t.Fatal(err)
			}
		} else {
			head = predict(t, first, prompt, SetTokens(12), IgnoreEOS)
		}
		if err := first.SaveState(state); err != nil {
			t.Fatal(err)
		}
		if err := second.LoadState(state); err != nil {
			t.Fatal(err)
		}
		tail := predict(t, second, "", SetTokens(30), IgnoreEOS)
		if got := head + tail; !strings.HasPrefix(got, want) {
			t.Errorf("continued from a state: got %q, want it to begin with %q", got, want)
		}
	}
}

func TestLoadStateReusesThePrompt(t *testing.T) {
	l := random(t)
	state := filepath.Join(t.TempDir(), "state")
	if err := l.Eval("it was a dark night"); err != nil {
		t.Fatal(err)
	}
	if err := l.SaveState(state); err != nil {
		t.Fatal(err)
	}
	for _, prompt := range []string{"it was a dark night and", "it was a dark night", "it was a day", "no"} {
		want := predict(t, l, prompt, SetTokens(20))
		if err := l.LoadState(state); err != nil {
			t.Fatal(err)
		}
		if got := predict(t, l, prompt, SetTokens(20)); got != want {
			t.Errorf("prompt %q after LoadState: got %q, want %q", prompt, got, want)
		}
	}
}

// TestLoadedStateCounts puts a state of other tokens under the prompt's name: an
// answer that changes shows that the state is used, not decoded anew.
func TestLoadedStateCounts(t *testing.T) {
	l := random(t)
	state := filepath.Join(t.TempDir(), "state")
	if err := l.Eval("aaaaaaaaaaaaaaaaaaaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	tokens := l.memory.tokens
	forged := bytes.Repeat([]byte("b"), len(tokens))
	for i := range tokens {
		tokens[i] = Token(forged[i])
	}
	if err := l.SaveState(state); err != nil {
		t.Fatal(err)
	}
	plain := predict(t, l, string(forged), SetTokens(20))
	if err := l.LoadState(state); err != nil {
		t.Fatal(err)
	}
	if got := predict(t, l, string(forged), SetTokens(20)); got == plain {
		t.Errorf("answer over a forged state is the plain one %q: the state was not used", got)
	}
	if got := predict(t, l, string(forged), SetTokens(20)); got != plain {
		t.Errorf("next answer: got %q, want %q: a state counts for one call", got, plain)
	}
}

func TestStateOfAFullContext(t *testing.T) {
	l := chain(t, letters)
	state := filepath.Join(t.TempDir(), "state")
	predict(t, l, "z", SetTokens(255+256)) // shifted, and full again or nearly
	if err := l.SaveState(state); err != nil {
		t.Fatal(err)
	}
	want := string(rune('a' + (255+256)%26))
	if err := l.LoadState(state); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []int{64, -1} {
		got := predict(t, l, "", SetTokens(300), SetNKeep(keep))
		if !strings.HasPrefix(got, want) || len(got) != 300 {
			t.Errorf("continuation of a full context: got %d letters %.9q, want 300 that begin with %q", len(got), got, want)
		}
		if err := l.LoadState(state); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStateOfNothing(t *testing.T) {
	l := chain(t, letters)
	state := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(l.SaveState(state), l.Eval("k"), l.LoadState(state)); err != nil {
		t.Fatal(err)
	}
	// There is nothing to continue: an empty prompt is BOS, as without a state.
	if got := predict(t, l, "", SetTokens(3)); got != "abc" {
		t.Errorf("answer: got %q, want abc", got)
	}
}

func TestLoadStateErrors(t *testing.T) {
	l := random(t)
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := l.Eval("some tokens of a state"); err != nil {
		t.Fatal(err)
	}
	if err := l.SaveState(state); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	bigger := open(t, write(t, tinymodel.Random(tinymodel.Options{Blocks: 3})))
	if err := errors.Join(bigger.Eval("x"), bigger.SaveState(other)); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"empty":            {},
		"magic":            append([]byte("GGUF"), good[4:]...),
		"cut in tokens":    good[:20],
		"cut in the cache": good[:len(good)/2],
		"cut at the end":   good[:len(good)-1],
		"longer":           append(bytes.Clone(good), 0),
		"too many tokens":  append(append(bytes.Clone(good[:8]), 0xff, 0xff, 0xff, 0xff), good[12:]...),
		"tokens dropped":   append(append(bytes.Clone(good[:8]), 0, 0, 0, 0), good[12+4*22:]...),
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		files[name] = nil
	}
	files["not there"], files["other"] = nil, nil
	for name := range files {
		err := l.LoadState(filepath.Join(dir, name))
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("state %s: got error %v, want one that names the file", name, err)
		}
		if got, want := predict(t, l, "z", SetTokens(5)), predict(t, l, "z", SetTokens(5)); got != want {
			t.Errorf("answer after the error: got %q, want %q", got, want)
		}
	}
	if err := l.SaveState(filepath.Join(dir, "no", "folder")); err == nil {
		t.Error("SaveState into a folder that is not there: got no error")
	}
}

func TestPromptCacheIsWrittenAndReused(t *testing.T) {
	l := random(t)
	cache := filepath.Join(t.TempDir(), "cache")
	const prompt = "the same long prompt"
	want := predict(t, l, prompt, SetTokens(20))
	longer := predict(t, l, prompt+" and more", SetTokens(20))

	if got := predict(t, l, prompt, SetTokens(20), SetPathPromptCache(cache)); got != want {
		t.Errorf("answer that makes the cache: got %q, want %q", got, want)
	}
	first := readFile(t, cache)
	if n := len(cacheTokens(t, l, cache)); n != len(prompt) {
		t.Errorf("tokens in the cache: got %d, want the prompt's %d", n, len(prompt))
	}
	if got := predict(t, l, prompt, SetTokens(20), SetPathPromptCache(cache)); got != want {
		t.Errorf("answer from the cache: got %q, want %q", got, want)
	}
	if !bytes.Equal(readFile(t, cache), first) {
		t.Error("a cache that has the prompt was written again")
	}
	if got := predict(t, l, prompt+" and more", SetTokens(20), SetPathPromptCache(cache)); got != longer {
		t.Errorf("answer to a longer prompt: got %q, want %q", got, longer)
	}
	if n := len(cacheTokens(t, l, cache)); n != len(prompt)+9 {
		t.Errorf("tokens in the cache: got %d, want the longer prompt's %d", n, len(prompt)+9)
	}
	if got := predict(t, l, prompt, SetTokens(20), SetPathPromptCache(cache)); got != want {
		t.Errorf("answer to the shorter prompt: got %q, want %q", got, want)
	}
}

func TestPromptCacheRO(t *testing.T) {
	l := random(t)
	cache := filepath.Join(t.TempDir(), "cache")
	predict(t, l, "a prompt", SetPathPromptCache(cache), EnablePromptCacheRO, EnablePromptCacheAll)
	if _, err := os.Stat(cache); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read-only cache: got %v, want no file", err)
	}
	predict(t, l, "a prompt", SetPathPromptCache(cache))
	before := readFile(t, cache)
	predict(t, l, "another prompt", SetPathPromptCache(cache), EnablePromptCacheRO, EnablePromptCacheAll)
	if !bytes.Equal(readFile(t, cache), before) {
		t.Error("read-only cache was changed")
	}
}

func TestPromptCacheAllContinues(t *testing.T) {
	l := random(t)
	cache := filepath.Join(t.TempDir(), "cache")
	want := predict(t, l, "once upon", SetTokens(24), IgnoreEOS)
	got := predict(t, l, "once upon", SetTokens(8), IgnoreEOS, SetPathPromptCache(cache), EnablePromptCacheAll)
	if n := len(cacheTokens(t, l, cache)); n != len("once upon")+8 {
		t.Errorf("tokens in the cache: got %d, want prompt and answer, %d", n, len("once upon")+8)
	}
	// An empty prompt goes on behind the file's tokens.
	for range 2 {
		got += predict(t, l, "", SetTokens(8), IgnoreEOS, SetPathPromptCache(cache), EnablePromptCacheAll)
	}
	if got != want {
		t.Errorf("answer in three calls: got %q, want %q", got, want)
	}
}

func TestPromptCacheAllOfAnOutgrownContext(t *testing.T) {
	l := chain(t, letters)
	cache := filepath.Join(t.TempDir(), "cache")
	predict(t, l, "z", SetTokens(400), SetPathPromptCache(cache), EnablePromptCacheAll)
	if got := cacheTokens(t, l, cache); len(got) != 1 {
		t.Errorf("tokens in the cache: got %d, want the prompt only", len(got))
	}
}

func TestPromptCacheErrors(t *testing.T) {
	l := random(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("no state"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, filepath.Join(dir, "no", "folder"), dir} {
		if _, err := l.Predict("a", SetPathPromptCache(path), SetTokens(1)); err == nil || !strings.Contains(err.Error(), "prompt cache") {
			t.Errorf("cache %s: got error %v, want prompt cache", path, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files left: got %v (%v), want only %s", entries, err, bad)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// cacheTokens returns the tokens of a state file.
func cacheTokens(t *testing.T, l *LLama, path string) []Token {
	t.Helper()
	if err := l.LoadState(path); err != nil {
		t.Fatal(err)
	}
	return l.memory.tokens
}
