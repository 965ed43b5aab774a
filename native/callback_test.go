package llama

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

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
