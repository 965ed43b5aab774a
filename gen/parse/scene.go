package parse

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Scene is a parsed scene, with the keys of the parsed file.
type Scene struct {
	Type       string `json:"type"`
	Location   string `json:"location"`
	Background string `json:"background"`
	Source     string `json:"source"`
	Profile    string `json:"profile"`
	Title      string `json:"title,omitempty"`
}

// SceneReply is what was read of one reply.
type SceneReply struct {
	Scenes  []Scene // without Source
	Code    string  // why the whole reply is rejected, "" if it is not
	Dropped []Drop
	Notes   map[string]int
}

var (
	sceneHead  = regexp.MustCompile(`^(?i:제?\s*(?:장면|scene)\s*#?\s*(\d{1,3})\s*(?:장면)?|제\s*(\d{1,3})\s*장면)\s*([\])】]|\*\*)*\s*(?:[:：.)\-–—]\s*(.*)|\((.*)\)\s*[:：]?|)$`)
	sceneRange = regexp.MustCompile(`^(?i:제?\s*(?:장면|scenes?)\s*#?\s*\d{1,3}\s*(?:번)?\s*(?:부터|에서|~|〜|-|–|—|to|through|and)\s*(?:(?:제?\s*장면|scene)\s*)?#?\d{1,3}|나머지\s*장면|이하\s*생략|\(?\s*(?:중략|이하\s*생략|생략)\s*\)?$|\.\.\.\s*\(?(?:계속|생략))`)
	sceneLabel = regexp.MustCompile(`^(?i:(유형|종류|type)|(장소|위치|location|place)|(배경|상황|background))\s*(?:([\])】]|\*\*|__)\s*[:：]?|[*_]*\s*[:：])\s*(.*)$`)
	sceneBare  = regexp.MustCompile(`^(?i:(유형|type)|(장소|위치|location)|(배경|상황|background))$`)
	remark     = regexp.MustCompile(`^(?i:이상(?:으로|입니다|의|,|\s)|위(?:의)?\s|이와\s*같이|이러한|이\s*(?:장면들|\d+개)|총\s*\d+\s*개|모든\s*장면|각\s*장면|장면들은|참고|주의|note|these\s+scenes|this\s+concludes|i\s+hope|let\s+me\s+know|더\s*필요|추가로|필요하시면|도움이|※)`)
	contextual = regexp.MustCompile(`(?s)(?:맥락\s*[:：]|(?i:context)\s*:)\s*(.*?)\s*(?:위의\s*맥락|(?i:imagine))`)
)

// Scenes reads a raw scene row.
func (p *Parser) Scenes(r *raw.Row) SceneReply {
	reply := string(r.Completions)
	m := &sceneMachine{cutOff: r.DoneReason == "length", notes: map[string]int{}}
	out := SceneReply{Notes: m.notes}
	switch trimmed := strings.TrimSpace(reply); {
	case r.Failed():
		out.Code = CodeCheckFailed
	case trimmed == "":
		out.Code = CodeEmpty
	case Degenerate(trimmed):
		out.Code = CodeDegenerate
	}
	if out.Code != "" {
		return out
	}
	if !m.structured(reply) {
		m.read(Clean(reply))
	}
	m.end()
	m.cut()
	out.Scenes, out.Dropped = m.scenes, m.dropped
	if len(m.scenes)+len(m.dropped) == 0 {
		out.Code = CodeNoScenes
		if refusal.MatchString(reply) {
			out.Code = CodeRefusal
		}
	}
	profile := r.Profile
	if profile == "" {
		profile = Paragraph(r.Prompt)
	}
	for i := range out.Scenes {
		out.Scenes[i].Profile = profile
		if !slices.Contains(p.card.SceneTypes, out.Scenes[i].Type) {
			count(out.Notes, "unknown_type", 1)
		}
	}
	return out
}

// Paragraph is the profile's paragraph in a scene prompt, "" if the prompt does not have its anchors.
func Paragraph(prompt string) string {
	if m := contextual.FindStringSubmatch(prompt); m != nil {
		return m[1]
	}
	return ""
}

// sceneKind are the keys of a scene.
type sceneField int

const (
	noField sceneField = iota
	typeField
	locationField
	backgroundField
)

type sceneMachine struct {
	cutOff   bool
	notes    map[string]int
	scenes   []Scene
	dropped  []Drop
	whole    []bool // by scene, whether its background ends as a sentence does
	open     bool   // a scene has begun
	headings bool
	fields   [4][]string
	set      [4]bool
	title    string
	field    sceneField
	gap      bool // an empty line came before
}

func (m *sceneMachine) read(text string) {
	for t := range strings.SplitSeq(text, "\n") {
		if s := strings.TrimSpace(t); s == "" || strings.Trim(s, "#*_> ") == "" && !strings.Contains(s, "**") {
			m.gap = true
			if rule.MatchString(s) {
				m.field = noField
			}
		} else if rule.MatchString(s) {
			m.field, m.gap = noField, true
		} else {
			m.line(s)
			m.gap = false
		}
	}
}

// naked is a line without the marks before it, and a bracket that opens there.
func naked(s string) string {
	s = strings.TrimLeft(s, " #>*_-+•·`[【")
	return strings.TrimLeft(s[len(numbering.FindString(s)):], " *_[【")
}

