package parse

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// minReply is the length of the shortest reply that may hold a dialogue, in code points.
const minReply = 100

// Dialogue is what was read of one reply.
type Dialogue struct {
	Background string     // from the text, "" if it has none
	Turns      []raw.Turn // in order
	Code       string     // why the dialogue is rejected, "" if it is not
	Dropped    []Drop     // turns that are left out
	Notes      map[string]int
}

// Drop is a turn or scene that is left out.
type Drop struct {
	Code string
	Item int    // its number in the reply, from 1
	Text string // how it begins
}

// Parser reads the replies of generators for one character. It may be used by several goroutines.
type Parser struct {
	card *persona.Card
	cast *cast
}

// New returns the parser for a card's character.
func New(card *persona.Card) *Parser { return &Parser{card, newCast(card)} }

// Dialogue reads a raw row (or an item of a parsed array) by the rules of the raw dialogue format: one pass over
// the lines, nothing inserted, every turn that is left out with its code.
func (p *Parser) Dialogue(r *raw.Row) Dialogue {
	m := &machine{cast: p.cast, card: p.card, cutOff: r.DoneReason == "length", notes: map[string]int{}}
	if r.Dialogue != nil && r.Completions == "" {
		return m.item(r)
	}
	reply := string(r.Completions)
	if code := rejectReply(reply, r); code != "" {
		return Dialogue{Code: code, Notes: m.notes}
	}
	m.example = p.cast.echoes(r.Prompt)
	if !m.structured(reply) {
		m.read(Clean(reply))
	}
	if m.cutOff && m.current != nil {
		m.cut()
	}
	m.end()
	if len(m.turns) == 0 && m.heads == 0 && refusal.MatchString(reply) {
		m.code = CodeRefusal
	}
	return m.result(r.Scene)
}

// rejectReply looks at the whole reply.
func rejectReply(reply string, r *raw.Row) string {
	switch trimmed := strings.TrimSpace(reply); {
	case r.Failed():
		return CodeCheckFailed
	case trimmed == "":
		return CodeEmpty
	case Degenerate(trimmed):
		return CodeDegenerate
	case utf8.RuneCountInString(trimmed) < minReply:
		if refusal.MatchString(trimmed) {
			return CodeRefusal
		}
		return CodeShort
	}
	return ""
}

// phase says what plain text belongs to.
type phase int

const (
	before       phase = iota // text before anything is known
	inBackground              // the background
	inExample                 // an echo of the prompt's example
	inSpeech                  // the turn at hand
	inNarration               // nobody's speech
	inDropped                 // the speech of somebody who is not on the card
	ended                     // what follows is not part of the dialogue
)

// machine reads a dialogue line by line.
type machine struct {
	cast    *cast
	card    *persona.Card
	cutOff  bool
	example map[string]bool
	phase   phase
	current *turn

	background, preamble []string
	turns                []raw.Turn
	heads                int
	sawExample           bool
	inAside              bool // inside a paragraph in brackets
	notes                map[string]int
	dropped              []Drop
	code                 string
}

func (m *machine) read(text string) {
	all := m.cast.lines(text)
	lastHead := -1
	for i := range all {
		if all[i].kind == headLine {
			lastHead = i
		}
	}
	next, nexts := blankLine, make([]kind, len(all)) // what comes behind a line, but for blank lines and rules
	for i := len(all) - 1; i >= 0; i-- {
		if nexts[i] = next; all[i].kind != blankLine && all[i].kind != ruleLine {
			next = all[i].kind
		}
	}
	for i := range all {
		if m.phase == ended {
			return
		}
		m.step(&all[i], i < lastHead, nexts[i])
	}
}

// step takes one line; more says that somebody speaks later, next what comes behind it.
func (m *machine) step(l *line, more bool, next kind) {
	if l.kind != textLine {
		m.inAside = false
	}
	switch l.kind {
	case blankLine:
	case headLine:
		if m.phase == inExample {
			return
		}
		if early := m.phase == before || m.phase == inBackground; early && !l.head.known && !l.head.unnamed && !isActionWord(l.head.action) {
			m.text(l.text)
			return
		}
		m.begin(l.head)
	case textLine:
		m.text(l.text)
	case metaLine:
		count(m.notes, "meta", 1)
		if m.phase == inSpeech || m.phase == inDropped {
			m.end()
			m.phase = inNarration
		}
	case backgroundLine:
		m.label(l.rest)
	case exampleLine:
		if m.phase != inSpeech {
			m.sawExample, m.phase = true, inExample
		}
	case ruleLine:
		m.rule(more, next)
	case narratorLine:
		m.end()
		count(m.notes, "narration", 1)
		m.phase = inNarration
	case noteLine, closerLine:
		m.close(l, more)
	}
}

// close ends the dialogue; a note between turns is narration.
func (m *machine) close(l *line, more bool) {
	switch {
	case m.phase == inExample:
	case m.heads == 0 && more: // before the dialogue
		count(m.notes, "meta", 1)
	case l.kind == noteLine && more:
		m.end()
		count(m.notes, "narration", 1)
		m.phase = inNarration
	default:
		m.end()
		count(m.notes, CodeCloser, 1)
		m.cutOff = false // the generator came to an end by itself
		m.phase = ended
	}
}

// rule is a line of marks: it ends an example, and before a remark the dialogue.
func (m *machine) rule(more bool, next kind) {
	switch {
	case m.phase == inExample:
		m.phase = before
	case next != textLine || m.heads == 0:
	default:
		m.end()
		if m.phase = inNarration; !more {
			count(m.notes, CodeCloser, 1)
			m.phase = ended
		}
	}
}

