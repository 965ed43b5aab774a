package deploy

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/persona"
)

// rendered gives what a server with the spec's template would render.
func rendered(t testing.TB, s *Spec) func(api.ChatRequest) string {
	return func(q api.ChatRequest) string {
		messages := []message{{Role: "system", Content: s.System}}
		for _, m := range append(slices.Clone(s.Messages), q.Messages...) {
			messages = append(messages, message{Role: m.Role, Content: m.Content})
		}
		return execute(t, s.Template, messages, nil)
	}
}

func TestRegisterWithFake(t *testing.T) {
	s := newSpec(t, Options{Model: makeGGUF(t, t.TempDir(), "q4_0", true), Card: parseCard(t, cardText), Messages: examples})
	for _, version := range []string{"0.17.4", "0.34.1", "0.0.0", "0.7.0"} {
		f, server := newFake(t, &fake{version: version, debug: rendered(t, s)})
		var stages []string
		o := RegisterOptions{Server: server, Models: filepath.Join(t.TempDir(), "not", "there"), Progress: func(stage string, done, total int64) {
			if done == total {
				stages = append(stages, stage)
			}
		}}
		got, err := s.Register(t.Context(), "snow_white", o)
		if err != nil {
			t.Fatal(err)
		}
		if got.Version != version || !got.Uploaded || got.Replaced || got.Persona != s.Card.Hash() || got.Size == 0 {
			t.Errorf("%s: got %+v", version, got)
		}
		if names := f.names(); !slices.Equal(names, []string{"snow_white"}) {
			t.Errorf("%s: models: got %q", version, names)
		}
		if stages[0] != "hash" || stages[len(stages)-1] != "upload" {
			t.Errorf("stages: got %q", stages)
		}
		again, err := s.Register(t.Context(), "snow_white", o)
		if err != nil || again.Uploaded || !again.Replaced || again.Old != "" || !slices.Equal(f.names(), []string{"snow_white"}) {
			t.Errorf("%s: again: got %+v, %v, %q", version, again, err, f.names())
		}
		o.KeepOld = true
		kept, err := s.Register(t.Context(), "snow_white", o)
		if err != nil || kept.Old != "snow_white:latest-old" || !slices.Equal(f.names(), []string{"snow_white", "snow_white:latest-old"}) {
			t.Errorf("%s: keep old: got %+v, %v, %q", version, kept, err, f.names())
		}
	}
}

// TestRegisterFails has every request of a replacement fail in turn: the model that was there stays, and nothing
// else does.
func TestRegisterFails(t *testing.T) {
	s := newSpec(t, Options{Model: makeGGUF(t, t.TempDir(), "f16", true), Card: parseCard(t, cardText)})
	old := &api.CreateRequest{Model: "m", System: "old"}
	for n := 1; ; n++ {
		f, server := newFake(t, &fake{debug: rendered(t, s), failAt: n, failure: "write blob: no space left on device", status: 500})
		f.models["m"] = old
		_, err := s.Register(t.Context(), "m", RegisterOptions{Server: server})
		if err == nil {
			if n < 10 {
				t.Errorf("got no error although request %d failed: %q", n, f.requests)
			}
			break
		}
		if !errors.Is(err, ErrFull) && !strings.Contains(err.Error(), "HEAD") {
			t.Errorf("request %d (%s): got %v, want %v", n, f.requests[n-1], err, ErrFull)
		}
		if f.models["m"] != old || len(f.models) != 1 {
			t.Errorf("request %d (%s): got models %q, want the old one only", n, f.requests[n-1], f.names())
		}
	}
}

