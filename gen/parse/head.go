package parse

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/persona"
)

// maxAction is the length of the longest action in a head, in code points: longer text in brackets is prose.
const maxAction = 100

// head is a line, or the begin of one, that says who speaks.
type head struct {
	speaker   persona.Speaker
	known     bool   // on the card
	unnamed   bool   // 캐릭터1
	raw       string // the speaker as written
	action    string // in brackets, as written; "" if there is none
	direction string // what a second bracket says
	text      string // the utterance, if it begins on the line
	colon     bool
}

// cast finds people of a card at the begin of lines.
type cast struct {
	card    *persona.Card
	byFirst map[rune][]castName // the longest first
}

type castName struct {
	key     string // as persona.NameKey gives it
	speaker persona.Speaker
}

func newCast(card *persona.Card) *cast {
	c := &cast{card: card, byFirst: map[rune][]castName{}}
	for key, speaker := range card.Speakers() {
		first, _ := utf8.DecodeRuneInString(key)
		c.byFirst[first] = append(c.byFirst[first], castName{key, speaker})
	}
	for _, names := range c.byFirst {
		slices.SortFunc(names, func(a, b castName) int {
			if d := len(b.key) - len(a.key); d != 0 {
				return d
			}
			return strings.Compare(a.key, b.key)
		})
	}
	return c
}

// name takes the name of somebody on the card off the begin of s. A polite 님 or 씨 goes with it.
func (c *cast) name(s string) (speaker persona.Speaker, raw, rest string, ok bool) {
	first, _ := utf8.DecodeRuneInString(s)
	for _, n := range c.byFirst[unicode.ToLower(first)] {
		rest, ok := cutFold(s, n.key)
		if !ok {
			continue
		}
		for _, polite := range []string{"님", " 님", "씨", " 씨"} {
			if after, cut := strings.CutPrefix(rest, polite); cut && !startsWord(after) {
				rest = after
				break
			}
		}
		if !startsWord(rest) || ownThought.MatchString(rest) {
			return n.speaker, s[:len(s)-len(rest)], rest, true
		}
	}
	return persona.Speaker{}, "", s, false
}

func startsWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

// cutFold cuts a prefix whatever its case; a space in it stands for one or more.
func cutFold(s, key string) (string, bool) {
	for key != "" {
		k, n := utf8.DecodeRuneInString(key)
		r, m := utf8.DecodeRuneInString(s)
		if s == "" || r != k && unicode.ToLower(r) != k {
			return "", false
		}
		s, key = s[m:], key[n:]
		if k == ' ' {
			s = strings.TrimLeft(s, " ")
		}
	}
	return s, true
}

// actionWords are what heads call speaking and thinking.
var actionWords = []string{"말하기", "생각하기", "생각", "speaking", "thinking"}

func isActionWord(s string) bool { return slices.Contains(actionWords, strings.ToLower(plain(s))) }

// particles of Korean that may stand behind a bracket in prose.
var particles = []string{"은", "는", "이", "가", "을", "를", "의", "에", "에게", "께서", "와", "과", "도", "만", "로", "으로", "이라는", "라는", "처럼", "하고", "까지", "부터", "랑", "이랑", "에서", "에는", "이며", "이고", "입니다", "이다"}

// particleFirst tells whether s goes on with a particle.
func particleFirst(s string) bool {
	word := s
	if at := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) }); at >= 0 {
		word = s[:at]
	}
	return slices.Contains(particles, word)
}

// decoration is what may stand around a head.
const decoration = " *_`~\"“”'‘’「」『』"

var numbering = regexp.MustCompile(`^(?:\(?\d{1,3}[.)]|\d{1,3}\s*⃣|[①-⑳])\s*`)

// metaPrefix is what generators write before a head: the number of the turn.
var metaPrefix = regexp.MustCompile(`^[(\[]?(?i:(?:대화\s*)?턴\s*#?\d+|(?:turn|dialogue|exchange)\s*#?\d+|(?:첫|두|세|네|다섯|여섯|일곱|여덟|아홉|열|\d+)\s*번?째\s*(?:대화|턴)|추가\s*대화(?:\s*예시)?|대화(?:\s*시작)?)\s*[:：.)\]\-–—|]*\s*`)

// undress takes off what stands before a head: list marks, numbers, quotes, brackets, emphasis, emoji, and the
// number of a turn.
func undress(s string) string {
	for {
		before := s
		s = strings.TrimLeft(s, decoration+"#>[【<-–—+•·◦▪■●○◆▶★:：")
		if s == "" {
			return s
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case isEmoji(r):
			s = s[n:]
		case r >= '0' && r <= '9' || r == '(' || r >= '①' && r <= '⑳':
			if m := numbering.FindString(s); m != "" {
				s = s[len(m):]
			} else if m := metaPrefix.FindString(s); len(m) < len(s) {
				s = s[len(m):]
			}
		case strings.ContainsRune("턴대첫두세네다여일아열추tTdDeE", r):
			if m := metaPrefix.FindString(s); len(m) < len(s) {
				s = s[len(m):]
			}
		}
		if s == before {
			return s
		}
	}
}

