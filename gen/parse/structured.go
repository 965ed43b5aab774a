package parse

import (
	"regexp"
	"strings"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// structured reads a reply that is JSON: {"background", "turns": [{"role", "action", "content"}]}, or the turns
// alone. What is not such JSON is left to be read as text.
func (m *machine) structured(reply string) bool {
	n, ok := findJSON(reply)
	if !ok {
		return false
	}
	turns := &n
	if n.object {
		turns = n.get("turns", "dialogue", "dialogues", "messages", "대화")
	}
	if !turns.list && !n.object || n.object && !turns.list && n.get("background", "배경").text == "" {
		return false
	}
	if !n.complete {
		m.cutOff = true
	}
	if b := n.get("background", "배경"); b.complete {
		for line := range strings.SplitSeq(Clean(b.text), "\n") {
			if line = plain(line); line != "" {
				m.background = append(m.background, line)
			}
		}
	}
	for i := range turns.values {
		v := &turns.values[i]
		content := v.get("content", "utterance", "text", "내용", "발언")
		role, action := v.get("role", "speaker", "name", "화자"), v.get("action", "행동")
		if !role.complete || !content.complete && content.text == "" {
			if !v.complete {
				m.end()
				m.drop(CodeTruncated, role.text+": "+content.text)
			} else {
				m.drop(CodeEmptyTurn, role.text)
			}
			continue
		}
		m.structuredTurn(role.text, action.text, content.text)
	}
	if m.cutOff && len(turns.values) > 0 && turns.values[len(turns.values)-1].get("content", "utterance", "text", "내용", "발언").complete {
		m.end() // the last turn is whole: what was cut off came behind it
	}
	return true
}

// structuredTurn takes a turn whose parts are told apart already.
func (m *machine) structuredTurn(role, action, content string) {
	role, action = plain(Clean(role)), strings.Trim(plain(Clean(action)), "()（）[] ")
	h, ok := m.cast.head(role)
	if !ok || h.text != "" {
		if h = (head{raw: role}); role == "" {
			m.end()
			m.drop(CodeUnknownSpeaker, content)
			return
		}
	}
	if action != "" {
		h.action = action
	}
	content = Clean(content)
	if inner, ok := m.cast.head(firstLine(content)); ok && inner.known && inner.speaker == h.speaker && inner.text != "" {
		content = content[strings.Index(content, inner.text):] // the head again
	}
	h.text = ""
	if m.begin(h); m.current == nil {
		return
	}
	for line := range strings.SplitSeq(content, "\n") {
		if strings.TrimSpace(line) != "" && m.phase == inSpeech {
			m.speech(line)
		}
	}
}

func firstLine(s string) string {
	if at := strings.IndexByte(s, '\n'); at >= 0 {
		return s[:at]
	}
	return s
}

// invented is the question that an older parser put before a dialogue which the user did not begin. Any part of
// it may be missing.
var invented = regexp.MustCompile(`(?s)^(?:.{1,200}에서 )?(?:.{0,60}상황에 대해 )?(?:이 상황\(.{0,100}\.\.\.\) ?)?이야기해\s?줄래\?$`)

// Invented tells whether a turn is that question.
func Invented(content string) bool {
	content = strings.TrimSpace(content)
	return content != "이야기해줄래?" && content != "이야기해 줄래?" && invented.MatchString(content)
}

// item reads an item of a parsed array: ours, or an older parser's with what it left behind.
func (m *machine) item(r *raw.Row) Dialogue {
	for i, t := range r.Dialogue {
		if speaker, ok := m.card.Speaker(t.Role); i == 0 && ok && speaker.Kind == persona.Visitor && Invented(t.Content) {
			m.drop(CodeInventedTurn, t.Role+": "+t.Content)
			continue
		}
		m.structuredTurn(t.Role, t.Action, t.Content)
		if m.current != nil {
			m.restore(t)
		}
	}
	m.end()
	background := r.Background
	if len(r.Setting) > 0 {
		background = r.Setting[0]
	}
	for line := range strings.SplitSeq(Clean(background), "\n") {
		if line = plain(line); line != "" {
			m.background = append(m.background, line)
		}
	}
	return m.result(r.Scene)
}

// restore keeps the side fields that are there already.
func (m *machine) restore(t raw.Turn) {
	out := &m.current.out
	if out.Direction == "" {
		out.Direction = t.Direction
	}
	if t.RoleRaw != "" {
		m.current.head.raw = t.RoleRaw
	}
	if t.ActionRaw != "" {
		m.current.action = t.ActionRaw
		if t.Action == m.card.Think() {
			m.current.action = m.card.Think()
		}
	}
}
