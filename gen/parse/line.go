package parse

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind says what a line is, before it is known what it belongs to.
type kind int

const (
	textLine       kind = iota
	blankLine           // nothing, or marks only
	ruleLine            // --- or the like
	headLine            // begins a turn
	narratorLine        // begins narration
	metaLine            // turn numbers, titles: nothing that anybody says
	backgroundLine      // begins the background
	exampleLine         // begins an echo of the prompt's example
	closerLine          // ends the dialogue
	noteLine            // ends the dialogue unless somebody speaks later
)

// line is a line of a reply.
type line struct {
	kind kind
	text string // as in the working copy
	head head   // of a headLine
	rest string // what follows a label
}

var (
	rule       = regexp.MustCompile(`^(?:-{3,}|={3,}|\*{3,}|_{3,}|~{3,}|─{2,}|—{2,}|(?:\* ){2,}\*|(?:- ){2,}-)$`)
	background = regexp.MustCompile(`^(?i:배경\s*설명|상황\s*배경|배경\s*상황|배경|background|setting)\s*(?:\((?:[^)]*)\)|（[^）]*）)?[*_\]】\s]*(?:[:：]|$)`)
	// labelled is the background behind a closing bracket or bold word without a colon.
	labelled = regexp.MustCompile(`^(?:\[(?i:배경|background)\]|【배경】|\*\*(?i:배경|background)\*\*)\s`)
	sceneKey = regexp.MustCompile(`^(?i:유형|장소|위치|상황|type|location|status)[*_\]】\s]*[:：]`)
	example  = regexp.MustCompile(`^(?i:(?:출력|대화)?\s*예시(?:\s*(?:형식|출력))?|출력\s*형식|형식\s*예시|example(?:\s*(?:format|output))?|output\s*format)\s*[*_\]]*\s*[:：]?$`)
	narrator = regexp.MustCompile(`^(?i:내레이션|나레이션|내레이터|나레이터|해설자?|지문|narrator|narration)\s*(?:\([^)]*\))?[*_\]\s]*(?:[:：]|$)`)
	meta     = regexp.MustCompile(`^(?i:(?:대화\s*)?턴\s*(?:수)?\s*[#:：]?\s*\d[^.!?]*|(?:본격적인\s*|실제\s*|본\s*)?대화\s*(?:시작|내용|기록|본문|\d+)?|(?:첫|두|세|네|다섯|여섯|일곱|여덟|아홉|열|\d+)\s*번?째\s*(?:대화|턴|장면)(?:\s*예시)?` +
		`|추가\s*(?:대화|턴)(?:\s*예시)?|현재는\s*\d+\s*번째\s*대화입니다|(?:turn|dialogue|conversation|exchange|round)\s*#?\d*|(?:the\s+)?(?:dialogue|conversation)\s+(?:starts?|begins?|example)|(?:대화\s*)?제목\s*[:：].*|title\s*[:：].*)[\s:：.*_\])-]*$`)
	closer = regexp.MustCompile(`^(?i:end\s+(?:of\s+)?(?:the\s+)?(?:scene|dialogue|conversation)|(?:the\s+)?(?:scene|dialogue|conversation)\s+(?:ends?|over)|the\s+end|대화\s*(?:종료|끝|마침)|장면\s*(?:종료|끝)|(?:대화|장면)[가이]?\s*(?:끝났습니다|끝납니다|종료되었습니다|마무리됩니다)` +
		`|이상입니다|이상으로\s.{0,40}(?:마칩니다|마치겠습니다|마무리합니다|입니다)|이상\s.{0,30}(?:대화|장면)(?:였습니다|이었습니다|입니다))[.!。]?$`)
	closerBracket = regexp.MustCompile(`^[\[(（【]\s*(?i:끝|종료|완|fin|end)\s*[\])）】]$`)
	wordCount     = regexp.MustCompile(`^[\[(（]?\s*(?i:(?:총|약|전체)?\s*(?:글자|단어|턴)\s*수\s*[:：]?\s*(?:총|약)?\s*[\d,]+.*|(?:total\s+)?word\s+count\s*[:：]?\s*[\d,]+.*|(?:총|약)\s*[\d,]+\s*(?:단어|자|글자|턴).{0,20}|[\d,]+\s*(?:단어|글자|words?|characters))\s*[\])）.]*$`)
	note          = regexp.MustCompile(`^(?i:(?:note|참고|참고사항|주의|주의사항|비고|메모|p\.?s\.?)\s*[*_]*\s*[:：]|※)`)
)

