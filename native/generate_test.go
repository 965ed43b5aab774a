package llama

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// reciting is a model that says text over and over, byte by byte; behind its last
// byte comes end, or its first byte again if end is "".
func reciting(t *testing.T, text, end string) *Model {
	t.Helper()
	next := map[string]string{}
	for i := range len(text) {
		next[text[i:i+1]] = text[(i+1)%len(text) : (i+1)%len(text)+1]
	}
	if end != "" {
		next[text[len(text)-1:]] = end
	}
	return loadTiny(t, tinymodel.Chain(tinymodel.Options{}, 20, func(token string) string {
		if n, ok := next[token]; ok {
			return n
		}
		return text[:1]
	}))
}

func generate(t *testing.T, m *Model, prompt string, o GenerateOptions) (GenerateResult, []string) {
	t.Helper()
	var pieces []string
	emit := o.OnPiece
	o.OnPiece = func(p string) bool {
		pieces = append(pieces, p)
		return emit == nil || emit(p)
	}
	res, err := tinyContext(t, m, nil).Generate(context.Background(), mustTokens(t, m, prompt), sampler(t, m, greedy()), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(pieces, ""); got != res.Text {
		t.Errorf("pieces: got %q, want the text %q", got, res.Text)
	}
	return res, pieces
}

func TestGenerateToTheEnd(t *testing.T) {
	m := reciting(t, "Snow?", "<|im_end|>")
	res, _ := generate(t, m, "S", GenerateOptions{})
	if res.Text != "now?" || res.Reason != ReasonEOG || res.PromptTokens != 1 || len(res.Tokens) != 5 {
		t.Errorf("got %+v", res)
	}
	if res.FirstToken <= 0 || res.PromptTime <= 0 || res.FirstToken < res.PromptTime {
		t.Errorf("times: got %+v", res)
	}
}

func TestGenerateLimits(t *testing.T) {
	m := reciting(t, "abcd", "")
	if res, _ := generate(t, m, "a", GenerateOptions{MaxTokens: 6}); res.Text != "bcdabc" || res.Reason != ReasonLength {
		t.Errorf("max tokens: got %+v", res)
	}
	if res, _ := generate(t, m, "a", GenerateOptions{}); len(res.Tokens) != 256 || res.Reason != ReasonLength {
		t.Errorf("full context: got %d tokens, %s", len(res.Tokens), res.Reason)
	}
	n := 0
	res, _ := generate(t, m, "a", GenerateOptions{OnPiece: func(string) bool { n++; return n < 3 }})
	if res.Text != "bcd" || res.Reason != ReasonCallback {
		t.Errorf("callback: got %+v", res)
	}
}

func TestGenerateStops(t *testing.T) {
	m := reciting(t, "abcdef", "")
	res, pieces := generate(t, m, "a", GenerateOptions{Stops: []string{"zz", "def"}, MaxTokens: 50})
	if res.Text != "bc" || res.Reason != ReasonStop || !slices.Equal(pieces, []string{"b", "c"}) {
		t.Errorf("got %+v in pieces %q", res, pieces)
	}
	// What could have become a stop text comes out when it does not.
	if res, _ := generate(t, m, "a", GenerateOptions{Stops: []string{"bcx"}, MaxTokens: 4}); res.Text != "bcde" {
		t.Errorf("no stop: got %q", res.Text)
	}
	if res, _ := generate(t, m, "a", GenerateOptions{Stops: []string{"efaX"}, MaxTokens: 5}); res.Text != "bcdef" || res.Reason != ReasonLength {
		t.Errorf("held back at the end: got %+v", res)
	}
}

func TestPiecesStop(t *testing.T) {
	const answer = "ab<b<bx."
	for _, test := range []struct {
		stops []string
		want  string
	}{
		{[]string{"<bx"}, "ab<b"},
		{[]string{"zzz", "<b<bx"}, "ab"},
		{[]string{"bx", "<bx"}, "ab<b"}, // the one that begins first
		{[]string{"", "x"}, "ab<b<b"},
		{[]string{"b"}, "a"},
		{[]string{"a"}, ""},
		{[]string{"<b<b<"}, answer},
	} {
		for size := 1; size <= len(answer); size++ {
			var sent string
			reason := ""
			p := newPieces(test.stops, func(s string) bool { sent += s; return true })
			for i := 0; i < len(answer) && reason == ""; i += size {
				reason = p.add([]byte(answer[i:min(i+size, len(answer))]))
			}
			p.flush(&GenerateResult{Reason: reason})
			if p.text() != test.want || sent != test.want || (reason == ReasonStop) != (test.want != answer) {
				t.Errorf("stops %q, %d bytes at a time: got %q, sent %q, %s, want %q", test.stops, size, p.text(), sent, reason, test.want)
			}
		}
	}
}

func TestPiecesAreWholeCharacters(t *testing.T) {
	var got []string
	p := newPieces([]string{"끝"}, func(s string) bool { got = append(got, s); return true })
	const text = "a백🍎b"
	for i := range len(text) {
		if r := p.add([]byte{text[i]}); r != "" {
			t.Fatalf("ended by %s", r)
		}
	}
	if want := []string{"a", "백", "🍎", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, b := range []byte("끝") {
		if r := p.add([]byte{b}); (r == ReasonStop) != (i == 2) {
			t.Errorf("byte %d of the stop text: got %q", i, r)
		}
	}
	if p.text() != text {
		t.Errorf("got %q", p.text())
	}
	got = nil
	p = newPieces(nil, func(s string) bool { got = append(got, s); return true })
	for _, b := range []byte{0xff, 0xec, 'x', 0xec} { // no characters at all: passed on, in time
		p.add([]byte{b})
	}
	p.flush(&GenerateResult{})
	if strings.Join(got, "") != "\xff\xecx\xec" {
		t.Errorf("bytes that are no UTF-8: got %q", got)
	}
}

func TestGenerateGoesOn(t *testing.T) {
	m := reciting(t, "abcdefgh", "")
	c := tinyContext(t, m, nil)
	s := sampler(t, m, greedy())
	first, err := c.Generate(context.Background(), mustTokens(t, m, "a"), s, GenerateOptions{MaxTokens: 3})
	if err != nil || first.Text != "bcd" {
		t.Fatalf("got %+v, %v", first, err)
	}
	pos, err := c.SeqPosMax(0)
	if err != nil || pos != 2 { // a b c; d is sampled and not decoded
		t.Fatalf("position: got %d, %v", pos, err)
	}
	second, err := c.Generate(context.Background(), []Token{first.Tokens[2]}, s, GenerateOptions{Pos: pos + 1, MaxTokens: 2})
	if err != nil || second.Text != "ef" {
		t.Errorf("got %+v, %v", second, err)
	}
}

func TestGenerateErrors(t *testing.T) {
	m := reciting(t, "ab", "")
	c := tinyContext(t, m, nil)
	s := sampler(t, m, greedy())
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	res, err := c.Generate(ctx, mustTokens(t, m, "a"), s, GenerateOptions{OnPiece: func(string) bool {
		if n++; n == 4 {
			cancel()
		}
		return true
	}})
	if !errors.Is(err, context.Canceled) || res.Text != "baba" {
		t.Errorf("cancelled: got %q, %v", res.Text, err)
	}
	if _, err := c.Generate(context.Background(), nil, s, GenerateOptions{}); err == nil {
		t.Error("no prompt: no error")
	}
	if _, err := c.Generate(context.Background(), []Token{1}, nil, GenerateOptions{Pos: 5}); err == nil {
		t.Error("no sampler: no error")
	}
}

// BenchmarkPiece is what a token costs between its choice and the callback: its bytes, stop texts, whole characters. To
// compare with the milliseconds of a token's computation.
func BenchmarkPiece(b *testing.B) {
	n := 0
	p := newPieces([]string{"<|im_end|>", "\n\nUser:"}, func(piece string) bool { n += len(piece); return true })
	pieces := [][]byte{[]byte(" the"), []byte("\xeb\xb0"), []byte("\xb1"), []byte("<"), []byte("b")}
	for i := 0; b.Loop(); i++ {
		if i%512 == 0 {
			p.buf, p.sent = p.buf[:0], 0
		}
		p.add(pieces[i%len(pieces)])
	}
	if n == 0 {
		b.Fatal("got no piece")
	}
}
