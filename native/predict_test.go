package llama

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
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

func TestPredictLogitBias(t *testing.T) {
	l := chain(t, letters)
	for _, test := range []struct {
		bias, want string
	}{
		{"", "bcd"},
		{fmt.Sprintf("%d+100", 'q'), "qqq"},
		{fmt.Sprintf("%d-inf", 'c'), "b"}, // then the likeliest of equals, whichever
		{fmt.Sprintf(" %d + 100 ", 'q'), "qqq"},
	} {
		if got := predict(t, l, "a", SetTokens(3), SetLogitBias(test.bias)); !strings.HasPrefix(got, test.want) || strings.Contains(got, "c") != strings.Contains(test.want, "c") {
			t.Errorf("bias %q: got %q, want %q", test.bias, got, test.want)
		}
	}
	for _, bias := range []string{"x", "5", "5*2", "+1", "5+", "5+x", "-5+1", "5+nan", "5+inf", "5+-1", "5-+1", "999999+1", "99999999999+1"} {
		if got, err := l.Predict("a", SetLogitBias(bias)); err == nil || !strings.Contains(err.Error(), "logit bias") {
			t.Errorf("bias %q: got %q and error %v, want an error", bias, got, err)
		}
	}
}

func TestParseLogitBias(t *testing.T) {
	for s, want := range map[string]map[Token]float32{
		"":         nil,
		"15+1":     {15: 1},
		"15-2.5":   {15: -2.5},
		" 7 +1e2":  {7: 100},
		"0-inf":    {0: float32(math.Inf(-1))},
		"31999+.5": {31999: 0.5},
	} {
		got, err := parseLogitBias(s)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("parseLogitBias(%q): got %v, %v, want %v", s, got, err, want)
		}
	}
}

func TestPredictGrammar(t *testing.T) {
	l := random(t)
	// The random model would never say this by itself, and ends only because the
	// grammar does.
	if got := predict(t, l, "yes or no?", WithGrammar(`root ::= "yes" | "no"`)); got != "yes" && got != "no" {
		t.Errorf("answer: got %q, want yes or no", got)
	}
	got := predict(t, l, "yes", WithGrammar(`root ::= [0-9] [0-9] [0-9] "-" [x-z]+`), SetTokens(12))
	if len(got) < 5 || got[3] != '-' || strings.Trim(got[:3], "0123456789") != "" || strings.Trim(got[4:], "xyz") != "" {
		t.Errorf("answer: got %q, want the shape 123-xyz", got)
	}
	for _, bad := range []string{`root ::= "yes`, `other ::= "x"`, "("} {
		if got, err := l.Predict("a", WithGrammar(bad)); err == nil || !strings.Contains(err.Error(), "grammar") {
			t.Errorf("grammar %q: got %q and error %v, want an error", bad, got, err)
		}
	}
}

