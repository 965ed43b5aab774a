package sft

import (
	"errors"
	"fmt"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrTemplate says that a model's template cannot render training data.
var ErrTemplate = errors.New("chat template")

// ChooseTemplate decides how chatml is rendered for o.Model: by the model's template ("model"), in the plain form
// ("own"), or by the template where that renders answers and history alike ("auto"). A template that gives the same
// text as the plain form is left out, since that is much faster. note tells what was decided.
func (o *Options) ChooseTemplate(choice string) (note string, err error) {
	format := o.Format
	if format == "" {
		format = o.Card.Format
	}
	if format != persona.ChatML {
		return "the format has no use for the model's chat template", nil
	}
	template, ends, err := o.Model.Template()
	if err != nil {
		return "", fmt.Errorf("%w of %s: %w", ErrTemplate, o.Model.Path, err)
	}
	if o.End != "" {
		ends = []string{o.End}
	}
	if template == nil && choice == "model" {
		return "", fmt.Errorf("%w of %s: got none, want one", ErrTemplate, o.Model.Path)
	}
	var first error
	for _, end := range ends {
		if template == nil || choice == "own" {
			break
		}
		same, err := o.compare(template, end)
		if err == nil {
			if o.End = end; same {
				return "rendering chatml as the model's template does", template.Close()
			}
			o.Template = template
			return "rendering chatml by the model's template", nil
		}
		if first == nil {
			first = err
		}
	}
	if template != nil {
		template.Close()
	}
	if o.End == "" && len(ends) > 0 {
		o.End = ends[0]
	}
	if first != nil && choice == "model" {
		return "", fmt.Errorf("%w of %s: %w", ErrTemplate, o.Model.Path, first)
	}
	if first != nil {
		return fmt.Sprintf("rendering chatml in the plain form: the model's template does not do: %v", first), nil
	}
	return "rendering chatml in the plain form", nil
}

// compare renders dialogues with and without the template.
func (o *Options) compare(template *llama.ChatTemplate, end string) (same bool, err error) {
	own, err := persona.NewRenderer(o.Card, persona.Options{End: end, Format: persona.ChatML})
	if err != nil {
		return false, err
	}
	theirs, err := persona.NewRenderer(o.Card, persona.Options{End: end, Format: persona.ChatML, Template: template})
	if err != nil {
		return false, err
	}
	user, character := persona.Turn{Role: o.Card.User.Name, Content: "하나? One?\n둘!"}, persona.Turn{Role: o.Card.Name, Content: "셋. Three.\n\n넷."}
	same = true
	for _, turns := range [][]persona.Turn{
		{user, character}, {user, character, user, character}, {user, character, user, character, user, character}, {user, character, user},
	} {
		a, err := own.Record(turns)
		if err != nil {
			return false, err
		}
		b, err := theirs.Record(turns)
		if err != nil {
			return false, err
		}
		same = same && a.Text() == b.Text() && fmt.Sprint(a.Spans) == fmt.Sprint(b.Spans)
	}
	return same, nil
}
