package check

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/persona"
)

// Rules look at single turns as Run does, for whoever has replies and no records.
type Rules struct{ k *checker }

// NewRules makes the rules of a card.
func NewRules(card *persona.Card) *Rules { return &Rules{newChecker(Options{Card: card})} }

func newChecker(o Options) *checker {
	k := &checker{Options: o, card: o.Card, words: newWords(o.Card)}
	for key := range o.Card.Speakers() {
		k.latin = append(k.latin, latinWord.FindAllString(key, -1)...)
	}
	return k
}

// Verdict is what the rules find in a turn of the character.
type Verdict struct {
	OwnName        bool     // says the own name in the first person or as an introduction
	ThirdPerson    bool     // speaks of the character as of somebody else
	WrongPersona   bool     // says to be somebody else, or something forbidden
	ForeignScript  bool     // letters of another script
	UserTurnLeak   bool     // the head of a turn
	Markdown       bool     //
	StageDirection bool     // in brackets or asterisks
	ControlText    bool     // a control token, or the begin of one
	Honorific      bool     // every sentence is; true for a card without honorific endings
	Address        []string // forbidden words by which the user is called
}

// Turn looks at a turn. asked is what was said before it; who says whether that asks who the character is.
func (r *Rules) Turn(text, asked string, who bool) Verdict { return r.k.look(text, asked, who) }

// AsksWho tells whether somebody asks who the character is.
func (r *Rules) AsksWho(text string) bool { return r.k.words.asksWho(text) }

// Introductions are the distinct answers of records to somebody who asks who the character is, in order, at most so many.
func (r *Rules) Introductions(records []persona.Record, most int) (out []string) {
	for i := range records {
		who := false
		for _, t := range r.k.turnsOf(&records[i]) {
			if t.kind == persona.Character && who && len(out) < most && !slices.Contains(out, t.text) {
				out = append(out, t.text)
			}
			who = t.kind == persona.Visitor && r.AsksWho(t.text)
		}
	}
	return out
}

// look is Turn, for Run too.
func (k *checker) look(text, asked string, who bool) Verdict {
	v := Verdict{Honorific: true}
	v.OwnName, v.ThirdPerson = k.words.ownName(text)
	v.WrongPersona = k.wrongPersona(text, asked, who, v.OwnName)
	v.ForeignScript = k.foreign(text, asked)
	v.UserTurnLeak = strings.ContainsAny(text, ":：") && k.words.leak.MatchString(text)
	v.Markdown = strings.ContainsAny(text, "*_`#-+•[") && markdown.MatchString(text)
	v.StageDirection = strings.ContainsAny(text, "(（*[") && direction.MatchString(text)
	v.ControlText = persona.ControlToken(text) != "" || strings.Contains(text, "<|")
	v.Address = Called(text, k.card.User.ForbiddenAddress)
	if len(k.card.HonorificEndings) > 0 {
		v.Honorific = k.honorific(text)
	}
	return v
}

// Affirms tells whether a turn has one of the words without need: a sentence that denies a word of the question, or
// asks about it, may repeat it.
func Affirms(text, asked string, words []string) bool {
	for _, sentence := range persona.Sentences(text) {
		for _, word := range words {
			if persona.Word(sentence, word, false) && !(persona.Word(asked, word, false) && Unsure(sentence)) {
				return true
			}
		}
	}
	return false
}

// Unsure tells whether a text denies something, does not know it, or asks.
func Unsure(text string) bool { return unsure.MatchString(text) }

// Subject tells whether a text has the pronoun of somebody else (그녀 and the like) as a subject, and does not speak
// in the first person.
func Subject(text string) bool {
	return thirdSubject.MatchString(text) && !firstPerson.MatchString(text)
}

// Called gives the words by which the user is called. A mention in a story is none: the word must be set off by a
// mark, end the sentence, or begin it without a particle.
func Called(text string, words []string) (found []string) {
	for _, word := range words {
		called := false
		for _, sentence := range persona.Sentences(text) {
			for _, at := range persona.FindWord(sentence, word, false, -1) {
				rest := strings.TrimPrefix(sentence[min(at+len(word), len(sentence)):], "님")
				next, _ := utf8.DecodeRuneInString(rest)
				called = called || rest == "" || strings.ContainsRune(",.!?~…\"”'’", next) || at == 0 && next == ' '
			}
		}
		if called {
			found = append(found, word)
		}
	}
	return found
}

// Repeats tells whether a sentence of at least so many letters, or a sequence of 8 words, comes twice in a turn, or a
// sentence came in an earlier turn. seen holds those.
func Repeats(text string, seen map[string]bool, least int) bool {
	again := false
	own := map[string]bool{}
	for _, sentence := range persona.Sentences(text) {
		key := letters(sentence)
		if utf8.RuneCountInString(key) < least {
			continue
		}
		again = again || own[key] || seen[key]
		own[key] = true
	}
	all := strings.Fields(text)
	runs := map[string]bool{}
	for i := 0; i+repeatWords <= len(all) && !again; i++ {
		key := strings.Join(all[i:i+repeatWords], " ")
		again = runs[key]
		runs[key] = true
	}
	for key := range own {
		seen[key] = true
	}
	return again
}

// DefaultGates are the limits of a card that does not set them, and those that it sets.
func DefaultGates(card *persona.Card) map[string]float64 {
	return (&checker{card: card}).defaults()
}

// AtLeast tells whether more of a metric is better.
func AtLeast(name string) bool { return slices.Contains(atLeast, name) }
