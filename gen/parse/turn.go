package parse

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// turn is a turn while its lines come in.
type turn struct {
	head    head
	action  string // as written
	out     raw.Turn
	lines   []string
	open    string // the line that opened a quotation which is not closed yet, "" if none is open
	close   string
	openAt  int  // the line where it was opened
	closed  bool // the last line of speech was, or ended, a whole quotation
	started bool // a line that is no direction has come
}

// quotes are the marks around a whole utterance.
var quotes = [][2]string{{"\"", "\""}, {"“", "”"}, {"”", "”"}, {"‘", "’"}, {"「", "」"}, {"『", "』"}, {"'", "'"}, {"«", "»"}}

// add takes a line of the utterance; false means that it is narration.
func (t *turn) add(s string) bool {
	if s = plain(s); s == "" {
		return true
	}
	if t.open != "" {
		t.goOn(s)
		return true
	}
	if !t.started {
		if s = t.directions(s); s == "" {
			return true
		}
	} else if wholeAside(s) {
		return false
	}
	for _, q := range quotes {
		if body, ok := strings.CutPrefix(s, q[0]); ok {
			t.quoted(s, body, q)
			return true
		}
	}
	if t.closed {
		return false
	}
	t.started = true
	t.lines = append(t.lines, s)
	return true
}

// goOn takes a line inside an open quotation.
func (t *turn) goOn(s string) {
	if body, ok := strings.CutSuffix(s, t.close); ok {
		s, t.open, t.closed = strings.TrimSpace(body), "", true
	}
	if s != "" {
		t.lines = append(t.lines, s)
	}
}

// quoted takes a line that begins with a quotation mark.
func (t *turn) quoted(s, body string, q [2]string) {
	inner, ends := strings.CutSuffix(body, q[1])
	switch {
	case ends && !strings.Contains(inner, q[1]) && !strings.Contains(inner, q[0]):
		t.closed = true
		if s = strings.TrimSpace(inner); !t.started {
			s = t.directions(s)
		}
	case !ends && !strings.Contains(body, q[1]):
		t.open, t.close, t.openAt = s, q[1], len(t.lines)
		if s = strings.TrimSpace(body); s == "" {
			s = t.open
		}
	default:
		t.closed = ends
	}
	if s != "" {
		t.started = true
		t.lines = append(t.lines, s)
	}
}

// directions moves stage directions, and the action, from the begin of an utterance to their fields.
func (t *turn) directions(s string) string {
	for {
		inner, rest, ok := cutGroup(s)
		if !ok && strings.HasPrefix(s, "*") {
			if at := strings.IndexByte(s[1:], '*'); at > 0 {
				inner, rest, ok = s[1:1+at], s[at+2:], true
			}
		}
		if !ok || particleFirst(rest) || utf8.RuneCountInString(inner) > 3*maxAction {
			return s
		}
		if inner = squeeze(strings.Trim(inner, "* ")); isActionWord(inner) {
			t.action = inner
		} else if inner != "" {
			t.direct(inner)
		}
		s = strings.TrimSpace(strings.TrimLeft(rest, ":："))
	}
}

func (t *turn) direct(text string) {
	if t.out.Direction != "" {
		text = t.out.Direction + "; " + text
	}
	t.out.Direction = text
}

// wholeAside tells a line wholly in brackets or asterisks.
func wholeAside(s string) bool {
	if inner, rest, ok := cutGroup(s); ok && strings.Trim(rest, " .") == "" {
		return inner != ""
	}
	return len(s) > 2 && s[0] == '*' && s[len(s)-1] == '*' && strings.Count(s, "*") == 2
}

// soleAction tells a line that is nothing but an action word in brackets, or that begins with one.
func soleAction(s string) (action, rest string, ok bool) {
	inner, rest, ok := cutGroup(plain(s))
	if !ok || !isActionWord(inner) || particleFirst(rest) {
		return "", "", false
	}
	return inner, strings.TrimSpace(strings.TrimLeft(rest, ":： ")), true
}

// quoteWord is a word that a prompt's wording has made generators write in place of quotation marks.
const quoteWord = "따옴표"

// cutQuoteWord takes the word off the edges where it stands alone, and counts.
func cutQuoteWord(s string) (string, int) {
	n := 0
	for {
		if rest, ok := strings.CutPrefix(s, quoteWord); ok && !startsWord(rest) {
			s, n = strings.TrimLeft(rest, " :,\n"), n+1
		} else if rest, ok := strings.CutSuffix(s, quoteWord); ok && !endsWord(rest) {
			s, n = strings.TrimSpace(rest), n+1
		} else {
			return s, n
		}
	}
}

func endsWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return s != "" && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// finish gives the content, cut at its last sentence end if it was cut off.
func (t *turn) finish(cutOff bool, notes map[string]int) (content string, cut bool) {
	if t.open != "" && t.openAt < len(t.lines) && !cutOff { // never closed: it was no quotation of the whole
		t.lines[t.openAt] = t.open
	}
	content = strings.Join(t.lines, "\n")
	if strings.Contains(content, quoteWord) {
		var n int
		content, n = cutQuoteWord(content)
		count(notes, "quote_word", n)
	}
	if cutOff {
		whole := persona.CutSentence(content)
		return whole, whole != content
	}
	return content, false
}

func count(m map[string]int, key string, n int) {
	if n > 0 {
		m[key] += n
	}
}

var (
	placeholder = regexp.MustCompile(`^[\[({<"“'\s]*(?i:(?:(?:상세한|구체적인|자세한)\s*)?(?:발언|대사|내면의\s*생각|내면\s*생각|배경\s*설명)(?:\s*내용)?|(?:상세한|구체적인|자세한)\s*(?:생각|배경|내용|대화|말)` +
		`|detailed\s+(?:utterance|speech|background|thoughts?|dialogue|inner\s+thoughts?)|(?:utterance|speech|dialogue)\s+here)[\s.…\])}>"”']*$`)
	refusal = regexp.MustCompile(`(?i)(?:언어\s*모델|인공지능\s*(?:모델|어시스턴트)|AI\s*(?:모델|어시스턴트|언어))(?:로서|이기|입니다|이므로|이라)|(?:요청하신|해당|이러한|이런)\s*(?:내용|대화|요청|콘텐츠).{0,30}(?:생성|작성|제공|도와|응답)[^.]{0,20}(?:없습니다|어렵습니다)` +
		`|\bas an? (?:AI|language model)|\bI(?:'m| am) (?:sorry,? (?:but )?)?(?:I )?(?:can(?:'t|not)|unable to) (?:assist|help with|fulfil|create|generate|provide|comply)|\bI can(?:'t|not) (?:assist|help with|fulfil|create|generate|provide|comply)`)
)

// refusalWords are in every refusal: looking for them is faster than the expression.
var refusalWords = []string{"모델", "어시스턴트", "AI", "없습니다", "어렵습니다", "anguage", "can't", "cannot", "unable", "As an", "as an"}

func refuses(s string) bool {
	for _, word := range refusalWords {
		if strings.Contains(s, word) {
			return refusal.MatchString(s)
		}
	}
	return false
}

// hollow gives the code of a content that says nothing, "" if it says something.
func (c *cast) hollow(content string) string {
	switch {
	case content == "":
		return CodeEmptyTurn
	case !strings.ContainsFunc(content, unicode.IsLetter) && !strings.ContainsFunc(content, unicode.IsDigit):
		return CodePlaceholder
	case placeholder.MatchString(content):
		return CodePlaceholder
	case wholeAside(content) && !strings.Contains(content, "\n"), content[0] == '{' && content[len(content)-1] == '}':
		return CodePlaceholder
	case refuses(content):
		return CodeRefusal
	}
	if len(content) < 100 {
		if _, ok := c.card.Speakers()[persona.NameKey(content)]; ok {
			return CodePlaceholder
		}
	}
	return ""
}

// echoes are the utterances of the example in a prompt, by their letters.
func (c *cast) echoes(prompt string) map[string]bool {
	var out map[string]bool
	waiting := false
	for t := range strings.SplitSeq(prompt, "\n") {
		if t = strings.TrimSpace(t); t == "" {
			continue
		}
		h, ok := c.head(t)
		if !ok {
			if s, isStranger := c.stranger(t); isStranger && s.sure {
				h, ok = s.head, true
			}
		}
		text := t
		if ok {
			text = h.text
		}
		if (ok || waiting) && text != "" {
			if key := letters(text); len(key) >= 6 {
				if out == nil {
					out = map[string]bool{}
				}
				out[key] = true
			}
		}
		waiting = ok && text == ""
	}
	return out
}

// letters is what two spellings of an utterance have in common.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '가' && r <= '힣', r >= 'a' && r <= 'z':
			return r
		case r == ' ' || r == '\n' || r == '.':
			return -1
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

const laughter = "ㅋㅎㅠㅜ하호히헤흐"

// Degenerate tells a text that a generator wrote while stuck: one letter, or a few, again and again. Marks and
// laughter do not count.
func Degenerate(text string) bool {
	all := []rune(letters(text))
	for period := 1; period <= 8; period++ {
		run := 0
		for i := period; i < len(all); i++ {
			if all[i] != all[i-period] || strings.ContainsRune(laughter, all[i]) {
				run = 0
				continue
			}
			if run++; run >= 20*min(period, 2) || period == 1 && run >= 4 && 2*(run+1) > len(all) {
				return true
			}
		}
	}
	return false
}
