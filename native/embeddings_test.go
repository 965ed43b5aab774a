package llama

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

func TestEmbeddingsLengthAndValue(t *testing.T) {
	// The chain model's hidden state is the norm of the last token's unit vector:
	// √n_embd at the token's id.
	l := chain(t, letters, EnableEmbeddings)
	for _, opts := range [][]PredictOption{nil, {SetTokens(3)}, {SetTokens(0)}} {
		got, err := l.Embeddings("abc", opts...)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 288 || len(got) != l.model.NEmbd() {
			t.Fatalf("embedding: got %d values, want n_embd 288", len(got))
		}
		for i, x := range got {
			want := 0.0
			if i == 'c' {
				want = math.Sqrt(288)
			}
			if math.Abs(float64(x)-want) > 1e-2 {
				t.Errorf("value %d: got %v, want %v", i, x, want)
			}
		}
	}
}

func TestEmbeddingsDependOnTheText(t *testing.T) {
	l := random(t, EnableEmbeddings, SetNBatch(4))
	embed := func(text string) []float32 {
		got, err := l.Embeddings(text)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	a, b := embed("a long text, in pieces"), embed("another text, in pieces")
	if slices.Equal(a, b) {
		t.Error("two texts have one embedding")
	}
	if !slices.Equal(a, embed("a long text, in pieces")) {
		t.Error("one text has two embeddings: something of an earlier call counts")
	}
	// Predict in between neither changes nor is changed.
	want := predict(t, random(t), "hello", SetTokens(20))
	if got := predict(t, l, "hello", SetTokens(20)); got != want {
		t.Errorf("answer of a model with embeddings: got %q, want %q", got, want)
	}
	if !slices.Equal(a, embed("a long text, in pieces")) {
		t.Error("the embedding changed after a prediction")
	}
	if l.memory.c.embeddings {
		t.Error("the context keeps embeddings on after the call, at a price for every prediction")
	}
}

func TestTokenEmbeddings(t *testing.T) {
	for _, bos := range []bool{false, true} {
		l := open(t, write(t, tinymodel.Random(tinymodel.Options{AddBOS: bos})), EnableEmbeddings)
		want, err := l.Embeddings("hello")
		if err != nil {
			t.Fatal(err)
		}
		_, tokens, err := l.TokenizeString("hello")
		if err != nil {
			t.Fatal(err)
		}
		ids := make([]int, len(tokens))
		for i, token := range tokens {
			ids[i] = int(token)
		}
		if bos != (ids[0] == 256) {
			t.Fatalf("tokens of a vocabulary that adds BOS %v: got %v", bos, ids)
		}
		for _, ids := range [][]int{ids, ids[len(ids)-5:]} { // as given, and without BOS
			got, err := l.TokenEmbeddings(ids)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("BOS %v: embedding of tokens %v: got %v (%v), want that of the text", bos, ids, got, err)
			}
		}
	}
}

func TestEmbeddingsErrors(t *testing.T) {
	plain := random(t)
	got, err := plain.Embeddings("a")
	if err == nil || got == nil || len(got) != 0 || !strings.Contains(err.Error(), "without embeddings") {
		t.Errorf("Embeddings of a model without: got %v, %v, want [] and an error", got, err)
	}
	got, err = plain.TokenEmbeddings([]int{1})
	if err == nil || got == nil || len(got) != 0 || !strings.Contains(err.Error(), "without embeddings") {
		t.Errorf("TokenEmbeddings of a model without: got %v, %v, want [] and an error", got, err)
	}
	l := random(t, EnableEmbeddings)
	for _, tokens := range [][]int{{}, {-1}, {259}, {1, 2, math.MaxInt}, make([]int, 257)} {
		if got, err := l.TokenEmbeddings(tokens); err == nil {
			t.Errorf("embedding of %d tokens %.3v: got %d values, want an error", len(tokens), tokens, len(got))
		}
	}
	for _, text := range []string{"", strings.Repeat("a", 257)} {
		if got, err := l.Embeddings(text); err == nil {
			t.Errorf("embedding of %d letters: got %d values, want an error", len(text), len(got))
		}
	}
	if _, err := l.Embeddings(strings.Repeat("a", 256)); err != nil {
		t.Errorf("embedding of as many tokens as the context has: %v", err)
	}
}

func TestTokenizeString(t *testing.T) {
	l := random(t, SetContext(256))
	for _, test := range []struct {
		text string
		opts []PredictOption
		n    int32
		want int // tokens returned
	}{
		{"hello", nil, 5, 5},
		{"", nil, 0, 0},
		{"hello", []PredictOption{SetTokens(2)}, 5, 2},
		{strings.Repeat("a", 200), nil, 200, 128}, // Tokens is 128 by default
		{strings.Repeat("a", 200), []PredictOption{SetTokens(0)}, 200, 200},
		{strings.Repeat("a", 256), []PredictOption{SetTokens(0)}, 256, 256},
		{tinymodel.Start + "user\n", nil, 6, 6},
	} {
		n, tokens, err := l.TokenizeString(test.text, test.opts...)
		if err != nil || n != test.n || len(tokens) != test.want {
			t.Errorf("%.20q: got %d, %d tokens, %v, want %d, %d tokens", test.text, n, len(tokens), err, test.n, test.want)
		}
	}
	if _, tokens, _ := l.TokenizeString(tinymodel.Start + "hi"); !slices.Equal(tokens, []int32{257, 'h', 'i'}) {
		t.Errorf("tokens: got %v, want 257 and two letters", tokens)
	}
	// More tokens than the context: the number is negative, and there are none.
	n, tokens, err := l.TokenizeString(strings.Repeat("a", 300), SetTokens(1000))
	if err == nil || n != -300 || tokens == nil || len(tokens) != 0 {
		t.Errorf("300 tokens for a context of 256: got %d, %v, %v, want -300, [] and an error", n, tokens, err)
	}
}

func TestEval(t *testing.T) {
	l := random(t)
	if err := l.Eval("hello"); err != nil || len(l.memory.tokens) != 5 {
		t.Errorf("eval: got error %v and %d tokens in memory, want 5", err, len(l.memory.tokens))
	}
	for _, text := range []string{"", strings.Repeat("a", 257)} {
		if err := l.Eval(text); err == nil {
			t.Errorf("eval of %d letters: got no error", len(text))
		}
	}
	if err := l.Eval("a", SetPredictionMainGPU("x")); err == nil {
		t.Error("eval with an unreadable GPU: got no error")
	}
}
