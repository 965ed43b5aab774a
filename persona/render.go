package persona

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	llama "github.com/go-skynet/go-llama.cpp"
)

// Turn is what one speaker says (or thinks) at a time, with the field names of a parsed dialogue.
type Turn struct {
	Role    string `json:"role"`
	Action  string `json:"action"` // the card's word for speaking or thinking; "" is speaking
	Content string `json:"content"`
}

// Options are what a Renderer needs beyond the card. The zero value follows the card.
type Options struct {
	Format Format // "" for the card's
	// End ends every utterance, inside the loss; the tokenizer must have it as one token. "" is <|im_end|> for
	// chatml and <|eot|> for trainable-agents.
	End string
	// System replaces the persona as the text before the dialogue; a pointer to "" leaves it out.
	System *string
	// Thoughts keeps turns of thinking, which are left out otherwise. Only trainable-agents has a form for them.
	Thoughts bool
	// Template renders chatml with a model's own template. It must give the same text whether a turn is an
	// answer or history, and end turns with End.
	Template *llama.ChatTemplate
	// Control are texts that the model takes for control tokens, besides those that chat models commonly use.
	Control []string
	// Vocabulary are all the control tokens of the model. Given them, nothing else is taken for one in words that
	// somebody typed, and Control is not needed.
	Vocabulary []string
}

// Renderer turns a card and turns into the exact text that the model is trained on and asked with: the only
// place where that text is made. It may be used by several goroutines.
type Renderer struct {
	card         *Card
	options      Options
	system       string
	control      []string
	controlSwaps []Swap
	swaps        []Swap // those and what else an utterance must not hold
	forms
}

// forms are what the formats do differently.
type forms struct {
	pieces func(*Renderer, []spoken) []piece // system text and turns
	cue    func(*Renderer) string            // begin of the character's turn
	stops  func(*Renderer) []string
}

// piece is text that is learned as a whole, or not at all.
type piece struct {
	text  string
	learn bool
}

// spoken is a turn whose speaker is resolved; turns in a row by one speaker are one.
type spoken struct {
	who           string // canonical name
	action        string
	content       string
	byUser, byOwn bool
}

// NewRenderer returns the renderer of a card's prompts.
func NewRenderer(card *Card, o Options) (*Renderer, error) {
	if o.Format == "" {
		o.Format = card.Format
	}
	r := &Renderer{card: card, options: o, system: card.Persona}
	switch o.Format {
	case ChatML:
		r.forms, r.options.End = chatMLForms, withDefault(o.End, "<|im_end|>")
	case TrainableAgents:
		r.forms, r.options.End = agentsForms, withDefault(o.End, "<|eot|>")
	default:
		return nil, fmt.Errorf("renderer: format: got %q, want %s or %s", o.Format, ChatML, TrainableAgents)
	}
	if o.System != nil {
		r.system = *o.System
	}
	r.control = append([]string{r.options.End}, o.Control...)
	if o.Vocabulary != nil {
		r.control = append(r.control, o.Vocabulary...)
		r.controlSwaps = controlSwaps(r.control)
	} else {
		r.controlSwaps = controlSwaps(append(slices.Clone(commonTokens), r.control...))
	}
	r.swaps = r.turnSwaps()
	if token := findControl(r.system, r.control); token != "" {
		return nil, fmt.Errorf("renderer: system text: got the control token %q in it, want plain text", token)
	}
	if text := findSwap(r.system, r.controlSwaps); text != "" {
		return nil, fmt.Errorf("renderer: system text: got %q in it, which begins a control token, want plain text", text)
	}
	if strings.TrimSpace(r.options.End) != r.options.End || utf8.RuneCountInString(r.options.End) < 2 {
		return nil, fmt.Errorf("renderer: end: got %q, want a control token", r.options.End)
	}
	if o.Template != nil && o.Format != ChatML {
		return nil, fmt.Errorf("renderer: got a chat template with format %s, want it with %s", o.Format, ChatML)
	}
	if o.Thoughts && o.Format == ChatML {
		return nil, fmt.Errorf("renderer: got thoughts with format %s, want them with %s, which has a form for them", ChatML, TrainableAgents)
	}
	return r, nil
}

func withDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// Head is the text before the first turn: the system text as the format has it.
func (r *Renderer) Head() string {
	var b strings.Builder
	for _, p := range r.pieces(r, nil) {
		b.WriteString(p.text)
	}
	return b.String()
}

// TurnHead is what stands before an utterance of somebody on the card, up to the colon; the empty string is for
// formats whose turns have roles and no heads.
func (r *Renderer) TurnHead(name string) string {
	if r.options.Format != TrainableAgents {
		return ""
	}
	return r.head(name, r.card.Speak())
}

// End is the text of the token that ends every utterance.
func (r *Renderer) End() string { return r.options.End }

// Format is the form of the text.
func (r *Renderer) Format() Format { return r.options.Format }

// Stops are the texts that end a reply at inference, the end token first.
func (r *Renderer) Stops() []string { return r.stops(r) }

