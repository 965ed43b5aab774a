package check

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/persona"
)

// words holds what is looked for in turns, made once for a card.
type words struct {
	names      []string // of the character
	questions  []string // identity questions, their letters
	others     []string // of everybody else on the card, in lower case
	claim      *regexp.Regexp
	leak       *regexp.Regexp
	interjects []string
}

const copula = `(?:이에요|예요|이예요|에요|입니다|이야|야|이랍니다|랍니다|이라고|라고|이라|이죠|죠|이지요|지요|이고|인데)`

func newWords(c *persona.Card) *words {
	w := &words{names: append([]string{c.Name}, c.Aliases...), interjects: []string{"어머", "어머나", "글쎄", "아이고", "안녕", "좋아", "세상에", "맙소사", "하하", "호호"}}
	for _, q := range append(slices.Clone(c.IdentityQuestions), "너는 누구야?", "당신의 이름이 뭐예요?", "안녕 너는 누구야?", "자기소개를 해 주세요") {
		w.questions = append(w.questions, letters(q))
	}
	others := []string{regexp.QuoteMeta(c.User.Name)}
	all := []string{}
	for key, s := range c.Speakers() {
		all = append(all, regexp.QuoteMeta(key))
		if s.Kind == persona.Other {
			others, w.others = append(others, regexp.QuoteMeta(key)), append(w.others, key)
		}
	}
	w.others = append(w.others, strings.ToLower(c.User.Name))
	slices.SortFunc(others, longest)
	slices.SortFunc(all, longest)
	w.claim = regexp.MustCompile(`(?i)(?:^|[\s,])(?:(?:저는|나는|난|전|제가|내가|제 이름은|내 이름은)\s+(?:바로\s+)?(?:` + strings.Join(others, "|") + `)` + copula +
		`|(?:I am|I'm|my name is)\s+(?:the\s+)?(?:` + strings.Join(others, "|") + `)(?:[.,!?]|$))`)
	w.leak = regexp.MustCompile(`(?i)(?:^|\n)[ *#]*(?:` + strings.Join(all, "|") + `)[*]*\s*(?:\(?(?:말하기|생각|speaking|thinking)\)?\s*)?[:：]|(?:사용자|\bUser)\s*(?:말하기)?[:：]`)
	return w
}

