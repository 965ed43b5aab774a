package llama

import (
	"strings"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// speculate must succeed.
func speculate(t *testing.T, target, draft *LLama, text string, opts ...PredictOption) string {
	t.Helper()
	got, err := target.SpeculativeSampling(draft, text, append(likeliestOnly[:len(likeliestOnly):len(likeliestOnly)], opts...)...)
	if err != nil {
		t.Fatalf("speculative sampling %q: %v", text, err)
	}
	return got
}

// TestSpeculativeEqualsPlain: whatever the draft model and its number of tokens,
// the answer is the target's own.
func TestSpeculativeEqualsPlain(t *testing.T) {
	target := random(t)
	drafts := map[string]*LLama{
		"same weights":   random(t),
		"other weights":  open(t, write(t, tinymodel.Random(tinymodel.Options{Seed: "other", Blocks: 1})), SetContext(256)),
		"itself":         target,
		"sure of itself": chain(t, letters),
		"small batch":    random(t, SetNBatch(3)),
	}
	for _, prompt := range []string{"once upon a time", "x"} {
		want := predict(t, target, prompt, SetTokens(60), IgnoreEOS)
		for name, draft := range drafts {
			for _, n := range []int{0, 1, 2, 5, 16, 1000} {
				if got := speculate(t, target, draft, prompt, SetTokens(60), SetNDraft(n), IgnoreEOS); got != want {
					t.Errorf("prompt %q, draft %s of %d tokens: got %q, want %q", prompt, name, n, got, want)
				}
			}
		}
	}
}

func TestSpeculativeUsesProposals(t *testing.T) {
	l, draft := chain(t, letters), chain(t, letters)
	a := runDraft(t, l, draft, "z", SetTokens(51))
	// Round 1 gives one token, each later one 16 proposals and one more.
	if a.proposed != 48 || a.accepted != 48 {
		t.Errorf("proposals: got %d, accepted %d, want 48 of 48 for 51 tokens in batches of 16", a.proposed, a.accepted)
	}
	// A draft with the target's weights is right as long as its memory is: nothing
	// of a proposal may be missing there, or be left over.
	if a := runDraft(t, random(t), random(t), "once upon a time", SetTokens(60), SetNDraft(3)); a.proposed < 10 || a.accepted < a.proposed-3 {
		t.Errorf("proposals of the same model: got %d, accepted %d, want at least 10, and all but those behind the end", a.proposed, a.accepted)
	}
	contrary := chain(t, []string{"z", "y", "x"})
	if a := runDraft(t, l, contrary, "z", SetTokens(20), SetNDraft(4)); a.proposed == 0 || a.accepted != 0 {
		t.Errorf("proposals of a contrary model: got %d, accepted %d, want some, and 0", a.proposed, a.accepted)
	}
	unsure := open(t, write(t, tinymodel.Chain(tinymodel.Options{}, 0.5, func(s string) string { return "?" })), SetContext(256))
	if a := runDraft(t, l, unsure, "z", SetTokens(20)); a.proposed != 0 {
		t.Errorf("proposals of an unsure model: got %d, want 0", a.proposed)
	}
}

// runDraft is SpeculativeSampling that shows its counters.
func runDraft(t *testing.T, l, ll *LLama, text string, opts ...PredictOption) *draft {
	t.Helper()
	po := NewPredictOptions(append(likeliestOnly[:len(likeliestOnly):len(likeliestOnly)], opts...)...)
	p, err := l.samplerParams(po)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSampler(l.model, p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	prompt, err := l.startPrompt(text, po, s)
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.newDraft(ll, prompt, po)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.generate(l.newAnswer(po), s); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSpeculativeLimitsStopsAndCallback(t *testing.T) {
	l, draft := chain(t, letters), chain(t, letters)
	for n := 1; n < 40; n++ {
		if got, want := speculate(t, l, draft, "z", SetTokens(n), SetNDraft(4)), strings.Repeat(strings.Join(letters, ""), 2)[:n]; got != want {
			t.Errorf("%d tokens: got %q, want %q", n, got, want)
		}
		if got := len(l.memory.tokens) + 1; l.next >= 0 && got != 1+n || l.next < 0 && got != 2+n {
			t.Errorf("%d tokens: memory has %d and the next is %d, want prompt and answer", n, got-1, l.next)
		}
	}
	for i := range letters {
		if got, want := speculate(t, l, draft, "z", SetTokens(90), SetNDraft(4), SetStopWords(letters[i])), strings.Join(letters[:i], ""); got != want {
			t.Errorf("stop word %q: got %q, want %q", letters[i], got, want)
		}
	}
	// The target's callback, not the draft's.
	var seen string
	draft.SetTokenCallback(func(string) bool { t.Error("the draft model's callback was called"); return true })
	got := speculate(t, l, draft, "z", SetTokenCallback(func(s string) bool { seen += s; return s != "h" }))
	if got != "abcdefg" || seen != "abcdefgh" {
		t.Errorf("answer %q after the callback saw %q, want abcdefg after abcdefgh", got, seen)
	}
	if len(l.memory.tokens) != 8 || l.next >= 0 {
		t.Errorf("memory after the callback's stop: got %d tokens and next %d, want 8 and none", len(l.memory.tokens), l.next)
	}
}

func TestSpeculativeEndsAtEndToken(t *testing.T) {
	cycle := []string{"a", "b", "c", "d", tinymodel.End}
	l, draft := chain(t, cycle), chain(t, cycle)
	for n := range 8 {
		if got := speculate(t, l, draft, "?", SetTokens(40), SetNDraft(n)); got != "abcd" {
			t.Errorf("draft of %d: got %q, want abcd", n, got)
		}
	}
}

func TestSpeculativeStateContinues(t *testing.T) {
	l, draft := chain(t, letters), chain(t, letters)
	for n := 1; n < 20; n++ {
		head := speculate(t, l, draft, "z", SetTokens(n), SetNDraft(3))
		path := t.TempDir() + "/state"
		if err := l.SaveState(path); err != nil {
			t.Fatal(err)
		}
		if err := l.LoadState(path); err != nil {
			t.Fatal(err)
		}
		if got, want := head+predict(t, l, "", SetTokens(3)), strings.Join(letters, "")[:n+3]; got != want {
			t.Errorf("continued after %d tokens: got %q, want %q", n, got, want)
		}
	}
}

func TestSpeculativeRunsPastTheContexts(t *testing.T) {
	want := strings.Repeat(strings.Join(letters, ""), 30)[:700]
	for _, test := range []struct {
		name          string
		target, draft int
		prompt        int
	}{
		{"equal contexts", 256, 256, 100},
		{"smaller draft", 512, 256, 100},
		{"draft smaller than the prompt", 768, 256, 600},
		{"full contexts", 256, 256, 251},
	} {
		l, draft := chain(t, letters, SetContext(test.target)), chain(t, letters, SetContext(test.draft))
		prompt := strings.Repeat("q", test.prompt) + "z"
		for _, keep := range []int{64, -1} {
			if got := speculate(t, l, draft, prompt, SetTokens(700), SetNKeep(keep)); got != want {
				t.Errorf("%s, NKeep %d: got %d letters %q, want 700", test.name, keep, len(got), got)
			}
		}
	}
}

func TestSpeculativePromptTooLong(t *testing.T) {
	l := chain(t, letters)
	_, err := l.SpeculativeSampling(chain(t, letters), strings.Repeat("a", 253))
	if err == nil || !strings.Contains(err.Error(), "prompt too long") {
		t.Errorf("prompt of n_ctx-3: got error %v, want prompt too long", err)
	}
}

func TestSpeculativeGrammar(t *testing.T) {
	l := random(t)
	const grammar = `root ::= ("ab" | "cd")+ "."`
	want := predict(t, l, "letters", WithGrammar(grammar), SetTokens(40))
	for _, n := range []int{1, 4, 16} {
		if got := speculate(t, l, random(t), "letters", WithGrammar(grammar), SetTokens(40), SetNDraft(n)); got != want {
			t.Errorf("draft of %d: got %q, want %q", n, got, want)
		}
	}
	if strings.Trim(want, "abcd.") != "" {
		t.Errorf("answer: got %q, want letters of the grammar", want)
	}
}

func TestSpeculativeSeed(t *testing.T) {
	path := write(t, tinymodel.Random(tinymodel.Options{}))
	l, draft := open(t, path, SetModelSeed(5)), open(t, path)
	run := func(seed int) string {
		got, err := l.SpeculativeSampling(draft, "hello", SetSeed(seed), SetTemperature(2), SetTopK(0), SetTopP(1), SetTokens(30), IgnoreEOS)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if a, b := run(-1), run(5); a != b {
		t.Errorf("seed of the model: got %q, want %q", a, b)
	}
	if a, b := run(-1), run(6); a == b {
		t.Errorf("seeds 5 and 6: both gave %q", a)
	}
}

func TestSpeculativeOtherVocabulary(t *testing.T) {
	l := random(t)
	renamed := tinymodel.Random(tinymodel.Options{})
	renamed.Get("tokenizer.ggml.tokens").([]string)[65] = "Ω"
	bos := tinymodel.Random(tinymodel.Options{})
	bos.Set("tokenizer.ggml.eos_token_id", uint32(256))
	large := make([]string, 0, 129)
	for i := range 129 {
		large = append(large, strings.Repeat("x", 2+i))
	}
	for name, m := range map[string]*tinymodel.Model{
		"another token": renamed,
		"another EOS":   bos,
		"more tokens":   tinymodel.Random(tinymodel.Options{Extra: large}),
	} {
		_, err := l.SpeculativeSampling(open(t, write(t, m)), "a")
		if err == nil || !strings.Contains(err.Error(), "draft model has another vocabulary") {
			t.Errorf("%s: got error %v, want another vocabulary", name, err)
		}
	}
}

// TestSpeculativePaddedVocabulary: models of one family differ by a few tokens
// that nothing uses. A token that only one of them has must do no harm.
func TestSpeculativePaddedVocabulary(t *testing.T) {
	padded := tinymodel.Options{Extra: []string{"pa", "pad"}, Merges: []string{"p a", "pa d"}}
	toPad := func(o tinymodel.Options) *LLama {
		return open(t, write(t, tinymodel.Chain(o, 40, func(token string) string {
			switch {
			case token == "b" && len(o.Extra) > 0:
				return "pad"
			case token == "pad":
				return "c"
			case token == "b":
				return "c"
			case token == "c":
				return "b"
			}
			return "b"
		})), SetContext(256))
	}
	small, large := toPad(tinymodel.Options{}), toPad(padded)
	if got := speculate(t, large, small, "?", SetTokens(5)); got != "bpadcbpad" {
		t.Errorf("target with more tokens: got %q, want bpadcbpad", got)
	}
	if n, _, err := large.TokenizeString("?pad?"); n != 3 || err != nil {
		t.Fatalf("tokens of ?pad?: got %d, %v, want 3", n, err)
	}
	if got := speculate(t, large, small, "?pad?", SetTokens(5)); got != "bpadcbpad" {
		t.Errorf("prompt with a token of the target: got %q, want bpadcbpad", got)
	}
	if got := speculate(t, small, large, "?", SetTokens(5)); got != "bcbcb" {
		t.Errorf("draft with more tokens: got %q, want bcbcb", got)
	}
}

func TestSpeculativeBothWaysAtOnce(t *testing.T) {
	path := write(t, chainModel(letters))
	a, b := open(t, path), open(t, path)
	var wg sync.WaitGroup
	for range 4 {
		for _, pair := range [][2]*LLama{{a, b}, {b, a}, {a, a}} {
			wg.Go(func() {
				if got, err := pair[0].SpeculativeSampling(pair[1], "z", append(likeliestOnly, SetTokens(20))...); err != nil || got != "abcdefghijklmnopqrst" {
					t.Errorf("answer: got %q, %v", got, err)
				}
			})
		}
	}
	wg.Wait()
}

func TestSpeculativeWithoutADraft(t *testing.T) {
	l := random(t)
	freed := random(t)
	freed.Free()
	for name, draft := range map[string]*LLama{"nil": nil, "freed": freed, "zero": {}} {
		if _, err := l.SpeculativeSampling(draft, "a"); err == nil {
			t.Errorf("%s draft model: got no error", name)
		}
	}
	if got := predict(t, l, "a", SetTokens(3)); got != predict(t, l, "a", SetTokens(3)) {
		t.Error("the target does not answer after the errors")
	}
}