// Record renders a dialogue for training. Turns after the character's last one teach nothing and are left out.
// A control token in any turn is an error: training data must not hold one.
func (r *Renderer) Record(turns []Turn) (Record, error) {
	all, err := r.speak(turns, func(text string) (string, error) {
		text = strings.ReplaceAll(text, "\r\n", "\n")
		if token := findControl(text, r.control); token != "" {
			return "", fmt.Errorf("got the control token %q in it, want plain text", token)
		}
		if head := r.findHead(text); head != "" {
			return "", fmt.Errorf("got the head of another turn in it, %q, want one utterance", head)
		}
		return text, nil
	})
	if err != nil {
		return Record{}, fmt.Errorf("render dialogue: %w", err)
	}
	for len(all) > 0 && !all[len(all)-1].byOwn {
		all = all[:len(all)-1]
	}
	if len(all) == 0 {
		return Record{}, fmt.Errorf("render dialogue: got no turn by %s, want at least one", r.card.Name)
	}
	if r.options.Template != nil {
		return r.templateRecord(all)
	}
	head, body := r.pieces(r, nil), r.pieces(r, all)
	rec := Record{End: r.options.End, Format: r.options.Format}
	for i, p := range body {
		if i < len(head) {
			rec.Prompt += p.text
		} else {
			rec.Output += p.text
		}
	}
	rec.Spans = spansOf(body)
	return rec, nil
}

// spansOf gives the ranges of learned pieces in code points.
func spansOf(pieces []piece) (spans [][2]int) {
	at := 0
	for _, p := range pieces {
		n := utf8.RuneCountInString(p.text)
		if p.learn {
			spans = append(spans, [2]int{at, at + n})
		}
		at += n
	}
	return spans
}

// Prompt renders a conversation for inference: the same text as in training, up to where the character's next
// utterance begins. Control tokens, and heads of turns, that somebody typed lose their effect (TurnSwaps).
func (r *Renderer) Prompt(turns []Turn) (string, error) {
	all, err := r.speak(turns, func(text string) (string, error) { return swap(text, r.swaps), nil })
	if err != nil {
		return "", fmt.Errorf("render prompt: %w", err)
	}
	if len(all) == 0 || all[len(all)-1].byOwn {
		return "", errors.New("render prompt: got no turn to answer, want the last one by somebody else")
	}
	if r.options.Template != nil {
		return r.templatePrompt(all)
	}
	var b strings.Builder
	for _, p := range r.pieces(r, all) {
		b.WriteString(p.text)
	}
	b.WriteString(r.cue(r))
	return b.String(), nil
}

// speak resolves the speakers, drops thoughts unless they are wanted, has clean look at every content, and
// joins turns in a row by one speaker with a line end.
func (r *Renderer) speak(turns []Turn, clean func(string) (string, error)) ([]spoken, error) {
	var all []spoken
	for i, turn := range turns {
		s, err := r.resolve(turn)
		if err == nil && strings.TrimSpace(turn.Content) == "" {
			err = errors.New("got no content, want text")
		}
		if err == nil {
			s.content, err = clean(turn.Content)
		}
		if err != nil {
			return nil, fmt.Errorf("turn %d by %s: %w", i+1, turn.Role, err)
		}
		if s.action == r.card.Think() && !r.options.Thoughts {
			continue
		}
		if n := len(all); n > 0 && all[n-1].who == s.who && all[n-1].action == s.action {
			if all[n-1].content, err = clean(all[n-1].content + "\n" + s.content); err != nil { // joining may make a head
				return nil, fmt.Errorf("turn %d by %s: %w", i+1, turn.Role, err)
			}
		} else {
			all = append(all, s)
		}
	}
	return all, nil
}

// resolve finds a speaker on the card, whatever name was used.
func (r *Renderer) resolve(turn Turn) (spoken, error) {
	s := spoken{who: turn.Role, action: strings.Trim(turn.Action, "()")}
	if s.action == "" {
		s.action = r.card.Speak()
	}
	if s.action != r.card.Speak() && s.action != r.card.Think() {
		return s, fmt.Errorf("action: got %q, want %s or %s", turn.Action, r.card.Speak(), r.card.Think())
	}
	key := ""
	for _, n := range r.card.names() {
		if n.name == turn.Role {
			key = n.key
		}
	}
	var index int
	switch _, err := fmt.Sscanf(key, "cast[%d]", &index); {
	case err == nil:
		s.who = r.card.Cast[index].Name
	case strings.HasPrefix(key, "user."):
		s.who, s.byUser = r.card.User.Name, true
	case key != "":
		s.who, s.byOwn = r.card.Name, true
	case r.card.UnknownSpeakers != "keep" || strings.ContainsAny(turn.Role, "\r\n:") || findControl(turn.Role, r.control) != "":
		return s, errors.New("unknown speaker: want a name or an alias of the card's")
	}
	return s, nil
}

// findHead gives a line end and head of a turn inside text, as trainable-agents has them, or "".
func (r *Renderer) findHead(text string) string {
	if r.options.Format != TrainableAgents || !strings.ContainsAny(text, "\r\n") {
		return ""
	}
	var names []string
	for _, n := range r.card.names() {
		names = append(names, regexp.QuoteMeta(n.name))
	}
	words := regexp.QuoteMeta(r.card.Speak()) + "|" + regexp.QuoteMeta(r.card.Think())
	return regexp.MustCompile(`[\r\n]+(?:` + strings.Join(names, "|") + `)(?: \(?(?:` + words + `)\)?)?:`).FindString(text)
}