// label begins the background. Behind an example, and behind turns that said nothing, the dialogue begins anew.
func (m *machine) label(rest string) {
	m.end()
	switch {
	case m.sawExample && len(m.turns) > 0:
		for _, t := range m.turns {
			m.drop(CodePromptEcho, t.Content)
		}
		m.turns, m.sawExample = nil, false
	case len(m.turns) > 0:
		m.phase = inNarration
		count(m.notes, "narration", 1)
		return
	}
	m.background, m.phase = nil, inBackground
	if rest != "" {
		m.text(rest)
	}
}

// begin starts a turn.
func (m *machine) begin(h head) {
	m.end()
	m.heads++
	switch {
	case h.unnamed:
		m.drop(CodeUnnamedSpeaker, h.raw+": "+h.text)
		m.phase = inDropped
		return
	case !h.known && m.card.UnknownSpeakers != "keep":
		m.drop(CodeUnknownSpeaker, h.raw+": "+h.text)
		m.phase = inDropped
		return
	}
	m.phase = inSpeech
	m.current = &turn{head: h, action: h.action}
	m.current.out.Direction = h.direction
	if h.text != "" {
		m.text(h.text)
	}
}

// text takes a line of plain text.
func (m *machine) text(t string) {
	switch m.phase {
	case before:
		if s := plain(t); s != "" && !sceneKey.MatchString(bare(t)) && !strings.HasSuffix(s, ":") {
			m.preamble = append(m.preamble, s)
		}
	case inBackground:
		if s := bare(t); sceneKey.MatchString(s) {
			count(m.notes, "meta", 1)
		} else if s := plain(t); s != "" {
			m.background = append(m.background, s)
		}
	case inSpeech:
		m.speech(t)
	case inNarration:
		count(m.notes, "narration", 1)
	}
}

func (m *machine) speech(t string) {
	cur := m.current
	if action, rest, ok := soleAction(t); ok {
		if len(cur.lines) > 0 {
			h := cur.head
			h.action, h.direction, h.text = action, "", rest
			m.begin(h)
			return
		}
		cur.action = action
		if t = rest; t == "" {
			return
		}
	}
	if m.aside(t) || !cur.add(t) {
		count(m.notes, "narration", 1)
	}
}

// aside follows a paragraph in brackets over several lines, which is narration.
func (m *machine) aside(t string) bool {
	t = strings.Trim(strings.TrimSpace(t), "*_ ")
	if m.inAside {
		m.inAside = !strings.HasSuffix(t, ")") && !strings.HasSuffix(t, "）")
		return true
	}
	if !strings.HasPrefix(t, "(") || strings.Contains(t, ")") || m.current.open != "" {
		return false
	}
	m.inAside = true
	return true
}

func (m *machine) drop(code, text string) {
	m.dropped = append(m.dropped, Drop{code, len(m.turns) + len(m.dropped) + 1, shorten(text)})
}

func shorten(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// end finishes the turn at hand.
func (m *machine) end() {
	t := m.current
	if m.current = nil; t == nil {
		return
	}
	m.inAside = false
	content, _ := t.finish(false, m.notes)
	m.keep(t, content)
}

// keep appends a turn, or drops it with its code.
func (m *machine) keep(t *turn, content string) {
	code := m.cast.hollow(content)
	if code == CodeEmptyTurn && t.out.Direction != "" {
		code = CodePlaceholder
	}
	if code == "" && m.example[letters(content)] {
		code = CodePromptEcho
	}
	if code != "" {
		m.drop(code, t.head.raw+": "+content)
		return
	}
	out := t.out
	out.Content = content
	out.Role, out.Action = t.head.raw, m.card.Speak()
	if t.head.known {
		out.Role = t.head.speaker.Name
	}
	if out.Role != t.head.raw {
		out.RoleRaw = t.head.raw
	}
	action := strings.ToLower(t.action)
	if strings.Contains(action, "생각") || strings.Contains(action, "thinking") {
		out.Action = m.card.Think()
	}
	if t.action != "" && action != out.Action && !isActionWord(action) {
		out.ActionRaw = t.action
	}
	m.remarks(&out)
	m.turns = append(m.turns, out)
}

// remarks counts what is kept as it is, but worth knowing.
func (m *machine) remarks(t *raw.Turn) {
	for _, mark := range []struct {
		note string
		is   bool
	}{
		{"role_resolved", t.RoleRaw != ""}, {"action_other", t.ActionRaw != ""}, {"direction", t.Direction != ""},
		{"direction_inside", insideAside(t.Content)}, {"long_line", utf8.RuneCountInString(t.Content) > 500},
		{"no_space_after_mark", tightMark(t.Content)},
	} {
		if mark.is {
			m.notes[mark.note]++
		}
	}
}

func insideAside(s string) bool {
	for _, pair := range []string{"()", "（）", "**"} {
		first, last := string([]rune(pair)[0]), string([]rune(pair)[1])
		if at := strings.Index(s, first); at >= 0 && strings.Contains(s[at+len(first):], last) {
			return true
		}
	}
	return false
}

// tightMark finds a comma or sentence end with a letter right behind it.
func tightMark(s string) bool {
	mark := false
	for _, r := range s {
		if mark && unicode.IsLetter(r) {
			return true
		}
		mark = strings.ContainsRune(",!?", r)
	}
	return false
}