func TestPredictSeed(t *testing.T) {
	l := random(t)
	run := func(seed int) string {
		got, err := l.Predict("hello", SetSeed(seed), SetTemperature(2), SetTopK(0), SetTopP(1), SetTokens(30), IgnoreEOS)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if a, b := run(1), run(1); a != b {
		t.Errorf("seed 1 twice: got %q and %q, want the same", a, b)
	}
	if a, b := run(1), run(2); a == b {
		t.Errorf("seeds 1 and 2: both gave %q", a)
	}
	if a, b := run(-1), run(-1); a == b {
		t.Errorf("random seed twice: both gave %q", a)
	}
}

func TestPredictMirostat(t *testing.T) {
	l := random(t)
	answers := map[string]bool{}
	for _, version := range []int{0, 1, 2} {
		opts := []PredictOption{SetSeed(7), SetTemperature(1.5), SetTopK(0), SetTopP(1), SetTokens(40), IgnoreEOS, SetMirostat(version), SetMirostatTAU(2), SetMirostatETA(0.5)}
		a, err := l.Predict("hello", opts...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Predict("hello", opts...)
		if err != nil || a != b { // mirostat's state belongs to the call
			t.Errorf("mirostat %d twice: got %q and %q (%v), want the same", version, a, b, err)
		}
		answers[a] = true
	}
	if len(answers) != 3 {
		t.Errorf("mirostat 0, 1 and 2: got %d different answers, want 3", len(answers))
	}
	if got, want := predict(t, l, "hello", SetMirostat(2), SetTokens(10)), predict(t, l, "hello", SetTokens(10)); got != want {
		t.Errorf("mirostat at temperature 0: got %q, want the greedy %q", got, want)
	}
	if _, err := l.Predict("hello", SetMirostat(3)); err == nil {
		t.Error("mirostat 3: got no error")
	}
}

func TestPredictPenalties(t *testing.T) {
	// a is followed by a, hard to leave; the penalties must get it away.
	l := open(t, write(t, tinymodel.Chain(tinymodel.Options{}, 5, func(token string) string { return token })))
	if got := predict(t, l, "a", SetTokens(4)); got != "aaaa" {
		t.Errorf("without penalties: got %q, want aaaa", got)
	}
	for name, opt := range map[string]PredictOption{
		"presence":  SetPresencePenalty(6),
		"frequency": SetFrequencyPenalty(6),
	} {
		if got := predict(t, l, "a", SetTokens(4), opt, SetRepeat(64)); strings.HasPrefix(got, "a") {
			t.Errorf("%s penalty: got %q, want another letter at once: the prompt counts", name, got)
		}
		if got := predict(t, l, "a", SetTokens(4), opt, SetRepeat(0)); got != "aaaa" {
			t.Errorf("%s penalty over 0 tokens: got %q, want aaaa", name, got)
		}
		if got := predict(t, l, "a", SetTokens(4), opt, SetRepeat(-1)); strings.HasPrefix(got, "a") {
			t.Errorf("%s penalty over the context: got %q, want another letter", name, got)
		}
	}
	if got := predict(t, l, "a", SetTokens(4), SetPenalty(0)); got != "aaaa" {
		t.Errorf("penalty 0: got %q, want aaaa", got)
	}
}

func TestPredictPenalizeNL(t *testing.T) {
	l := open(t, write(t, tinymodel.Chain(tinymodel.Options{}, 5, func(token string) string { return token })))
	if got := predict(t, l, "\n", SetTokens(4), SetPresencePenalty(6)); got != "\n\n\n" {
		t.Errorf("newlines are exempt by default: got %q, want three of four (one is trimmed)", got)
	}
	if got := predict(t, l, "\n", SetTokens(4), SetPresencePenalty(6), SetPenalizeNL(true)); strings.Contains(got, "\n") {
		t.Errorf("newlines are penalized: got %q, want none", got)
	}
}

func TestPredictNegativePrompt(t *testing.T) {
	l := random(t)
	plain := predict(t, l, "a nice day", SetTokens(30))
	for _, test := range []struct {
		name string
		opts []PredictOption
		same bool
	}{
		{"scale 0", []PredictOption{SetNegativePrompt("rain")}, true},
		{"scale 1", []PredictOption{SetNegativePrompt("rain"), SetNegativePromptScale(1)}, true},
		{"no negative prompt", []PredictOption{SetNegativePromptScale(3)}, true},
		{"the prompt itself", []PredictOption{SetNegativePrompt("a nice day"), SetNegativePromptScale(3)}, true},
		{"scale 3", []PredictOption{SetNegativePrompt("rain"), SetNegativePromptScale(3)}, false},
	} {
		if got := predict(t, l, "a nice day", append(test.opts, SetTokens(30))...); (got == plain) != test.same {
			t.Errorf("%s: got %q, plain %q, want same %v", test.name, got, plain, test.same)
		}
	}
	_, err := l.Predict("a", SetNegativePrompt(strings.Repeat("x", 300)), SetNegativePromptScale(2))
	if err == nil || !strings.Contains(err.Error(), "negative prompt too long: got 300 tokens") {
		t.Errorf("long negative prompt: got error %v, want negative prompt too long", err)
	}
	if got := predict(t, chain(t, letters), "z", SetNegativePrompt("k"), SetNegativePromptScale(2), SetTokens(600)); len(got) != 600 {
		t.Errorf("guided answer past the context: got %d letters, want 600", len(got))
	}
}

func TestSteer(t *testing.T) {
	// Two tokens: p = (0.8, 0.2) and n = (0.5, 0.5) give n·(p/n)^s = 1.6^s : 0.4^s.
	logits := []float32{float32(math.Log(0.8)) + 3, float32(math.Log(0.2)) + 3} // any offset
	negative := []float32{7, 7}
	got := steer(nil, logits, negative, 2)
	if diff, want := float64(got[0]-got[1]), 2*math.Log(1.6/0.4); math.Abs(diff-want) > 1e-5 {
		t.Errorf("difference of the steered logits: got %v, want %v", diff, want)
	}
}

func TestTokenCallbackStops(t *testing.T) {
	l := chain(t, letters)
	var seen string
	got := predict(t, l, "z", SetTokens(20), SetTokenCallback(func(s string) bool {
		seen += s
		return s != "d"
	}))
	if got != "abc" || seen != "abcd" {
		t.Errorf("answer %q after the callback saw %q, want abc after abcd", got, seen)
	}
}

func TestTokenCallbackOfTheMethod(t *testing.T) {
	l := chain(t, letters)
	var method, option string
	l.SetTokenCallback(func(s string) bool { method += s; return true })
	predict(t, l, "z", SetTokens(3))
	if method != "abc" {
		t.Errorf("callback of the method saw %q, want abc", method)
	}
	predict(t, l, "z", SetTokens(3), SetTokenCallback(func(s string) bool { option += s; return true }))
	if method != "abc" || option != "abc" {
		t.Errorf("callback of the option saw %q, of the method %q, want abc and abc", option, method)
	}
	predict(t, l, "z", SetTokens(3)) // the option's call left none
	if method != "abc" || option != "abc" {
		t.Errorf("callbacks after a call with one: saw %q and %q, want no more", method, option)
	}
	l.SetTokenCallback(func(s string) bool { method += s; return true })
	l.SetTokenCallback(nil)
	predict(t, l, "z", SetTokens(3))
	if method != "abc" {
		t.Errorf("removed callback saw %q", method)
	}
}

func TestSetTokenCallbackDuringARun(t *testing.T) {
	l := chain(t, letters)
	var first, second string
	done := make(chan struct{})
	predict(t, l, "z", SetTokens(26), SetTokenCallback(func(s string) bool {
		first += s
		if s == "c" { // from the callback, and from another goroutine
			go func() {
				l.SetTokenCallback(func(s string) bool { second += s; return s != "g" })
				close(done)
			}()
			<-done
		}
		return true
	}))
	if first != "abc" || second != "defg" {
		t.Errorf("callbacks saw %q and %q, want abc and defg", first, second)
	}
}

func TestTokenCallbackMayTokenize(t *testing.T) {
	l := chain(t, letters)
	var n int32
	predict(t, l, "z", SetTokens(2), SetTokenCallback(func(string) bool {
		n, _, _ = l.TokenizeString("hello")
		return true
	}))
	if n != 5 {
		t.Errorf("tokens counted in a callback: got %d, want 5", n)
	}
}

func TestTokenCallbackMayFree(t *testing.T) {
	l := chain(t, letters)
	_, err := l.Predict("z", SetTokenCallback(func(string) bool { l.Free(); return true }))
	if !errors.Is(err, ErrClosed) {
		t.Errorf("predict whose callback freed the model: got error %v, want %v", err, ErrClosed)
	}
}

func TestTokenCallbackPanicLeavesTheModelUsable(t *testing.T) {
	l := chain(t, letters)
	func() {
		defer func() {
			if r := recover(); r != "stop" {
				t.Errorf("recovered %v, want the callback's panic", r)
			}
		}()
		predict(t, l, "z", SetTokenCallback(func(string) bool { panic("stop") }))
	}()
	if got := predict(t, l, "z", SetTokens(2)); got != "ab" {
		t.Errorf("answer after the panic: got %q, want ab", got)
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

func TestDebugLogs(t *testing.T) {
	l := chain(t, letters)
	var out bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	predict(t, l, "xyz", SetTokens(2))
	if out.Len() != 0 {
		t.Errorf("log without Debug: got %q, want nothing", out.String())
	}
	predict(t, l, "xyz", SetTokens(2), Debug, SetPathPromptCache(filepath.Join(t.TempDir(), "cache")))
	speculate(t, l, l, "xyz", SetTokens(2), Debug)
	for _, want := range []string{"llama: no prompt cache yet", "llama: prompt\" tokens=3 reused=0", "llama: saved prompt cache", "llama: answer\" tokens=2 prompt_tokens=3", "llama: draft\" proposed="} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log with Debug: got %q, want %q in it", out.String(), want)
		}
	}
}
