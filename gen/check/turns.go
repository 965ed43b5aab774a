package check

import (
	"regexp"
	"strings"

	"github.com/persona-gguf/persona-gguf/persona"
)

// said is a turn as it stands in a record.
type said struct {
	kind    persona.Kind
	thought bool
	text    string
}

// marker is what templates write around messages: the role, and what begins and ends it.
var marker = regexp.MustCompile(`(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|\[\|)(system|user|assistant|model)(?:<\|end_header_id\|>|\|\])?[ \n]*`)

// turnsOf takes a record apart again: the spans are the character's turns, what lies between them the others'.
func (k *checker) turnsOf(r *persona.Record) (out []said) {
	text := []rune(r.Text())
	at := len([]rune(r.Prompt))
	for _, span := range r.Spans {
		between := string(text[at:span[0]])
		thought := false
		if r.Format == persona.TrainableAgents {
			out, thought = k.between(out, between, r.End)
		} else {
			out = k.messages(out, between, r.End)
		}
		learned := strings.TrimSpace(strings.TrimSuffix(string(text[span[0]:span[1]]), r.End))
		out = append(out, said{persona.Character, thought, learned})
		at = span[1]
	}
	return out
}

// messages reads the messages of a chat template before an answer.
func (k *checker) messages(out []said, text, end string) []said {
	at := marker.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		role, stop := text[m[2]:m[3]], len(text)
		if i+1 < len(at) {
			stop = at[i+1][0]
		}
		content := strings.TrimSpace(strings.ReplaceAll(text[m[1]:stop], end, ""))
		if content = strings.TrimSpace(strings.TrimSuffix(content, "<end_of_turn>")); role == "system" || content == "" {
			continue
		}
		var user []string
		for line := range strings.SplitSeq(content, "\n") {
			if name, rest, ok := strings.Cut(line, ": "); ok {
				if s, known := k.card.Speakers()[persona.NameKey(name)]; known && s.Kind == persona.Other {
					out = append(out, said{persona.Other, false, rest})
					continue
				}
			}
			user = append(user, line)
		}
		if len(user) > 0 {
			out = append(out, said{persona.Visitor, false, strings.Join(user, "\n")})
		}
	}
	if len(at) == 0 && strings.TrimSpace(text) != "" {
		out = append(out, said{persona.Visitor, false, strings.TrimSpace(strings.ReplaceAll(text, end, ""))})
	}
	return out
}

// between reads the lines of trainable-agents up to the head of the character's turn, whose action it gives.
func (k *checker) between(out []said, text, end string) ([]said, bool) {
	parts := strings.Split(text, end)
	for _, part := range parts[:len(parts)-1] {
		if head, content, ok := strings.Cut(strings.TrimSpace(part), ":"); ok {
			kind, thought := k.head(head)
			out = append(out, said{kind, thought, strings.TrimSpace(content)})
		}
	}
	_, thought := k.head(strings.TrimSuffix(strings.TrimSpace(parts[len(parts)-1]), ":"))
	return out, thought
}

// head reads "name action" or "name (action)".
func (k *checker) head(head string) (kind persona.Kind, thought bool) {
	kind = persona.Other
	for _, action := range []string{k.card.Speak(), k.card.Think()} {
		for _, form := range []string{" " + action, " (" + action + ")"} {
			if name, ok := strings.CutSuffix(head, form); ok {
				head, thought = name, action == k.card.Think()
			}
		}
	}
	if s, ok := k.card.Speaker(head); ok {
		kind = s.Kind
	}
	return kind, thought
}