// lines classifies every line of a working copy.
func (c *cast) lines(text string) []line {
	all := make([]line, 0, strings.Count(text, "\n")+1)
	for t := range strings.SplitSeq(text, "\n") {
		all = append(all, c.line(t))
	}
	c.strangers(all)
	return all
}

// bare is a line without what marks it: heading and list marks, emphasis, quotes and brackets around it.
func bare(t string) string {
	return strings.TrimRight(strings.TrimLeft(t, " #*_>`-•[(（【"), " *_`])）】")
}

func (c *cast) line(t string) line {
	l := line{text: strings.TrimSpace(t)}
	if l.text == "" || strings.Trim(l.text, "#>*_` ") == "" && !rule.MatchString(l.text) {
		l.kind = blankLine
		return l
	}
	if first := l.text[0]; first < 0x80 && strings.IndexByte("-=*_~", first) >= 0 || strings.HasPrefix(l.text, "─") || strings.HasPrefix(l.text, "—") {
		if rule.MatchString(l.text) {
			l.kind = ruleLine
			return l
		}
	}
	if h, ok := c.head(l.text); ok {
		l.kind, l.head = headLine, h
		return l
	}
	if len(l.text) > 600 && !strings.Contains(l.text[:100], "배경") { // labels are short
		return l
	}
	c.label(&l)
	return l
}

// label finds what generators write beside what people say.
func (c *cast) label(l *line) {
	s := bare(l.text)
	outer := strings.TrimLeft(l.text, " #-•")
	switch {
	case background.MatchString(s):
		l.kind, l.rest = backgroundLine, trimLabel(s[len(background.FindString(s)):], l.text)
	case labelled.MatchString(outer):
		l.kind, l.rest = backgroundLine, outer[len(labelled.FindString(outer)):]
	case example.MatchString(s):
		l.kind = exampleLine
	case narrator.MatchString(s):
		l.kind = narratorLine
	case meta.MatchString(s):
		l.kind = metaLine
	case closer.MatchString(s) || closerBracket.MatchString(l.text) || wordCount.MatchString(strings.Trim(l.text, "*_ ")):
		l.kind = closerLine
	case note.MatchString(strings.TrimLeft(l.text, " *_([#-")):
		l.kind = noteLine
	}
}

// trimLabel is the value behind a label, with the marks at its end that bare has taken off.
func trimLabel(value, whole string) string {
	if at := strings.LastIndex(whole, value); value != "" && at >= 0 {
		value = whole[at:]
	}
	return strings.TrimLeft(value, " *_")
}

// notNames are words before a colon that are no speakers.
var notNames = []string{"배경", "상황", "유형", "장소", "위치", "참고", "주의", "메모", "대화", "장면", "설명", "예시", "형식", "제목", "주제", "시간", "날짜", "등장인물", "요약", "결론", "비고", "감정",
	"note", "background", "type", "location", "status", "scene", "title", "setting", "summary", "example", "p.s", "time", "date", "characters", "for example", "for instance", "theme", "warning", "tip", "answer", "question"}

// stranger is a line that may be the head of somebody who is not on the card.
type stranger struct {
	name string
	head head
	sure bool // the action, or bold type, says so
	bare bool // the name alone
}

