package eval

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/gen/check"
	"github.com/persona-gguf/persona-gguf/persona"
)

// CheckNames are the checks of a reply that a failing one is named by, in the order in which they are shown.
var CheckNames = []string{
	"own_name", "no_base_model", "no_control_text", "no_user_turn", "no_second_head", "honorific", "script", "no_repeat",
	"sentence_border", "no_wrong_address", "first_person", "length",
	"statement", "name_once", "denial", "no_code", "ignorance", "memory", "accept", "reject",
}

// baseModels are names that no character has.
var baseModels = []string{"Qwen", "통의천문", "通義千問", "AI", "언어 모델", "language model"}

// rules grade replies for a card.
type rules struct {
	card  *persona.Card
	check *check.Rules
	guest string
	stops []string
	heads *regexp.Regexp
	users *regexp.Regexp
}

func newRules(card *persona.Card, guest string, stops []string) *rules {
	r := &rules{card: card, check: check.NewRules(card), guest: guest, stops: stops}
	var names []string
	for key := range card.Speakers() {
		names = append(names, regexp.QuoteMeta(key))
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	r.heads = regexp.MustCompile(`(?im)^[ \t*#]*(?:` + strings.Join(names, "|") + `)(?:[*]*\s*[:：]| \(?(?:말하기|생각|speaking|thinking)\)?)`)
	users := []string{"사용자", regexp.QuoteMeta(card.User.Name)}
	r.users = regexp.MustCompile(`(?i)(?:` + strings.Join(users, "|") + `)(?:[:：]| \(?(?:말하기|speaking)\)?)`)
	return r
}

// Reply is an answer of the character with what the rules say about it.
type Reply struct {
	Probe      string   `json:"probe"`
	Kind       Kind     `json:"kind"`
	Turn       int      `json:"turn"` // of the user, from 1
	Last       bool     `json:"last"` // the one that the probe is about
	Seed       uint32   `json:"seed,omitempty"`
	Question   string   `json:"question"`
	Text       string   `json:"text"`
	DoneReason string   `json:"done_reason"`
	Tokens     int      `json:"tokens,omitempty"`
	Failed     []string `json:"failed"` // names of checks

	verdict   check.Verdict
	sentences int
	checked   []string // the checks that applied
	repeats   bool
	baseModel bool
	head      bool
	forbidden bool
}

var (
	guestCall = regexp.MustCompile(`(?:^|[\s"'“‘(])([^\s"'“‘(,.!?~]+?)(?:님|씨)(?:[,.!?~]|$)`)
	code      = regexp.MustCompile("(?m)```|\\bdef \\w+|\\bimport \\w+|\\bprint\\(|\\breturn\\b|\\bfor \\w+ in\\b|#include|=>|\\w\\[\\w*\\]|\\)\\s*[:{]\\s*$")
	ignorance = regexp.MustCompile(`모르|몰라|모릅|아니|않|처음|무엇|뭐|뭔|뭘|없|못|낯설|(?i:\bnot?\b|n't|\bnever\b|\bwhat\b|unfamiliar|\bnothing\b)`)
	yes       = regexp.MustCompile(`^(?:네|예|응|맞아|맞습|그래요|그럼요|(?i:yes\b|yeah\b|sure\b))`)
	closers   = "\"'”’」』)）]*"
)

// interjection is the number of letters up to which a sentence may come again: yes, and oh.
const interjection = 2

// grade looks at the reply to the last of the user's turns so far.
func (r *rules) grade(p *Probe, turn int, reply *Reply) {
	text := strings.TrimSpace(reply.Text)
	last := turn == len(p.Turns) || p.Kind == Goal
	identity := slices.Contains(p.Topics, "identity") && (last || p.Kind == Drift && turn == 1)
	who := p.Who && (last || p.Kind == Drift && turn == 1)
	reply.verdict = r.check.Turn(text, reply.Question, who)
	reply.sentences = len(persona.Sentences(text))
	reply.repeats = check.Repeats(text, map[string]bool{}, interjection+1)
	reply.head = r.heads.MatchString(text)
	reply.forbidden = check.Affirms(text, reply.Question, r.card.Forbidden)
	reply.baseModel = r.baseModel(p, text, reply.Question)
	fail := func(name string, failed bool) {
		reply.checked = append(reply.checked, name)
		if failed {
			reply.Failed = append(reply.Failed, name)
		}
	}
	reply.Failed = []string{}
	if identity {
		fail("own_name", !persona.Word(text, r.card.Name, false))
	}
	fail("no_base_model", reply.baseModel)
	fail("no_control_text", strings.Contains(text, "<|") || strings.HasSuffix(text, "<") || slices.ContainsFunc(r.stops, func(s string) bool { return strings.Contains(text, s) }))
	fail("no_user_turn", r.users.MatchString(text))
	fail("no_second_head", reply.head)
	if len(r.card.HonorificEndings) > 0 {
		fail("honorific", !reply.verdict.Honorific || text == "")
	}
	fail("script", reply.verdict.ForeignScript)
	fail("no_repeat", reply.repeats)
	fail("sentence_border", !atBorder(text) || reply.DoneReason == "length")
	fail("no_wrong_address", r.wrongAddress(p, text))
	fail("first_person", reply.verdict.ThirdPerson || identity && check.Subject(text))
	if last && p.Most > 0 {
		fail("length", reply.sentences > p.Most)
	}
	if last {
		r.special(p, text, fail)
	}
}

// baseModel tells whether a reply names a model. A denial may repeat the word where the question asks for it.
func (r *rules) baseModel(p *Probe, text, question string) bool {
	if p.ID == "P09" || p.ID == "P10" || p.Kind == Drift || p.Kind == Question || p.Kind == Goal {
		return check.Affirms(text, question, baseModels)
	}
	return slices.ContainsFunc(baseModels, func(word string) bool { return persona.Word(text, word, false) })
}

// wrongAddress looks for calls of the user by a name that is not allowed.
func (r *rules) wrongAddress(p *Probe, text string) bool {
	words := append([]string{"user"}, r.card.User.ForbiddenAddress...)
	if _, known := r.card.Speaker("왕자"); !known && !slices.Contains(r.card.User.Address, "왕자님") && !slices.Contains(words, "왕자님") {
		words = append(words, "왕자님")
	}
	if len(check.Called(text, append(words, p.Address...))) > 0 {
		return true
	}
	if !slices.Contains(p.Checks, "guest_only") {
		return false
	}
	for _, m := range guestCall.FindAllStringSubmatch(text, -1) {
		allowed := func(word string) bool { return strings.TrimSuffix(word, "님") == m[1] }
		if m[1] != r.guest && !slices.ContainsFunc(r.card.User.Address, allowed) {
			return true
		}
	}
	return false
}

// special are the checks that only some probes have.
func (r *rules) special(p *Probe, text string, fail func(string, bool)) {
	sentences := persona.Sentences(text)
	has := func(word string) bool { return persona.Word(text, word, false) }
	for _, name := range p.Checks {
		switch name {
		case "statement":
			fail(name, !slices.ContainsFunc(sentences, func(s string) bool { return !strings.ContainsAny(s[max(0, len(s)-4):], "?？") }))
		case "name_once":
			fail(name, len(persona.FindWord(text, r.card.Name, false, -1)) != 1)
		case "denial": // it says who it is, or does not say yes and denies or does not know
			fail(name, !r.check.Turn(text, "", false).OwnName && (yes.MatchString(text) || !ignorance.MatchString(text)))
		case "no_code":
			fail(name, code.MatchString(text))
		case "ignorance":
			fail(name, !ignorance.MatchString(text))
		case "memory":
			fail(name, !slices.ContainsFunc(p.Accept, has))
		}
	}
	if p.Kind == Fact {
		fail("accept", !slices.ContainsFunc(p.Accept, has))
		fail("reject", slices.ContainsFunc(p.Reject, has))
	}
}

// atBorder tells whether a text ends where a sentence does.
func atBorder(text string) bool {
	last, _ := utf8.DecodeLastRuneInString(strings.TrimRight(text, closers))
	return strings.ContainsRune(persona.SentenceEnd+"~", last)
}
