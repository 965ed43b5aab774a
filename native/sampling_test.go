package llama

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

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
