package llama

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// Helpers of the tests of the typed calls.

// tinyModel writes and loads a model with pseudo-random weights.
func tinyModel(t *testing.T, o tinymodel.Options) *Model {
	t.Helper()
	return loadTiny(t, tinymodel.Random(o))
}

func loadTiny(t *testing.T, m *tinymodel.Model) *Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	lm, err := LoadModel(path, DefaultModelParams())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lm.Close() })
	return lm
}

// tinyContext makes a context of 256 positions and one thread; change may alter it.
func tinyContext(t *testing.T, m *Model, change func(*ContextParams)) *ModelContext {
	t.Helper()
	p := DefaultContextParams()
	p.NCtx, p.NBatch, p.NUBatch, p.Threads = 256, 64, 64, 1
	if change != nil {
		change(&p)
	}
	c, err := m.NewContext(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustTokens(t *testing.T, m *Model, text string) []Token {
	t.Helper()
	tokens, err := m.Tokenize(text, true, true)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// lastLogits returns a copy of the logits after tokens at position 0 of sequence seq.
func lastLogits(t *testing.T, c *ModelContext, tokens []Token, seq int32) []float32 {
	t.Helper()
	if _, err := c.SeqRemove(seq, -1, -1); err != nil {
		t.Fatal(err)
	}
	if err := c.DecodeTokens(tokens, seq, 0, LogitsLast); err != nil {
		t.Fatal(err)
	}
	l, err := c.Logits(-1)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), l...)
}

// near fails unless got and want differ by no more than tol anywhere.
func near(t *testing.T, what string, got, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, 0
	for i := range got {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s: value %d: got %v, want %v", what, at, got[at], want[at])
	}
}

func far(t *testing.T, what string, a, b []float32) {
	t.Helper()
	for i := range a {
		if math.Abs(float64(a[i])-float64(b[i])) > 1e-2 {
			return
		}
	}
	t.Errorf("%s: they are equal", what)
}

func argmax(x []float32) Token {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return Token(best)
}

func catch(f func()) (got any) {
	defer func() { got = recover() }()
	f()
	return nil
}

func sprint(args ...any) string { return fmt.Sprint(args...) }
