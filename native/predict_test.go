package llama

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

var letters = strings.Split("abcdefghijklmnopqrstuvwxyz", "")

func TestPredictContinues(t *testing.T) {
	l := chain(t, letters)
	if got := predict(t, l, "x", SetTokens(5)); got != "yzabc" {
		t.Errorf("answer: got %q, want %q", got, "yzabc")
	}
}

func TestPredictStartsAtZeroEachTime(t *testing.T) {
	l := random(t)
	first := predict(t, l, "once upon a time", SetTokens(40))
	if got := predict(t, l, "something else", SetTokens(40)); got == first {
		t.Errorf("answers to two prompts are the same: %q", got)
	}
	if got := predict(t, l, "once upon a time", SetTokens(40)); got != first {
		t.Errorf("second answer to one prompt: got %q, want %q", got, first)
	}
}

func TestPredictEndsAtEndToken(t *testing.T) {
	l := chain(t, []string{"a", "b", tinymodel.End})
	var pieces []string
	got := predict(t, l, "?", SetTokens(50), SetTokenCallback(func(s string) bool {
		pieces = append(pieces, s)
		return true
	}))
	if want := "ab"; got != want {
		t.Errorf("answer: got %q, want %q", got, want)
	}
	if want := `["a" "b" ""]`; fmt.Sprintf("%q", pieces) != want {
		t.Errorf("tokens seen by the callback: got %q, want %s", pieces, want)
	}
}

func TestPredictIgnoreEOS(t *testing.T) {
	l := chain(t, []string{"a", tinymodel.End})
	if got := predict(t, l, "?", SetTokens(6)); got != "a" {
		t.Errorf("answer: got %q, want %q", got, "a")
	}
	var seen int
	got := predict(t, l, "?", SetTokens(6), IgnoreEOS, SetTokenCallback(func(string) bool { seen++; return true }))
	if seen != 6 {
		t.Errorf("tokens of the answer %q that ignores EOS: got %d, want 6", got, seen)
	}
}

func TestPredictTokensZeroIsNoLimit(t *testing.T) {
	l := chain(t, append(strings.Split("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", ""), tinymodel.End))
	for _, n := range []int{0, -1} {
		if got := predict(t, l, "?", SetTokens(n)); len(got) != 62 {
			t.Errorf("tokens %d: got answer %q of %d letters, want 62", n, got, len(got))
		}
	}
}

func TestPredictCutsLongPromptIntoBatches(t *testing.T) {
	text := strings.Repeat("a long prompt ", 12)
	want := predict(t, random(t, SetNBatch(512)), text, SetTokens(20))
	for _, n := range []int{1, 7, 64} {
		// SetBatch larger than the context's batch must not get through.
		if got := predict(t, random(t, SetNBatch(n)), text, SetTokens(20), SetBatch(512)); got != want {
			t.Errorf("answer with batches of %d: got %q, want %q", n, got, want)
		}
	}
}

func TestPredictRunsPastTheContext(t *testing.T) {
	l := chain(t, letters, SetContext(256))
	for _, keep := range []int{-1, 0, 5, 10000} {
		got := predict(t, l, strings.Repeat("a", 100)+"z", SetTokens(700), SetNKeep(keep))
		if want := strings.Repeat(strings.Join(letters, ""), 27)[:700]; got != want {
			t.Errorf("answer of 700 tokens with NKeep %d: got %d letters %q, want %d", keep, len(got), got, len(want))
		}
		if n := len(l.memory.tokens); n > l.memory.c.NCtx() || n < 100 {
			t.Errorf("tokens in memory: got %d, want 100 to %d", n, l.memory.c.NCtx())
		}
	}
}

func TestContextShiftKeepsTheFirstTokens(t *testing.T) {
	l := chain(t, letters, SetContext(256))
	prompt := strings.Repeat("Q", 20) + strings.Repeat("R", 80)
	predict(t, l, prompt, SetTokens(200), SetNKeep(20))
	text, err := l.model.Detokenize(l.memory.tokens, false, true)
	if err != nil {
		t.Fatal(err)
	}
	// 256 are full when token 157 of the answer comes: 236/2 of the tokens
	// behind the first 20 go, among them all R.
	if want := strings.Repeat("Q", 20); !strings.HasPrefix(text, want) || strings.Contains(text, "R") {
		t.Errorf("memory after a shift: got %q, want %q and then the newer half", text, want)
	}
	if want := 20 + 118 + 199 - 156; len(l.memory.tokens) != want {
		t.Errorf("tokens in memory: got %d, want %d", len(l.memory.tokens), want)
	}
	last, err := l.memory.c.SeqPosMax(0)
	if err != nil || int(last) != len(l.memory.tokens)-1 {
		t.Errorf("last position: got %d (%v), want %d", last, err, len(l.memory.tokens)-1)
	}
}

