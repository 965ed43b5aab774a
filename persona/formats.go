package persona

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	llama "github.com/go-skynet/go-llama.cpp"
)

// chatMLForms: the persona is the system message, the character the assistant, everybody else the user. The
// user's words stand as they are, those of the cast behind their name.
var chatMLForms = forms{
	pieces: func(r *Renderer, all []spoken) []piece {
		var out []piece
		for _, m := range r.messages(all) {
			if m.Role == "assistant" {
				out = append(out, piece{"<|im_start|>assistant\n", false}, piece{m.Content + r.options.End, true}, piece{"\n", false})
			} else {
				out = append(out, piece{"<|im_start|>" + m.Role + "\n" + m.Content + r.options.End + "\n", false})
			}
		}
		return out
	},
	cue: func(*Renderer) string { return "<|im_start|>assistant\n" },
	stops: func(r *Renderer) []string {
		return unique(r.options.End, "<|im_end|>", "<|im_start|>", "<|endoftext|>")
	},
}

// messages are the messages of a chat: roles take turns, since what others say in a row is one message.
func (r *Renderer) messages(all []spoken) (out []llama.ChatMessage) {
	if r.system != "" {
		out = append(out, llama.ChatMessage{Role: "system", Content: r.system})
	}
	for _, s := range all {
		m := llama.ChatMessage{Role: "user", Content: s.content}
		if s.byOwn {
			m.Role = "assistant"
		} else if !s.byUser {
			m.Content = s.who + ": " + s.content
		}
		if n := len(out); n > 0 && out[n-1].Role == m.Role {
			out[n-1].Content += "\n" + m.Content
		} else {
			out = append(out, m)
		}
	}
	return out
}

// agentsForms: the persona, an empty line, and a line for each turn, "name action: utterance<end>". Nothing
// follows the colon of the cue: the space is the first letter of the answer. An English card writes the action
// in brackets.
var agentsForms = forms{
	pieces: func(r *Renderer, all []spoken) []piece {
		var out []piece
		if r.system != "" {
			out = append(out, piece{r.system + "\n\n", false})
		}
		for i, s := range all {
			if i > 0 {
				out = append(out, piece{"\n", false})
			}
			content := s.content
			if s.byOwn { // an answer begins with the space that follows the colon
				content = strings.TrimPrefix(content, " ")
			}
			out = append(out, piece{r.head(s.who, s.action), false}, piece{" " + content + r.options.End, s.byOwn})
		}
		return out
	},
	cue: func(r *Renderer) string { return "\n" + r.head(r.card.Name, r.card.Speak()) },
	stops: func(r *Renderer) []string {
		stops := []string{r.options.End, "<|eot|>", "<|eot_id|>", "<|im_end|>", "<|endoftext|>"}
		for _, name := range []string{r.card.User.Name, r.card.Name} {
			stops = append(stops, "\n"+name+":", "\n"+r.head(name, r.card.Speak()))
		}
		return unique(stops...)
	},
}

// head is what stands before an utterance, up to the colon.
func (r *Renderer) head(who, action string) string {
	if r.card.Language == "english" {
		action = "(" + action + ")"
	}
	return who + " " + action + ":"
}

func unique(texts ...string) (out []string) {
	for _, text := range texts {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// templateRecord renders with the model's template. Each answer must begin where the prompt for it ends, and
// must read the same as history.
func (r *Renderer) templateRecord(all []spoken) (Record, error) {
	messages := r.messages(all)
	whole, err := r.renderTemplate(messages, false)
	if err != nil {
		return Record{}, err
	}
	rec := Record{End: r.options.End, Format: r.options.Format}
	for i, m := range messages {
		if m.Role != "assistant" {
			continue
		}
		before, err := r.renderTemplate(messages[:i], true)
		if err != nil {
			return Record{}, err
		}
		if want := before + m.Content + r.options.End; !strings.HasPrefix(whole, want) {
			return Record{}, fmt.Errorf("chat template: message %d: got other text in the dialogue than the prompt for it, the answer and %s: want a template that renders answers and history alike",
				i+1, r.options.End)
		}
		start := utf8.RuneCountInString(before)
		rec.Spans = append(rec.Spans, [2]int{start, start + utf8.RuneCountInString(m.Content+r.options.End)})
	}
	if len(messages) > 1 && messages[0].Role == "system" {
		if head, err := r.renderTemplate(messages[:1], false); err == nil && strings.HasPrefix(whole, head) {
			rec.Prompt = head
		}
	}
	rec.Output = strings.TrimPrefix(whole, rec.Prompt)
	return rec, nil
}

func (r *Renderer) templatePrompt(all []spoken) (string, error) {
	return r.renderTemplate(r.messages(all), true)
}

func (r *Renderer) renderTemplate(messages []llama.ChatMessage, ask bool) (string, error) {
	if len(messages) == 0 {
		return "", errors.New("chat template: got a dialogue that begins with the character and has no system text, want a message before")
	}
	o := llama.DefaultChatOptions()
	o.AddGenerationPrompt, o.EnableThinking = ask, false
	p, err := r.options.Template.Render(messages, o)
	return p.Prompt, err
}
