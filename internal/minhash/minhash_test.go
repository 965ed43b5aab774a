package minhash

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// words makes a text of n words by a seed.
func words(rng *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		for range 2 + rng.IntN(3) {
			out[i] += string(rune('가' + rng.IntN(11172)))
		}
	}
	return out
}

// exact is the Jaccard similarity that sketches estimate.
func exact(a, b string) float64 {
	set := func(s string) map[string]bool {
		r, out := []rune(strings.ReplaceAll(s, " ", "")), map[string]bool{}
		for i := 0; i+gram <= len(r); i++ {
			out[string(r[i:i+gram])] = true
		}
		return out
	}
	x, y, both := set(a), set(b), 0
	for s := range x {
		if y[s] {
			both++
		}
	}
	return float64(both) / float64(len(x)+len(y)-both)
}

func TestSimilarityIsJaccard(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	worst, sum := 0.0, 0.0
	const pairs = 200
	for i := range pairs {
		a := words(rng, 20+i*2)
		b := append([]string{}, a...)
		for range i % 20 {
			b[rng.IntN(len(b))] = words(rng, 1)[0]
		}
		x, y := strings.Join(a, " "), strings.Join(b, " ")
		d := Similarity(Of(x), Of(y)) - exact(x, y)
		worst, sum = max(worst, math.Abs(d)), sum+d
	}
	if worst > 0.16 || math.Abs(sum/pairs) > 0.01 {
		t.Errorf("got error %v at most and %v in the mean, want under 0.16 (5 standard errors) and 0.01", worst, sum/pairs)
	}
}

func TestAdd(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := New(0.8)
	for i := range 500 {
		text := words(rng, 60)
		key := fmt.Sprint(i)
		if of, ok := x.Add(key, strings.Join(text, " ")); !ok || of != "" {
			t.Fatalf("text %d: got duplicate of %q, want a new one", i, of)
		}
		text[7] = "바뀐말"
		if of, ok := x.Add(key+"'", strings.Join(text, "!  ")); ok || of != key {
			t.Fatalf("text %d with one other word: got %q, %v, want a duplicate of it", i, of, ok)
		}
		for j := range 40 {
			text[j] = words(rng, 1)[0]
		}
		if of, ok := x.Add(key+"\"", strings.Join(text, " ")); !ok {
			t.Fatalf("text %d with two thirds of other words: got duplicate of %q, want a new one", i, of)
		}
	}
	if x.Len() != 1000 {
		t.Errorf("got %d texts, want 1000", x.Len())
	}
}

func TestShortTexts(t *testing.T) {
	x := New(1)
	for _, c := range []struct {
		text string
		want string
		ok   bool
	}{
		{"", "", true}, {"…!", "", true}, {"", "", true}, {"네", "", true}, {"네!", "네", false}, {"아니요", "", true}, {"Snow White", "", true},
		{"snow  white.", "Snow White", false}, {"가나다라마바사", "", true}, {"가나다라마바", "", true},
	} {
		if of, ok := x.Add(c.text, c.text); ok != c.ok || of != c.want {
			t.Errorf("%q: got %q, %v, want %q, %v", c.text, of, ok, c.want, c.ok)
		}
	}
}

func TestThresholds(t *testing.T) {
	for _, bad := range []float64{0, -1, 1.01, math.NaN()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("threshold %v: got no panic", bad)
				}
			}()
			New(bad)
		}()
	}
	for threshold, rows := range map[float64]int{1: 8, 0.9: 8, 0.8: 4, 0.5: 2, 0.1: 1} {
		if got := New(threshold).rows; got != rows {
			t.Errorf("threshold %v: got bands of %d rows, want %d", threshold, got, rows)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	text := strings.Join(words(rand.New(rand.NewPCG(5, 6)), 300), " ")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Of(text)
	}
}