func TestRegisterRefusals(t *testing.T) {
	s := newSpec(t, Options{Model: makeGGUF(t, t.TempDir(), "f16", true), Card: parseCard(t, cardText)})
	set := func(change func(*api.ShowResponse)) *fake { return &fake{change: change} }
	for name, c := range map[string]struct {
		fake *fake
		o    RegisterOptions
		is   error
		want string
	}{
		"too old":    {&fake{version: "0.6.8"}, RegisterOptions{}, ErrTooOld, "got 0.6.8, want 0.7.0 or newer"},
		"checksum":   {&fake{}, RegisterOptions{SHA256: strings.Repeat("AB", 32)}, ErrChecksum, "want abab"},
		"cut answer": {&fake{cut: true}, RegisterOptions{}, nil, "the answer ended before success"},
		"template":   {set(func(r *api.ShowResponse) { r.Template = PassThrough }), RegisterOptions{}, ErrDiffers, `template: got "{{ .Prompt }}", want`},
		"system":     {set(func(r *api.ShowResponse) { r.System = "You are Qwen" }), RegisterOptions{}, ErrDiffers, `system: got "You are Qwen"`},
		"parameter":  {set(func(r *api.ShowResponse) { r.Parameters = strings.Replace(r.Parameters, "0.7", "0.1", 1) }), RegisterOptions{}, ErrDiffers, `parameter temperature: got "0.1", want "0.7"`},
		"stop":       {set(func(r *api.ShowResponse) { r.Parameters = strings.Replace(r.Parameters, "endoftext", "x", 1) }), RegisterOptions{}, ErrDiffers, "parameter stop"},
		"one more":   {set(func(r *api.ShowResponse) { r.Parameters += "\nseed 1" }), RegisterOptions{}, ErrDiffers, `parameter seed: got "1", want none`},
		"digest":     {set(func(r *api.ShowResponse) { r.Modelfile = "FROM x" }), RegisterOptions{}, ErrDiffers, "digest"},
		"messages":   {set(func(r *api.ShowResponse) { r.Messages = examples }), RegisterOptions{}, ErrDiffers, "messages: got 2, want 0"},
		"rendered":   {&fake{debug: func(api.ChatRequest) string { return "x" }}, RegisterOptions{}, ErrDiffers, `rendered text: got "x"`},
	} {
		f, server := newFake(t, c.fake)
		c.o.Server = server
		_, err := s.Register(t.Context(), "m", c.o)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if len(f.models) > 0 {
			t.Errorf("%s: got models %q, want none left", name, f.names())
		}
	}
	for _, name := range []string{"", "a b", "a:", ":b", "a:b:c", "a/b/c/d", "백설공주", "-a"} {
		if _, err := s.Register(t.Context(), name, RegisterOptions{Server: &url.URL{}}); err == nil || !strings.Contains(err.Error(), "model name") {
			t.Errorf("%q: got %v", name, err)
		}
	}
	down := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	if _, err := s.Register(t.Context(), "m", RegisterOptions{Server: down}); !errors.Is(err, ErrDown) {
		t.Errorf("down: got %v", err)
	}
}

// TestUploadRace has a server that breaks the upload off because it got the blob from somebody else.
func TestUploadRace(t *testing.T) {
	s := newSpec(t, Options{Model: makeGGUF(t, t.TempDir(), "f16", true), Card: parseCard(t, cardText)})
	f, server := newFake(t, &fake{race: true, debug: rendered(t, s)})
	got, err := s.Register(t.Context(), "m", RegisterOptions{Server: server})
	if err != nil || got.Uploaded || len(f.names()) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestRegisterCancelled ends it in the middle of the upload.
func TestRegisterCancelled(t *testing.T) {
	s := newSpec(t, Options{Model: makeGGUF(t, t.TempDir(), "f16", true), Card: parseCard(t, cardText)})
	f, server := newFake(t, &fake{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := s.Register(ctx, "m", RegisterOptions{Server: server, Progress: func(stage string, done, _ int64) {
		if stage == "upload" && done > 0 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || len(f.names()) != 0 {
		t.Errorf("got %v, %q", err, f.names())
	}
}

// TestNoRoom gives a file larger than any disk.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	r := &registration{Spec: &Spec{}, o: RegisterOptions{Models: filepath.Join(dir, "models")}, out: Registered{Size: 1 << 60}}
	if err := r.room(); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "free, want 1") {
		t.Errorf("got %v", err)
	}
	r.out.Size = 1
	if err := r.room(); err != nil {
		t.Error(err)
	}
}

func TestFileVanishes(t *testing.T) {
	model := makeGGUF(t, t.TempDir(), "f16", true)
	s := newSpec(t, Options{Model: model, Card: parseCard(t, cardText)})
	if err := os.Remove(model); err != nil {
		t.Fatal(err)
	}
	_, server := newFake(t, &fake{})
	if _, err := s.Register(t.Context(), "m", RegisterOptions{Server: server}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestCanonical(t *testing.T) {
	for _, pair := range [][2]any{{0.7, "0.7"}, {float32(1.1), 1.1}, {64, 64.0}, {[]string{"b", "a"}, []any{"a", "b"}}} {
		if a, b := canonical(pair[0]), canonical(pair[1]); a != b {
			t.Errorf("%v and %v: got %s and %s, want the same", pair[0], pair[1], a, b)
		}
	}
	got := shownParameters("stop                           \"\\n백설공주:\"\nstop                           \"<|im_end|>\"\ntop_k                          40\n")
	if got["stop"] != canonical([]string{"<|im_end|>", "\n백설공주:"}) || got["top_k"] != "40" {
		t.Errorf("got %q", got)
	}
	if s := persona.DefaultSampling(); canonical(s.TopP) != "0.95" {
		t.Errorf("got %s", canonical(s.TopP))
	}
}
