package llama

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// These are for -race: what the package says may be done at the same time.

// TestManyContexts runs contexts of one model at once, beside everything else
// that a model is good for; all must say what one alone says.
func TestManyContexts(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	prompt := mustTokens(t, m, "Mirror, mirror on the wall")
	ask := func() ([]Token, error) {
		p := DefaultContextParams()
		p.NCtx, p.Threads = 256, 1
		c, err := m.NewContext(p)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		s, err := NewSampler(m, greedy())
		if err != nil {
			return nil, err
		}
		defer s.Close()
		res, err := c.Generate(context.Background(), prompt, s, GenerateOptions{MaxTokens: 10})
		return res.Tokens, err
	}
	want, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	tm := template(t, m, "")
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for range 3 {
				if got, err := ask(); err != nil || !slices.Equal(got, want) {
					t.Errorf("got %v, %v, want %v", got, err, want)
				}
			}
		}()
		go func() {
			defer wg.Done()
			for range 5 {
				tokens, err := m.Tokenize("some text", true, true)
				if err != nil {
					t.Error(err)
				}
				if _, err := m.Detokenize(tokens, true, true); err != nil {
					t.Error(err)
				}
				m.Meta("general.name")
				if _, err := tm.Render([]ChatMessage{{Role: "user", Content: "x"}}, DefaultChatOptions()); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
}

// TestOneContextSharedAndClosed has goroutines use one context until it is closed.
func TestOneContextSharedAndClosed(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	s := sampler(t, m, DefaultSamplerParams())
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				if i == 3 {
					started <- struct{}{}
				}
				err := c.MemoryClear(true)
				if err == nil {
					err = c.DecodeTokens([]Token{1, 2, 3}, 0, 0, LogitsLast)
				}
				if errors.Is(err, ErrClosed) {
					return
				}
				// Another goroutine's clear or decode may have come between.
				_, _ = s.Sample(c, -1)
			}
		}()
	}
	for range 4 {
		<-started
	}
	m.Close()
	c.Close()
	s.Close()
	wg.Wait()
}

func TestEncodeAtTheSameTime(t *testing.T) {
	const n = 256
	x := f32Bytes(rowKinds(n)["random"])
	var wg sync.WaitGroup
	for _, typ := range []TensorType{2, 8, 14, 20, 18} {
		size, err := typ.RowSize(n)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 4*size)
		if err := EncodeRows(want, uint32(typ), x, typeF32, n, nil); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				got := make([]byte, len(want))
				if err := EncodeRows(got, uint32(typ), x, typeF32, n, nil); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: other bytes, %v", typ, err)
				}
			}()
		}
	}
	wg.Wait()
}

func TestLoggerAtTheSameTime(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 5 {
				SetLogger(func(int, string) {})
				tinyModel(t, tinymodel.Options{Blocks: 1}).Close()
				SetLogger(nil)
			}
		}()
	}
	wg.Wait()
}