func TestPredictPromptTooLong(t *testing.T) {
	l := chain(t, letters, SetContext(256))
	if got := predict(t, l, strings.Repeat("a", 252), SetTokens(8)); got != "bcdefghi" {
		t.Errorf("answer to a prompt of n_ctx-4: got %q, want %q", got, "bcdefghi")
	}
	_, err := l.Predict(strings.Repeat("a", 253))
	if err == nil || !strings.Contains(err.Error(), "prompt too long: got 253 tokens, want at most 252") {
		t.Errorf("prompt of n_ctx-3: got error %v, want prompt too long", err)
	}
}

func TestPredictStopWords(t *testing.T) {
	l := chain(t, letters)
	for _, test := range []struct {
		stops []string
		want  string
	}{
		{[]string{"d"}, "abc"},
		{[]string{"def"}, "abc"},
		{[]string{"xyz", "fg", "efgh"}, "abcde"}, // fg is complete before efgh
		{[]string{"ghi", "hi"}, "abcdef"},        // both end with i: the earlier one cuts
		{[]string{"a"}, ""},
		{[]string{"ba", ""}, "abcdefghijklmnopqrst"}, // never comes; "" is no stop word
	} {
		if got := predict(t, l, "z", SetTokens(20), SetStopWords(test.stops...)); got != test.want {
			t.Errorf("stop words %q: got %q, want %q", test.stops, got, test.want)
		}
	}
}

func TestPredictStopWordOfItsOwnLetters(t *testing.T) {
	l := chain(t, []string{"o", "t", "s", "-", "+"})
	// The original trimmed all letters of the stop word off the end.
	if got := predict(t, l, "?", SetTokens(20), SetStopWords("-+")); got != "ots" {
		t.Errorf("answer: got %q, want %q", got, "ots")
	}
	if got := predict(t, l, "?", SetTokens(20), SetStopWords("s-s", "s-")); got != "ot" {
		t.Errorf("answer: got %q, want %q", got, "ot")
	}
}

func TestPredictStopWordOfSeveralBytesPerToken(t *testing.T) {
	o := tinymodel.Options{Extra: []string{"hello", " wor", "ld!"}}
	cycle := []string{"hello", " wor", "ld!"}
	m := tinymodel.Chain(o, 40, func(token string) string {
		for i, c := range cycle {
			if c == token {
				return cycle[(i+1)%3]
			}
		}
		return cycle[0]
	})
	l := open(t, write(t, m))
	if got := predict(t, l, "?", SetTokens(9), SetStopWords("world")); got != "hello " {
		t.Errorf("answer: got %q, want %q", got, "hello ")
	}
}

func TestPredictTrimsOneLeadingNewline(t *testing.T) {
	l := open(t, write(t, tinymodel.Chain(tinymodel.Options{Extra: []string{"\n\n"}}, 40, func(token string) string {
		switch token {
		case "1":
			return "\n"
		case "\n", "\n\n":
			return "x"
		case "2":
			return "\n\n"
		default:
			return tinymodel.End
		}
	})))
	for prompt, want := range map[string]string{"1": "x", "2": "\nx"} {
		if got := predict(t, l, prompt); got != want {
			t.Errorf("answer to %q: got %q, want %q", prompt, got, want)
		}
	}
}

func TestPredictParsesSpecialTokens(t *testing.T) {
	l := chain(t, letters)
	predict(t, l, tinymodel.Start+"user", SetTokens(1))
	if got, want := l.memory.tokens[0], Token(257); got != want || len(l.memory.tokens) != 5 {
		t.Errorf("prompt in memory: got %v, want %d and four letters", l.memory.tokens, want)
	}
}

func TestPredictEmptyPromptIsBOS(t *testing.T) {
	l := chain(t, letters)
	if got := predict(t, l, "", SetTokens(3)); got != "abc" {
		t.Errorf("answer: got %q, want %q", got, "abc")
	}
	if got := l.memory.tokens[0]; got != 256 {
		t.Errorf("first token: got %d, want BOS 256", got)
	}
}

func TestPredictChecksOptionsWithoutEffect(t *testing.T) {
	l := chain(t, letters)
	for _, opt := range []PredictOption{SetPredictionMainGPU("one"), SetPredictionTensorSplit("1,x")} {
		if _, err := l.Predict("a", opt); err == nil {
			t.Error("unreadable GPU option: got no error")
		}
	}
	if got := predict(t, l, "z", SetTokens(2), SetPredictionMainGPU("0"), SetPredictionTensorSplit("1/2"), EnableF16KV, SetMlock(true), SetMemoryMap(false),
		SetRopeFreqBase(123), SetRopeFreqScale(2), SetTailFreeSamplingZ(0.1), SetBatch(1), Debug); got != "ab" {
		t.Errorf("answer with options without effect: got %q, want ab", got)
	}
}