func (m *sceneMachine) line(t string) {
	s := naked(t)
	trimmed := strings.TrimRight(s, " *_`")
	switch {
	case sceneRange.MatchString(trimmed):
		m.end()
		m.drop(CodeAbbreviated, t)
	case sceneHead.MatchString(trimmed):
		m.heading(sceneHead.FindStringSubmatch(trimmed))
	case sceneLabel.MatchString(s):
		m.label(sceneLabel.FindStringSubmatch(s))
	case sceneBare.MatchString(strings.TrimRight(trimmed, "]】")) && (m.open || len(t) > len(s)):
		f := sceneBare.FindStringSubmatch(strings.TrimRight(trimmed, "]】"))
		m.label([]string{"", f[1], f[2], f[3], "", ""})
	case m.gap && remark.MatchString(s):
		m.field = noField
		count(m.notes, CodeCloser, 1)
	case m.field != noField:
		m.put(m.field, t)
	}
}

func (m *sceneMachine) heading(parts []string) {
	m.end()
	m.open, m.headings = true, true
	title := plain(parts[4] + parts[5])
	title = strings.Trim(title, "[]【】\"“”'‘’ ")
	if f := sceneLabel.FindStringSubmatch(title); f != nil { // "장면 1: 유형: 일상"
		m.label(f)
		return
	}
	m.title = title
}

func (m *sceneMachine) label(parts []string) {
	field := noField
	for i, f := range []sceneField{typeField, locationField, backgroundField} {
		if parts[i+1] != "" {
			field = f
		}
	}
	again := m.set[field] && (!m.headings || field == typeField)
	if again || !m.headings && m.set[backgroundField] && field != backgroundField {
		m.end()
	}
	m.open, m.field, m.set[field] = true, field, true
	m.put(field, parts[5])
}

// put adds a line to a value.
func (m *sceneMachine) put(field sceneField, t string) {
	if t = plain(strings.Trim(strings.TrimSpace(t), "*_` ")); t != "" {
		m.fields[field] = append(m.fields[field], t)
	}
}

func (m *sceneMachine) drop(code, text string) {
	m.dropped = append(m.dropped, Drop{code, len(m.scenes) + len(m.dropped) + 1, shorten(text)})
}

// end finishes the scene at hand.
func (m *sceneMachine) end() {
	if !m.open {
		m.reset()
		return
	}
	value := func(f sceneField) string { return unquote(squeeze(strings.Join(m.fields[f], " "))) }
	s := Scene{Type: value(typeField), Location: value(locationField), Background: value(backgroundField), Title: m.title}
	m.reset()
	m.take(s)
}

func (m *sceneMachine) reset() {
	*m = sceneMachine{cutOff: m.cutOff, notes: m.notes, scenes: m.scenes, dropped: m.dropped, whole: m.whole, headings: m.headings}
}

// unquote takes off quotation marks around a whole value.
func unquote(s string) string {
	for _, q := range quotes {
		if body, ok := strings.CutPrefix(s, q[0]); ok && len(s) > len(q[0])+len(q[1]) {
			if inner, ok := strings.CutSuffix(body, q[1]); ok && !strings.Contains(inner, q[1]) {
				return strings.TrimSpace(inner)
			}
		}
	}
	return s
}

// take keeps a scene, or drops it with its code.
func (m *sceneMachine) take(s Scene) {
	code := ""
	switch hasLetters := func(s string) bool { return strings.ContainsFunc(s, unicode.IsLetter) }; {
	case !hasLetters(s.Background) || placeholder.MatchString(s.Background):
		code = CodeEmptyBackground
	case !hasLetters(s.Type):
		code = CodeMissingType
	case !hasLetters(s.Location):
		code = CodeMissingLocation
	case incomplete(s.Background):
		code = CodeIncompleteBackground
	}
	if code != "" {
		m.drop(code, s.Title+" "+s.Type+" "+s.Location+" "+s.Background)
		return
	}
	m.scenes = append(m.scenes, s)
	m.whole = append(m.whole, persona.CutSentence(s.Background) == s.Background)
}

// minBackground is the length of the shortest background that tells something, in code points.
const minBackground = 8

// incomplete tells a background that breaks off.
func incomplete(s string) bool {
	last, _ := utf8.DecodeLastRuneInString(s)
	return utf8.RuneCountInString(s) < minBackground || strings.ContainsRune(",:：;(（[—–-", last)
}

// cut drops the last scene if it breaks off: the reply was cut off, or every other scene of it ends as a sentence.
func (m *sceneMachine) cut() {
	n := len(m.scenes)
	if n == 0 || m.whole[n-1] || n > 1 && slices.Contains(m.whole[:n-1], false) && !m.cutOff || !m.cutOff && n < 3 {
		return
	}
	last := m.scenes[n-1]
	m.scenes, m.whole = m.scenes[:n-1], m.whole[:n-1]
	m.drop(CodeTruncated, last.Background)
}

// structured reads a reply that is JSON: {"scenes": [{"type", "location", "background"}]}, or the list alone.
func (m *sceneMachine) structured(reply string) bool {
	n, ok := findJSON(reply)
	if !ok {
		return false
	}
	list := &n
	if n.object {
		if list = n.get("scenes", "scene", "장면", "장면들"); !list.list {
			list = &node{list: true, values: []node{n}}
		}
	}
	for i := range list.values {
		v := &list.values[i]
		text := func(keys ...string) string {
			return squeeze(plain(strings.ReplaceAll(Clean(v.get(keys...).text), "\n", " ")))
		}
		s := Scene{Type: text("type", "유형"), Location: text("location", "장소", "위치"), Background: text("background", "배경", "상황"), Title: text("title", "제목")}
		if !v.complete {
			m.drop(CodeTruncated, s.Background)
			continue
		}
		m.take(s)
	}
	if !n.complete && (len(list.values) == 0 || list.values[len(list.values)-1].complete) {
		m.drop(CodeTruncated, "")
	}
	m.cutOff = false
	for i := range m.whole {
		m.whole[i] = true // every element is closed: nothing was cut off in it
	}
	return true
}
