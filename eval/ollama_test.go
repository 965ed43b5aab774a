package eval

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/internal/ollama"
	"github.com/persona-gguf/persona-gguf/persona"
)

// TestThroughOllama registers the example's files in a real server and has conversations of up to five turns with each
// and with the file in this process: the most likely replies must be the same, letter for letter, the same words in
// earlier turns notwithstanding, and all questions who she is must get the own name. With 4-bit weights the two round
// differently, so there a near tie may end the other way, in one conversation of ten.
func TestThroughOllama(t *testing.T) {
	server := ollama.ForTest(t)
	card, err := persona.Read(example + "/persona.yaml")
	if err != nil {
		t.Fatal(err)
	}
	probes := someProbes(t, card)
	for name, path := range map[string]string{"f16": personaFile, "q4_0": q4File} {
		register(t, server, name, path, card)
		here := replies(t, Options{Card: card, Models: []string{path}}, probes)
		there := replies(t, Options{Card: card, Through: name, Server: server.URL}, probes)
		if len(here) != len(there) || len(here) < 60 {
			t.Fatalf("%s: got %d replies in this process and %d of the server, want as many and at least 60", name, len(here), len(there))
		}
		own, asked, other := 0, 0, map[string]string{}
		for i, r := range here {
			s := there[i]
			if r.Probe != s.Probe || r.Turn != s.Turn || r.Question != s.Question {
				t.Fatalf("%s: got another conversation of the server: %+v, want %+v", name, s, r)
			}
			if r.Text != s.Text || r.DoneReason != s.DoneReason || r.Tokens > s.Tokens {
				other[r.Probe] = fmt.Sprintf("turn %d, %q: got of the server %q (%s, %d tokens), in this process %q (%s, %d tokens)",
					r.Turn, r.Question, s.Text, s.DoneReason, s.Tokens, r.Text, r.DoneReason, r.Tokens)
			}
			if s.Last && s.Kind != Protective {
				asked++
				if strings.Contains(s.Text, card.Name) {
					own++
				}
			}
		}
		if most := map[string]int{"f16": 0, "q4_0": len(probes) / 10}[name]; len(other) > most {
			t.Errorf("%s: got other replies in %d of %d conversations, want at most %d: %v", name, len(other), len(probes), most, other)
		}
		if own != asked {
			t.Errorf("%s: got the own name in %d of %d replies to who she is", name, own, asked)
		}
	}
}

// someProbes are the questions who she is in later turns, a conversation of each sort that tries to make her somebody
// else, and a few things that she cannot know.
func someProbes(t *testing.T, card *persona.Card) (out []Probe) {
	t.Helper()
	all, err := Probes(card)
	if err != nil {
		t.Fatal(err)
	}
	drift := 0
	for _, p := range all {
		if p.Kind == Drift {
			drift++
		}
		if p.Kind == Later || p.Kind == Drift && drift%6 == 1 || p.Kind == Protective && strings.HasSuffix(p.ID, "1") {
			out = append(out, p)
		}
	}
	return out
}

// replies are the most likely ones of a file in this process, or of a model of a server.
func replies(t *testing.T, o Options, probes []Probe) (out []Reply) {
	t.Helper()
	o.Parallel, o.Threads = 1, 1
	r := &run{Options: o}
	var speaker Speaker
	if o.Through != "" {
		remote, err := NewRemote(t.Context(), o.Server, o.Through, o.Card)
		if err != nil {
			t.Fatal(err)
		}
		speaker = remote
	} else {
		engine, local, err := r.local(t.Context(), o.Models[0])
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		speaker = local
	}
	v := &interviewer{card: o.Card, probes: probes, rules: newRules(o.Card, "", speaker.Stops()), speaker: speaker}
	for i := range probes {
		said, err := v.converse(t.Context(), job{&probes[i], 0})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, said...)
	}
	return out
}

// register makes a model of the file, as the command does, that runs in one thread: several wait for each other by
// spinning, which takes long on a busy machine.
func register(t *testing.T, server *ollama.Server, name, path string, card *persona.Card) {
	t.Helper()
	spec, err := deploy.NewSpec(deploy.Options{Model: path, Card: card})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spec.Register(t.Context(), name, deploy.RegisterOptions{Server: server.URL, Models: server.Dir + "/models"}); err != nil {
		t.Fatal(err)
	}
	one := &api.CreateRequest{Model: name, From: name, Parameters: map[string]any{"num_thread": 1}}
	if err := server.Client().Create(t.Context(), one, func(api.ProgressResponse) error { return nil }); err != nil {
		t.Fatal(err)
	}
}