// head reads a line as a head of somebody on the card, or of a speaker without a name.
func (c *cast) head(line string) (head, bool) {
	if t := strings.TrimSpace(line); strings.HasPrefix(t, ":") || strings.HasPrefix(t, "：") {
		return head{}, false
	}
	s := undress(line)
	if strings.HasPrefix(s, "(") || strings.HasPrefix(s, "（") { // (Name speaking)
		inner, rest, ok := cutGroup(s)
		if !ok || strings.Trim(rest, decoration+":：") != "" {
			return head{}, false
		}
		h, ok := c.spoken(inner)
		return h, ok && h.action != ""
	}
	if speaker, raw, rest, ok := c.name(s); ok {
		h := head{speaker: speaker, known: true, raw: strings.TrimSpace(raw)}
		return h, h.tail(rest, c)
	}
	if m := unnamed.FindString(s); m != "" {
		h := head{unnamed: true, raw: m}
		return h, h.tail(s[len(m):], c)
	}
	return head{}, false
}

var unnamed = regexp.MustCompile(`^(?i:캐릭터|등장인물|인물|화자|character|speaker|person)\s?[#]?(?:\d{1,2}|[A-Z]\b)`)

// spoken reads "Name speaking".
func (c *cast) spoken(s string) (head, bool) {
	speaker, raw, rest, ok := c.name(s)
	h := head{speaker: speaker, known: true, raw: strings.TrimSpace(raw)}
	if rest = strings.TrimSpace(rest); !ok || !isActionWord(rest) {
		return head{}, false
	}
	h.action = rest
	return h, true
}

// tail reads what follows the name, and says whether that makes the line a head.
func (h *head) tail(s string, c *cast) bool {
	if strings.HasPrefix(strings.TrimLeft(s, " "), `\:`) {
		return false
	}
	s = trimEmoji(s)
	groups, space := 0, false
	if rest := strings.TrimLeft(strings.TrimLeft(s, decoration), "]】>"); len(rest) < len(strings.TrimLeft(s, decoration)) {
		groups, space = 1, strings.HasPrefix(strings.TrimLeft(rest, "*_"), " ") // the bracket around the name closes
		s = rest
	}
	s = strings.TrimLeft(s, decoration+"]】>")
	for groups < 4 {
		inner, rest, ok := cutGroup(s)
		if !ok {
			break
		}
		if utf8.RuneCountInString(inner) > maxAction {
			return false
		}
		groups++
		h.group(plain(inner), c)
		after := strings.TrimLeft(rest, "*_`")
		space = strings.HasPrefix(after, " ")
		s = trimEmoji(strings.TrimLeft(strings.TrimLeft(after, "]】>"), " ")) // an asterisk behind the space begins a direction
	}
	if m := ownThought.FindString(s); m != "" && groups == 0 {
		h.action, h.text, h.colon = "생각", strings.TrimLeft(s[len(m):], " *"), true
		return true
	}
	if groups == 0 {
		s = h.actionWord(s)
	}
	if rest, ok := cutColon(s); ok {
		h.text, h.colon = strings.TrimLeft(rest, " "), true
		return true
	}
	if strings.Trim(s, decoration+"]】>|\\") == "" {
		return true
	}
	if groups == 0 || particleFirst(s) {
		return false
	}
	h.text = s
	first, _ := utf8.DecodeRuneInString(s)
	return space || strings.ContainsRune("\"“‘「『", first) || isActionWord(h.action)
}

// trimEmoji takes emoji off the begin of s if the head goes on or ends behind them; before an utterance they are its own.
func trimEmoji(s string) string {
	rest := strings.TrimLeftFunc(s, func(r rune) bool { return isEmoji(r) || strings.ContainsRune(decoration, r) })
	if !strings.ContainsFunc(s[:len(s)-len(rest)], isEmoji) || rest != "" && !strings.ContainsAny(rest[:1], ":([") && !strings.HasPrefix(rest, "：") && !strings.HasPrefix(rest, "（") {
		return s
	}
	return rest
}

func isEmoji(r rune) bool {
	return unicode.Is(unicode.So, r) || r >= 0x1f000 && r < 0x20000 || r == 0x200d || r >= 0xfe00 && r <= 0xfe0f
}

// group takes a bracket behind the name: an action, another name of the speaker, or a direction.
func (h *head) group(inner string, c *cast) {
	switch _, isName := c.card.Speaker(inner); {
	case isName && h.action == "":
	case h.action == "":
		h.action = inner
	case isActionWord(inner): // the first was another name
		h.action = inner
	default:
		h.direction = inner
	}
}

// ownThought is "the character's thought:" in place of an action.
var ownThought = regexp.MustCompile(`^의\s*(?:속\s*)?(?:마음|생각)\s*(?:속)?[*_]*\s*[:：]`)

// actionWord takes "speaking" without brackets, if the head ends behind it.
func (h *head) actionWord(s string) string {
	for _, word := range actionWords {
		rest, ok := cutFold(s, word)
		if !ok || startsWord(rest) {
			continue
		}
		rest = strings.TrimLeft(rest, decoration)
		if _, colon := cutColon(rest); colon || rest == "" {
			h.action = word
			return rest
		}
	}
	return s
}

// cutColon takes off the mark between speaker and utterance, with the emphasis that ends there.
func cutColon(s string) (string, bool) {
	for _, mark := range []string{":", "：", "—", "–"} {
		if rest, ok := strings.CutPrefix(s, mark); ok {
			rest = strings.TrimLeft(rest, ":：")
			for _, m := range []string{"**", "__", "*"} {
				if after, ok := strings.CutPrefix(rest, m); ok && (after == "" || after[0] == ' ' || strings.Count(rest, m)%2 == 1) {
					return after, true
				}
			}
			return rest, true
		}
	}
	return s, false
}
