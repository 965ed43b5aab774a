package persona

import (
	"strings"
	"sync"
	"unicode"
)

// Kind says what part somebody has in a dialogue.
type Kind int

// The kinds of speakers.
const (
	Character Kind = iota // who the card is about
	Visitor               // the user
	Other                 // somebody else of the cast
)

// Speaker is somebody on the card.
type Speaker struct {
	Name string // the canonical name
	Kind Kind
}

// genericUsers are how data of older generators calls the user, whatever the card calls it.
var genericUsers = []string{"사용자", "User"}

// speakers finds people by name; made once per card.
type speakers struct {
	once  sync.Once
	byKey map[string]Speaker
}

// NameKey is what two spellings of a name have in common: no case, and one space where there is some.
func NameKey(name string) string { return strings.ToLower(strings.Join(strings.Fields(name), " ")) }

// Speaker finds who a name or alias on the card belongs to, whatever its case; a polite 님 or 씨 behind the name
// does not matter. 사용자 and User are always the user, unless they are somebody else's name.
func (c *Card) Speaker(name string) (Speaker, bool) {
	all := c.Speakers()
	key := NameKey(name)
	if s, ok := all[key]; ok {
		return s, true
	}
	for _, polite := range []string{"님", "씨"} {
		if rest, ok := strings.CutSuffix(key, polite); ok {
			if s, ok := all[strings.TrimSpace(rest)]; ok {
				return s, true
			}
		}
	}
	return Speaker{}, false
}

// Speakers are all names and aliases, as NameKey gives them. The map must not be changed.
func (c *Card) Speakers() map[string]Speaker {
	c.people.once.Do(func() {
		c.people.byKey = map[string]Speaker{}
		add := func(s Speaker, names ...string) {
			for _, name := range names {
				if key := NameKey(name); key != "" {
					if _, ok := c.people.byKey[key]; !ok {
						c.people.byKey[key] = s
					}
				}
			}
		}
		add(Speaker{c.Name, Character}, append([]string{c.Name}, c.Aliases...)...)
		add(Speaker{c.User.Name, Visitor}, append([]string{c.User.Name}, c.User.Aliases...)...)
		for _, role := range c.Cast {
			add(Speaker{role.Name, Other}, append([]string{role.Name}, role.Aliases...)...)
		}
		add(Speaker{c.User.Name, Visitor}, genericUsers...)
	})
	return c.people.byKey
}

// Word tells whether text has the word at a word's begin, so that 새 is not found in 어느새. What follows is free
// in Korean, where particles do, unless whole wants the word to end there too; in other scripts the word ends.
func Word(text, word string, whole bool) bool { return len(FindWord(text, word, whole, 1)) > 0 }

// FindWord gives where a word begins in text, in bytes, at most n times (all if n < 0); see Word.
func FindWord(text, word string, whole bool, n int) (at []int) {
	if word == "" {
		return nil
	}
	low := text
	if strings.ContainsFunc(word, unicode.IsLower) || strings.ContainsFunc(word, unicode.IsUpper) { // Hangul has no case
		low, word = lower(text), lower(word)
	}
	for from := 0; n < 0 || len(at) < n; {
		i := strings.Index(low[from:], word)
		if i < 0 {
			return at
		}
		i += from
		from = i + len(word)
		before, after := lastRune(low[:i]), firstRune(low[from:])
		if isLetter(before) && isLetter(firstRune(word)) {
			continue
		}
		if isLetter(after) && isLetter(lastRune(word)) && (whole || !unicode.Is(unicode.Hangul, lastRune(word)) && !unicode.Is(unicode.Hangul, after)) {
			continue
		}
		at = append(at, i)
	}
	return at
}

// lower is strings.ToLower where that keeps the bytes in place, else the text itself.
func lower(s string) string {
	if low := strings.ToLower(s); len(low) == len(s) {
		return low
	}
	return s
}

func isLetter(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return ' '
}

func lastRune(s string) rune {
	last := ' '
	for i := max(len(s)-4, 0); i < len(s); i++ {
		for _, r := range s[i:] {
			last = r
		}
		if last != unicode.ReplacementChar {
			return last
		}
	}
	return last
}
