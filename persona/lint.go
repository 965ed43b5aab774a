package persona

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Contradiction is a text that a fact on the card excludes.
type Contradiction struct {
	Fact   string `json:"fact"` // the question
	Reject string `json:"reject"`
	Where  string `json:"where"` // "persona" or "profile"
	Line   int    `json:"line"`  // of the card or of the profile's file
	Other  string `json:"other"` // what the other source says: an accepted text, "" if it says nothing
	Text   string `json:"text"`  // the sentence
}

// String is one line for a person.
func (c Contradiction) String() string {
	text := fmt.Sprintf("%s line %d: %q contradicts the fact %q (reject: %s)", c.Where, c.Line, c.Text, c.Fact, c.Reject)
	if c.Other != "" {
		text += fmt.Sprintf("; elsewhere: %q", c.Other)
	}
	return text
}

// denials make a sentence say that something is not so.
var denials = []string{"않", "아니", "없", "못", "말고", "not", "never", "n't", "no"}

// LintFacts looks for what the facts on the card exclude, in the persona text and in the profile (nil: the persona
// only). A sentence that denies it is no contradiction.
func (c *Card) LintFacts(p *Profile) (found []Contradiction) {
	type source struct {
		where string
		line  int
		text  string
	}
	var sources []source
	line := c.lines["persona"]
	for i, text := range strings.Split(c.Persona, "\n") {
		sources = append(sources, source{"persona", line + min(i+1, strings.Count(c.Persona, "\n")+1), text})
	}
	if strings.Count(c.Persona, "\n") == 0 && len(sources) == 1 {
		sources[0].line = line
	}
	if p != nil {
		for _, paragraph := range p.Paragraphs {
			sources = append(sources, source{"profile", paragraph.Line, paragraph.Text})
		}
	}
	for _, fact := range c.Facts {
		for _, reject := range fact.Reject {
			for _, s := range sources {
				for _, sentence := range Sentences(s.text) {
					if !Word(sentence, reject, false) || denied(sentence) {
						continue
					}
					other := ""
					for _, o := range sources {
						if other == "" && o.where != s.where {
							other = sentenceWith(o.text, fact.Accept)
						}
					}
					found = append(found, Contradiction{fact.Question, reject, s.where, s.line, other, sentence})
				}
			}
		}
	}
	return found
}

func denied(sentence string) bool {
	return slices.ContainsFunc(denials, func(d string) bool {
		if d[0] < 0x80 && d != "n't" {
			return Word(sentence, d, true)
		}
		return strings.Contains(sentence, d)
	})
}

func sentenceWith(text string, words []string) string {
	for _, sentence := range Sentences(text) {
		for _, w := range words {
			if Word(sentence, w, false) {
				return sentence
			}
		}
	}
	return ""
}

// SentenceEnd are the marks that end a sentence; closing quotes and brackets may follow.
const SentenceEnd = ".!?。！？…"

const closing = "\"'”’」』)）]*"

// Sentences splits text at sentence ends and line ends. Ends belong to their sentence; a number such as 3.5 and
// dots inside a word do not end one.
func Sentences(text string) (out []string) {
	add := func(s string) {
		if s = strings.TrimSpace(s); strings.ContainsFunc(s, isLetter) {
			out = append(out, s)
		}
	}
	start, ended := 0, false
	for i, r := range text {
		switch {
		case r == '\n':
			add(text[start:i])
			start, ended = i, false
		case strings.ContainsRune(SentenceEnd, r):
			ended = true
		case ended && unicode.IsSpace(r):
			add(text[start:i])
			start, ended = i, false
		case ended && !strings.ContainsRune(closing, r):
			ended = false
		}
	}
	add(text[start:])
	return out
}

// CutSentence is text up to the end of its last whole sentence, "" if there is none.
func CutSentence(text string) string {
	end := 0
	runes := []rune(text)
	for i, r := range runes {
		if !strings.ContainsRune(SentenceEnd, r) {
			continue
		}
		at := i + 1
		for at < len(runes) && strings.ContainsRune(SentenceEnd+closing, runes[at]) {
			at++
		}
		if at == len(runes) || unicode.IsSpace(runes[at]) {
			end = at
		}
	}
	return strings.TrimSpace(string(runes[:end]))
}
