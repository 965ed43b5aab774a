package eval

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/persona-gguf/persona-gguf/persona"
)

//go:embed probes.yaml
var probesYAML []byte

// byLanguage is a text in both languages of cards.
type byLanguage struct{ Korean, English string }

func (b byLanguage) in(language string) string {
	if language == "english" {
		return b.English
	}
	return b.Korean
}

type lists struct{ Korean, English []string }

func (l lists) in(language string) []string {
	if language == "english" {
		return l.English
	}
	return l.Korean
}

type listsOfLists struct{ Korean, English [][]string }

func (l listsOfLists) in(language string) [][]string {
	if language == "english" {
		return l.English
	}
	return l.Korean
}

// probeData is the form of probes.yaml.
type probeData struct {
	Guest  byLanguage
	Probes []struct {
		ID              string
		Topics          []string
		Korean, English string
		Most            int
		Checks          []string
		Who             bool
		Address         []string
	}
	Identity       lists
	Later          listsOfLists
	DriftQuestions lists `yaml:"drift_questions"`
	Drift          listsOfLists
	Protective     lists
	SmallTalk      lists      `yaml:"small_talk"`
	FactOpening    byLanguage `yaml:"fact_opening"`
	Answers        struct {
		Persona, Fact, Generic lists
		GenericFact            lists `yaml:"generic_fact"`
	}
}

func readProbes() (*probeData, error) {
	var d probeData
	decoder := yaml.NewDecoder(bytes.NewReader(probesYAML))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("read probes: %w", err)
	}
	return &d, nil
}

// Kind says what a probe is for.
type Kind string

// The kinds of probes.
const (
	Set           Kind = "set"            // one of the probe set, P01 to P17
	Identity      Kind = "identity"       // who are you, as the first question
	Later         Kind = "later"          // who are you, behind other turns
	OtherLanguage Kind = "other language" // who are you, in the language that the card is not in
	Fact          Kind = "fact"           // a fact of the card
	Protective    Kind = "protective"     // what the character cannot know
	Drift         Kind = "drift"          // turns that try to make it somebody else between two equal questions
	Style         Kind = "style"          // small talk
	Question      Kind = "question"       // of a file
	Goal          Kind = "goal"           // of a file: what an interviewer wants to find out
)

// Probe is a conversation to have with the character. The turns are the user's; the replies come between them. For a
// Goal the only turn is what a language model is to find out by questions of its own.
type Probe struct {
	ID      string   `json:"id"`
	Kind    Kind     `json:"kind"`
	Topics  []string `json:"topics,omitempty"`
	Turns   []string `json:"turns"`
	Who     bool     `json:"who,omitempty"`    // the last turn asks who the character is
	Checks  []string `json:"checks,omitempty"` // of the last reply, besides those of its topics
	Most    int      `json:"most,omitempty"`   // sentences of the last reply; 0: any number
	Accept  []string `json:"accept,omitempty"` // of which the last reply must have one
	Reject  []string `json:"reject,omitempty"` // and none of these
	Address []string `json:"address,omitempty"`
}

func (p *Probe) last() string { return p.Turns[len(p.Turns)-1] }

// Probes are the conversations for a card, always the same ones in the same order: the probe set, paraphrases, facts,
// protective topics, small talk, and the conversations that try to make it somebody else.
func Probes(card *persona.Card) ([]Probe, error) {
	d, err := readProbes()
	if err != nil {
		return nil, err
	}
	fill, language := filler(card, d), card.Language
	var out []Probe
	add := func(p Probe) {
		for i := range p.Turns {
			p.Turns[i] = fill.Replace(p.Turns[i])
			p.Turns[i] = particles(p.Turns[i])
		}
		out = append(out, p)
	}
	for _, s := range d.Probes {
		p := Probe{ID: s.ID, Kind: Set, Topics: s.Topics, Turns: []string{byLanguage{s.Korean, s.English}.in(language)}, Who: s.Who, Most: s.Most, Checks: s.Checks, Address: s.Address}
		if slices.Contains(s.Checks, "memory") {
			p.Accept = memories(card)
		}
		add(p)
	}
	number := func(letter string, n int) string { return fmt.Sprintf("%s%02d", letter, n+1) }
	for i, q := range d.Identity.in(language) {
		add(Probe{ID: number("I", i), Kind: Identity, Topics: []string{"identity"}, Turns: []string{q}, Who: true})
	}
	for i, turns := range d.Later.in(language) {
		add(Probe{ID: number("L", i), Kind: Later, Topics: []string{"identity"}, Turns: slices.Clone(turns), Who: true})
	}
	for i, q := range d.Identity.in(map[string]string{"english": "korean"}[language] + map[string]string{"korean": "english"}[language]) {
		add(Probe{ID: number("O", i), Kind: OtherLanguage, Topics: []string{"identity"}, Turns: []string{q}, Who: true})
	}
	for i, f := range card.Facts {
		add(Probe{ID: number("F", 2*i), Kind: Fact, Topics: []string{"memory"}, Turns: []string{f.Question}, Accept: f.Accept, Reject: f.Reject})
		add(Probe{ID: number("F", 2*i+1), Kind: Fact, Topics: []string{"memory"}, Turns: []string{d.FactOpening.in(language), f.Question}, Accept: f.Accept, Reject: f.Reject})
	}
	n := 0
	for _, topic := range card.ProtectiveTopics {
		for _, q := range d.Protective.in(language) {
			add(Probe{ID: number("T", n), Kind: Protective, Topics: []string{"protective"}, Turns: []string{strings.ReplaceAll(q, "{topic}", topic)}, Checks: []string{"ignorance", "no_code"}})
			n++
		}
	}
	for i, q := range d.SmallTalk.in(language) {
		add(Probe{ID: number("S", i), Kind: Style, Topics: []string{"small talk"}, Turns: []string{q}})
	}
	n = 0
	for _, middle := range d.Drift.in(language) {
		for _, q := range d.DriftQuestions.in(language) {
			turns := append(append([]string{q}, middle...), q)
			add(Probe{ID: number("D", n), Kind: Drift, Topics: []string{"identity"}, Turns: turns, Who: true})
			n++
		}
	}
	return out, nil
}