func longest(a, b string) int {
	if d := len(b) - len(a); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '가' && r <= '힣' {
			return r
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

var (
	firstPerson  = regexp.MustCompile(`(?:^|[\s"'“‘(,])(?:저|저는|저도|전|제가|제|저를|저에게|저의|저예요|저랍니다|저희|나|나는|난|나도|내가|내|나를|나의|나야|날)(?:[\s,.!?"'”’)~…]|$)|(?i)\b(?:I|I'm|I've|I'll|I'd|me|my|mine|myself)\b`)
	introduced   = regexp.MustCompile(`^(?:님)?` + copula)
	subject      = regexp.MustCompile(`^(?:님)?(?:은|는|이|가|께서는|께서)(?:[\s,]|$)|(?i)^\s+(?:is|was|are|were|has|had|lives?|lived|loves?|loved|does|did|went|goes|can|could|would|will)\b`)
	thirdSubject = regexp.MustCompile(`(?:^|\s)(?:그녀|그 아이|그 소녀|그분|저 아이)(?:은|는|이|가)?(?:\s|$)`)
	selfClaim    = regexp.MustCompile(`^(?:음|네|아|안녕하세요)?[,.!\s]*(?:저는|나는|난|전|제 이름은|내 이름은)\s+\S.{0,20}?(?:이에요|예요|입니다|이야|이랍니다|랍니다|라고 해요|라고 합니다)[.!~]*$`)
	whoKorean    = regexp.MustCompile(`누구(?:야|니|세요|셔요|예요|에요|이에요|이세요|신가요|인가요|신지|인지|입니까|십니까|시죠|죠|냐|신데|시지)`)
	nameKorean   = regexp.MustCompile(`이름(?:이|은|을)?\s*(?:뭐|무엇|뭔|뭘|어떻게|알려|말해|가르쳐|물어)|자기\s*소개|당신을\s*소개|너를\s*소개|네\s*소개|정체가`)
	whoEnglish   = regexp.MustCompile(`(?i)\bwho\s+are\s+you\b|\bwho're\s+you\b|\byour\s+name\b|\bintroduce\s+yourself\b|\btell\s+me\s+(?:about\s+yourself|who\s+you\s+are)\b|\bwhat\s+(?:should|may|can)\s+I\s+call\s+you\b`)
	second       = regexp.MustCompile(`^(?:너는|넌|너|너도|네가|니가|네|당신은|당신이|당신|당신도|그쪽은|그대는|그대|자네는|댁은)$`)
	markdown     = regexp.MustCompile("(?m)\\*\\*|__|```|`[^`\n]+`|^#{1,6}\\s|^\\s*[-*+•]\\s|\\[[^\\]\n]+\\]\\(http")
	direction    = regexp.MustCompile(`\([^)\n]{1,100}\)|（[^）\n]{1,100}）|\*[^*\n]{1,100}\*|\[[^\]\n]{1,100}\]`)
	latinWord    = regexp.MustCompile(`[A-Za-z]+`)
	unsure       = regexp.MustCompile(`모르|몰라|아니|않|처음\s*(?:듣|들)|뭐|무엇|뭔|없|못|\?|(?i:\bnot?\b|n't|never|what)`)
)

// koreanQuestions are forms of identity questions, with words of which each has one: looking for these is faster.
var koreanQuestions = []struct {
	words []string
	form  *regexp.Regexp
}{{[]string{"누구"}, whoKorean}, {[]string{"이름", "소개", "정체"}, nameKorean}}

// ownName tells whether a turn says the own name in the first person or as an introduction, and whether it speaks
// of the character as of somebody else.
func (w *words) ownName(text string) (first, third bool) {
	for _, sentence := range persona.Sentences(text) {
		for _, name := range w.names {
			for _, at := range persona.FindWord(sentence, name, false, -1) {
				rest := sentence[min(at+len(name), len(sentence)):]
				switch {
				case firstPerson.MatchString(sentence):
					first = true
				case introduced.MatchString(rest) && !thirdSubject.MatchString(sentence[:at]):
					first = true
				case subject.MatchString(rest), introduced.MatchString(rest):
					third = true
				}
			}
		}
	}
	return first, third && !first
}

// asksWho tells whether somebody asks who the character is.
func (w *words) asksWho(text string) bool {
	if slices.Contains(w.questions, letters(text)) {
		return true
	}
	for _, sentence := range persona.Sentences(text) {
		if slices.Contains(w.questions, letters(sentence)) || strings.Contains(sentence, "you") && whoEnglish.MatchString(sentence) || strings.Contains(sentence, "You") && whoEnglish.MatchString(sentence) {
			return true
		}
		for _, q := range koreanQuestions {
			if !slices.ContainsFunc(q.words, func(word string) bool { return strings.Contains(sentence, word) }) {
				continue
			}
			if at := q.form.FindStringIndex(sentence); at != nil && w.addressed(sentence[:at[0]]) {
				return true
			}
		}
	}
	return false
}

// addressed tells whether the words before a question leave open, or say, that it is about the one who is asked.
func (w *words) addressed(before string) bool {
	for _, word := range strings.Fields(before) {
		word = strings.Trim(word, ",.!~…\"'“”‘’")
		own := slices.ContainsFunc(w.names, func(name string) bool { return strings.HasPrefix(word, name) })
		if second.MatchString(word) || own || word == "당신의" || word == "너의" {
			return true
		}
		for _, end := range []string{"은", "는", "이", "가", "의", "도", "과", "와", "랑"} {
			if strings.HasSuffix(word, end) && utf8.RuneCountInString(word) > 1 {
				return false
			}
		}
		if slices.Contains([]string{"그", "저", "이", "저기", "제", "내", "우리"}, word) && word != "저기" {
			return false
		}
	}
	return true
}

// wrongPersona tells whether the character says to be somebody else. asked is what was said before; who whether
// that asks who it is.
func (k *checker) wrongPersona(text, asked string, who, named bool) bool {
	lowered := strings.ToLower(text)
	for _, sentence := range persona.Sentences(text) {
		if slices.ContainsFunc(k.words.others, func(name string) bool { return strings.Contains(lowered, name) }) && k.words.claim.MatchString(sentence) {
			return true
		}
		if who && !named && selfClaim.MatchString(sentence) {
			return true
		}
		for _, forbidden := range k.card.Forbidden {
			if persona.Word(sentence, forbidden, false) && !(persona.Word(asked, forbidden, false) && unsure.MatchString(sentence)) {
				return true
			}
		}
	}
	return false
}

// foreign tells whether a text has letters of another script than the card's language, but for names on the card
// and words of what was said before.
func (k *checker) foreign(text, asked string) bool {
	if k.card.Language == "english" {
		return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) })
	}
	if strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsLetter(r) && !unicode.Is(unicode.Hangul, r) && !(r < 0x80)
	}) {
		return true
	}
	if !strings.ContainsFunc(text, func(r rune) bool { return r < 0x80 && unicode.IsLetter(r) }) {
		return false
	}
	for _, word := range latinWord.FindAllString(text, -1) {
		if !persona.Word(asked, word, false) && !slices.ContainsFunc(k.latin, func(allowed string) bool { return strings.EqualFold(allowed, word) }) {
			return true
		}
	}
	return false
}

// honorific tells whether every sentence ends honorifically. Interjections need not.
func (k *checker) honorific(text string) bool {
	if strings.ContainsAny(text, "(（*[") {
		text = direction.ReplaceAllString(text, "")
	}
	for _, sentence := range persona.Sentences(text) {
		s := strings.TrimRightFunc(sentence, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		bare := letters(s)
		if utf8.RuneCountInString(bare) <= 2 || slices.Contains(k.words.interjects, bare) {
			continue
		}
		if !slices.ContainsFunc(k.card.HonorificEndings, func(end string) bool { return strings.HasSuffix(s, end) }) {
			return false
		}
	}
	return true
}

const (
	repeatWords   = 8  // words of a sequence that must not come twice
	repeatLetters = 10 // letters of the shortest sentence that must not
)
