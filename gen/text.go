package gen

import (
	"regexp"
	"strings"

	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/persona"
)

// marks are what may stand around a heading, key or name in a text answer.
const marks = " \t#*-•>_`\"'[]"

// key and title recognise the lines of a scene, head the begin of a turn. They work on lines whose marks are off.
var (
	title = regexp.MustCompile(`^(장면|[Ss]cene)\s*[0-9]+\s*(?:[:：.)\]*]|$)`)
	key   = regexp.MustCompile(`^(유형|장소|위치|배경|상황|[Tt]ype|[Ll]ocation|[Bb]ackground)[*\]\s]*[:：]?[*\s]*(.*)$`)
	head  = regexp.MustCompile(`^([^(:：]{1,40}?)\s*(?:\(([^()]{0,60})\))?[*\s]*(?:[:：]\s*(.*))?$`)
)

// readTextScenes reads scenes as older generators asked for them. A range of numbers ("장면 11~20") is no scene.
func readTextScenes(text string) (scenes []journal.Scene) {
	field := map[string]func(s *journal.Scene) *string{}
	for names, f := range map[string]func(s *journal.Scene) *string{
		"유형 type": func(s *journal.Scene) *string { return &s.Type }, "장소 위치 location": func(s *journal.Scene) *string { return &s.Location },
		"배경 상황 background": func(s *journal.Scene) *string { return &s.Background },
	} {
		for _, name := range strings.Fields(names) {
			field[name] = f
		}
	}
	var now *string
	for l := range strings.Lines(text) {
		l = strings.Trim(strings.TrimSpace(l), marks)
		if title.MatchString(l) {
			scenes, now = append(scenes, journal.Scene{}), nil
			continue
		}
		m := key.FindStringSubmatch(l)
		switch {
		case len(scenes) == 0 || l == "":
		case m != nil:
			now = field[strings.ToLower(m[1])](&scenes[len(scenes)-1])
			*now = strings.Trim(m[2], marks)
		case now != nil:
			*now = strings.TrimSpace(*now + " " + l)
		}
	}
	return scenes
}

// readText reads a dialogue as older generators asked for it: a background, then turns that begin with a name of the
// cast and what they do.
func readText(c *persona.Card, text string) (d dialogue) {
	var now *string
	for l := range strings.Lines(text) {
		plain := strings.Trim(strings.TrimSpace(l), marks)
		if m := key.FindStringSubmatch(plain); m != nil && len(d.Turns) == 0 && (m[1] == "배경" || strings.EqualFold(m[1], "background")) {
			d.Background = strings.Trim(m[2], marks)
			now = &d.Background
			continue
		}
		if m := head.FindStringSubmatch(plain); m != nil {
			if who, ok := c.Speaker(strings.Trim(m[1], marks)); ok {
				d.Turns = append(d.Turns, turn{Role: who.Name, Action: m[2], Content: strings.Trim(m[3], " \"“”*")})
				now = &d.Turns[len(d.Turns)-1].Content
				continue
			}
		}
		if now != nil && plain != "" {
			*now = strings.TrimSpace(*now + " " + strings.Trim(strings.TrimSpace(l), "\"“”*"))
		}
	}
	return d
}