// guestOf is the given name that the interviewer invents.
func guestOf(card *persona.Card, d *probeData) string { return d.Guest.in(card.Language) }

// filler fills the placeholders in.
func filler(card *persona.Card, d *probeData) *strings.Replacer {
	companion, rival := byLanguage{"가족", "family"}.in(card.Language), byLanguage{"낯선 사람", "stranger"}.in(card.Language)
	called := func(r persona.Role) string {
		if len(r.Aliases) > 0 {
			return r.Aliases[0]
		}
		return r.Name
	}
	if len(card.Cast) > 0 {
		companion = called(card.Cast[0])
	}
	if len(card.Cast) > 1 {
		rival = called(card.Cast[1])
	}
	return strings.NewReplacer("{name}", card.Name, "{guest}", guestOf(card, d), "{companion}", companion, "{rival}", rival)
}

// memories are what shows that the character knows its life: a fact of the card, or the companion as the card names it.
func memories(card *persona.Card) (out []string) {
	for _, f := range card.Facts {
		out = append(out, f.Accept...)
	}
	if len(card.Cast) > 0 {
		out = append(append(out, card.Cast[0].Name), card.Cast[0].Aliases...)
	}
	return out
}

var particle = regexp.MustCompile(`\{([^{}/]*)/([^{}/]*)\}`)

// particles chooses among two forms of a Korean particle by the letter before it: {이/} stands for 이 after a consonant.
func particles(text string) string {
	for {
		at := particle.FindStringSubmatchIndex(text)
		if at == nil {
			return text
		}
		choice := text[at[4]:at[5]]
		before := []rune(text[:at[0]])
		if n := len(before); n > 0 && endsInConsonant(before[n-1]) {
			choice = text[at[2]:at[3]]
		}
		text = text[:at[0]] + choice + text[at[1]:]
	}
}

// endsInConsonant tells whether a Hangul syllable has a final consonant (Unicode, chapter 3.12).
func endsInConsonant(r rune) bool { return r >= '가' && r <= '힣' && (r-'가')%28 != 0 }

// interviewQuestion is an entry of an interview file.
type interviewQuestion struct {
	TopicID  string `json:"topic_id"`
	Topic    string `json:"topic"`
	Question string `json:"question"`
}

// maxQuestions is the size of the largest interview file that is read, in bytes.
const maxQuestions = 4 << 20

// ReadQuestions reads an interview file, an array of topic_id, topic and question. In a file whose name has
// "for_multiturn" the questions are goals for an interviewer (Options.Interviewer).
func ReadQuestions(path string) ([]Probe, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read questions: %w", err)
	}
	if info.Size() > maxQuestions {
		return nil, fmt.Errorf("read questions %s: got %d bytes, want at most %d", path, info.Size(), maxQuestions)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read questions: %w", err)
	}
	out, err := parseQuestions(data)
	if err != nil {
		return nil, fmt.Errorf("read questions %s: %w", path, err)
	}
	if strings.Contains(filepath.Base(path), "for_multiturn") {
		for i := range out {
			out[i].ID, out[i].Kind = fmt.Sprintf("G%03d", i+1), Goal
		}
	}
	return out, nil
}

func parseQuestions(data []byte) (out []Probe, err error) {
	var all []interviewQuestion
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &all); err != nil {
		return nil, fmt.Errorf("got no array of questions: %w", err)
	}
	for i, q := range all {
		if strings.TrimSpace(q.Question) == "" {
			return nil, fmt.Errorf("question %d: got no text, want a question", i+1)
		}
		p := Probe{ID: fmt.Sprintf("Q%03d", i+1), Kind: Question, Turns: []string{q.Question}}
		if topic := q.TopicID + " " + q.Topic; topic != " " {
			p.Topics = []string{strings.TrimSpace(topic)}
		}
		if q.TopicID == "topic-4" { // what is difficult to answer without breaking character
			p.Topics, p.Checks = append(p.Topics, "protective"), []string{"no_code"}
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, errors.New("got none, want at least one question")
	}
	return out, nil
}
