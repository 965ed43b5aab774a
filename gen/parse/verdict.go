package parse

import (
	"strings"
	"unicode"

	"github.com/persona-gguf/persona-gguf/gen/raw"
)

// cut shortens or drops the last turn of a reply that was cut off.
func (m *machine) cut() {
	t := m.current
	m.current = nil
	if content, cut := t.finish(true, m.notes); cut && content == "" {
		whole, _ := t.finish(false, m.notes)
		m.drop(CodeTruncated, t.head.raw+": "+whole)
	} else {
		if cut {
			count(m.notes, CodeTruncated, 1)
		}
		m.keep(t, content)
	}
}

// result decides about the whole dialogue.
func (m *machine) result(scene *raw.Scene) Dialogue {
	d := Dialogue{Background: strings.Join(m.background, " "), Turns: m.turns, Code: m.code, Dropped: m.dropped, Notes: m.notes}
	if placeholder.MatchString(d.Background) || !strings.ContainsFunc(d.Background, unicode.IsLetter) {
		d.Background = ""
	}
	switch {
	case d.Background != "":
	case scene != nil && scene.Background != "":
		d.Background = squeeze(scene.Background)
		count(d.Notes, "scene_background", 1)
	default:
		d.Background = strings.Join(m.preamble, " ")
	}
	if d.Code == "" {
		d.Code = m.verdict()
	}
	return d
}

func (m *machine) verdict() string {
	own := false
	for _, t := range m.turns {
		own = own || t.Role == m.card.Name
	}
	switch {
	case m.phase == inExample:
		return CodePromptEcho
	case len(m.turns) == 0 && len(m.dropped) == 0:
		return CodeNoTurns
	case len(m.turns) < 2:
		for _, d := range m.dropped { // the commonest cause names the reject
			if d.Code == CodePromptEcho || d.Code == CodeRefusal {
				return d.Code
			}
		}
		return CodeTooFewTurns
	case !own:
		return CodeNoCharacterTurn
	}
	return ""
}