// strangers turns lines into heads of people who are not on the card. Those that no action gives away count only
// in a dialogue whose other heads look the same, so that "예를 들면: 사과" stays what somebody says.
func (c *cast) strangers(all []line) {
	counts := map[string]int{}
	colons, others, bares := 0, 0, 0
	found := map[int]stranger{}
	for i := range all {
		switch l := &all[i]; l.kind {
		case headLine:
			switch {
			case l.head.colon && l.head.text != "":
				colons++
			case !l.head.colon && l.head.action == "" && l.head.text == "":
				bares++
			default:
				others++
			}
		case textLine:
			if s, ok := c.stranger(l.text); ok {
				found[i] = s
				counts[s.name]++
			}
		}
	}
	for i, s := range found {
		after := i+1 < len(all) && all[i+1].kind == textLine
		before := i == 0 || all[i-1].kind != textLine || all[i-1].head.raw != ""
		switch {
		case s.sure:
		case s.bare && (bares < 2 || counts[s.name] < 2 || !after || !before):
			continue
		case !s.bare && (counts[s.name] < 2 || !before) && (colons < 2 || others > colons):
			continue
		}
		all[i].kind, all[i].head = headLine, s.head
	}
}

// stranger reads a line as the head of somebody unknown: a short name with an action, in bold, or with a colon.
func (c *cast) stranger(t string) (stranger, bool) {
	s := undress(t)
	end := strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != ' ' && r != '\'' && r != '’' && r != '-' && r != '/'
	})
	if end < 0 {
		end = len(s)
	}
	name := strings.TrimSpace(s[:end])
	words := strings.Count(name, " ") + 1
	if n := utf8.RuneCountInString(name); n == 0 || n > 20 || words > 3 || !strings.ContainsFunc(name, unicode.IsLetter) {
		return stranger{}, false
	}
	if isNoName(name) {
		return stranger{}, false
	}
	h := head{raw: name}
	bold := strings.HasPrefix(strings.TrimLeft(t, " #-"), "**")
	if !h.tail(s[end:], c) {
		if word, ok := cutAction(name); ok {
			h = head{raw: word[0], action: word[1]}
			return stranger{name: word[0], head: h, sure: true}, h.tail(s[end:], c)
		}
		return stranger{}, false
	}
	r := stranger{name: name, head: h}
	switch {
	case isActionWord(h.action):
		r.sure = true
	case bold && (h.colon || h.action != ""):
		r.sure = true
	case h.action != "" && h.text == "" && words <= 2:
		r.sure = !strings.ContainsAny(h.action, ".!?") && strings.HasPrefix(strings.TrimLeft(s[end:], decoration), "(") && looksActed(h.action)
	case !h.colon && h.action == "":
		r.bare = true
	}
	return r, true
}

// looksActed tells what somebody does from an explanation in brackets.
func looksActed(action string) bool {
	for _, end := range []string{"며", "면서", "듯", "듯이", "채", "로", "게", "고", "히", "ing", "ly"} {
		if strings.HasSuffix(action, end) || strings.Contains(action, "ing ") {
			return true
		}
	}
	return false
}

func isNoName(name string) bool {
	low := strings.ToLower(name)
	for _, n := range notNames {
		if low == n || strings.HasPrefix(low, n+" ") {
			return true
		}
	}
	for _, end := range []string{"은", "는", "을", "를", "면", "요", "다", "죠", "서", "까", "네", "지만", "처럼", "에게", "하고", "으로"} {
		if strings.HasSuffix(name, end) && utf8.RuneCountInString(name) > 2 {
			return true
		}
	}
	return false
}

// cutAction splits "늑대 말하기".
func cutAction(name string) ([2]string, bool) {
	for _, word := range actionWords {
		if rest, ok := strings.CutSuffix(name, " "+word); ok {
			return [2]string{strings.TrimSpace(rest), word}, true
		}
	}
	return [2]string{}, false
}
