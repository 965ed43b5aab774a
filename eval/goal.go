package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/persona"
)

const (
	goalTurns    = 5 // questions of a conversation towards a goal
	goalTries    = 3 // for a question that can be used
	goalNumCtx   = 8192
	goalPredict  = 128
	goalSampling = 0.7 // temperature of the interviewer where the replies are sampled too
)

var questionSchema = json.RawMessage(`{"type":"object","properties":{"question":{"type":"string"}},"required":["question"],"additionalProperties":false}`)

// guest is a language model that interviews the character towards a goal, one question at a time.
type guest struct {
	asks asker
	card *persona.Card
}

// newGuest reaches the model that interviews, if there are goals.
func (r *run) newGuest(ctx context.Context) (*guest, error) {
	goals := 0
	for i := range r.probes {
		if r.probes[i].Kind == Goal {
			goals++
		}
	}
	switch {
	case goals == 0 && r.Interviewer != "":
		return nil, fmt.Errorf("interviewer %s: got no goals, want a file of them among the questions", r.Interviewer)
	case goals == 0:
		return nil, nil
	case r.Interviewer == "":
		return nil, fmt.Errorf("got %d goals of an interviewer, want a model of the server that interviews", goals)
	}
	o, err := engine.NewOllama(r.Server.String(), r.Interviewer, 5*time.Minute)
	if err != nil {
		return nil, err
	}
	if _, err := o.Inspect(ctx); err != nil {
		return nil, fmt.Errorf("interviewer %s: %w", r.Interviewer, err)
	}
	return &guest{o, r.Card}, nil
}

// prompt asks for the next question.
func (g *guest) prompt(goal string, turns []persona.Turn) []engine.Message {
	language := "Korean"
	if g.card.Language == "english" {
		language = "English"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "What you want to find out: %s\n\nThe conversation so far:\n", goal)
	if len(turns) == 0 {
		b.WriteString("(You have just sat down.)\n")
	}
	for _, t := range turns {
		who := "You"
		if t.Role == g.card.Name {
			who = "The other"
		}
		fmt.Fprintf(&b, "%s: %s\n", who, t.Content)
	}
	b.WriteString("\nYour next question:")
	return []engine.Message{
		{Role: "system", Content: "You talk with somebody in a café and want to get to know them. Ask one short question at a time, in " + language +
			". Where an answer evades the question, ask about it again. You may come back to earlier questions. Never say the name of the other."},
		{Role: "user", Content: b.String()},
	}
}

// next gives the next question, "" if the model has none that can be used: one with the character's name tells it what
// it should say by itself.
func (g *guest) next(ctx context.Context, goal string, turns []persona.Turn, seed uint32) (string, error) {
	o := engine.Options{TopP: 1, TopK: 1, RepeatPenalty: 1, NumPredict: goalPredict, NumCtx: goalNumCtx}
	for try := range goalTries {
		o.Seed = int(seed) + try
		if try > 0 || seed > 0 {
			o.Temperature, o.TopK = goalSampling, 40
		}
		reply, err := g.asks.Chat(ctx, engine.Request{Messages: g.prompt(goal, turns), Schema: questionSchema, Options: o})
		if err != nil {
			return "", fmt.Errorf("interviewer: %w", err)
		}
		var answer struct{ Question string }
		if json.Unmarshal([]byte(reply.Content), &answer) != nil {
			continue
		}
		if q := strings.TrimSpace(answer.Question); q != "" && !persona.Word(q, g.card.Name, false) {
			return q, nil
		}
	}
	return "", nil
}
