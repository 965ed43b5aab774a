package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chapter is what data/scenes.jsonl has for a paragraph of the tale.
type chapter struct {
	Paragraph string              `json:"paragraph"` // how it begins
	Places    map[string][]string `json:"places"`    // what is done there, up to "있어요"
	Events    []string            `json:"events"`    // sentences for backgrounds
	Talk      []string            `json:"talk"`      // beginnings of answers of data/persona.jsonl
	names     []string            // of the places, sorted
}

// phrases is data/dialogues.json: parts of scenes and dialogues that stand anywhere in the tale.
type phrases struct {
	Types                          map[string][]string
	Times, Feelings                []string
	Hello, Doing                   []string // the visitor's first words
	Welcome, Named, Invite         []string // the answer to them
	Before, After                  []string // around an answer
	Reactions                      [][2]any
	Who, WhoSays, WhoReplies       []string
	Ask, AskAgain                  []string // with {을}, {은}, {이}, {에} for the topic and its particle
	Unknown, UnknownAgain, Instead []string
	Bye, Farewell, Meet            []string
	Topics, Questions              []string
	reactions                      []reaction
}

type reaction struct {
	says    string
	replies []string
}

// topic is what can be asked and its answer.
type topic struct {
	questions []string
	answer    string
}

func (t *teacher) readTexts(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "scenes.jsonl"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var c chapter
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return fmt.Errorf("scenes.jsonl line %d: %w", len(t.chapters)+1, err)
		}
		for name := range c.Places {
			c.names = append(c.names, name)
		}
		slices.Sort(c.names)
		t.chapters = append(t.chapters, c)
	}
	if text, err = os.ReadFile(filepath.Join(dir, "dialogues.json")); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t.phrases); err != nil {
		return fmt.Errorf("dialogues.json: %w", err)
	}
	for _, r := range t.phrases.Reactions {
		parsed := reaction{says: fmt.Sprint(r[0])}
		list, _ := r[1].([]any)
		for _, reply := range list {
			parsed.replies = append(parsed.replies, fmt.Sprint(reply))
		}
		t.phrases.reactions = append(t.phrases.reactions, parsed)
	}
	return t.readTopics(filepath.Join(dir, "persona.jsonl"))
}

// readTopics groups the character's dialogues of one question by their answers.
func (t *teacher) readTopics(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	index := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var d struct{ Messages []message }
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			return err
		}
		if len(d.Messages) != 2 {
			continue
		}
		question, answer := d.Messages[0].Content, d.Messages[1].Content
		i, ok := index[answer]
		if !ok {
			i = len(t.topics)
			index[answer] = i
			t.topics = append(t.topics, topic{answer: answer})
		}
		t.topics[i].questions = append(t.topics[i].questions, question)
	}
	for i, c := range t.chapters {
		for _, begin := range c.Talk {
			if t.topic(begin) == nil {
				return fmt.Errorf("scenes.jsonl line %d: talk: got %q, want how an answer of persona.jsonl begins", i+1, begin)
			}
		}
	}
	return nil
}

// topic finds the topic whose answer begins so.
func (t *teacher) topic(begin string) *topic {
	for i := range t.topics {
		if strings.HasPrefix(t.topics[i].answer, begin) {
			return &t.topics[i]
		}
	}
	return nil
}

// particles puts a noun into a phrase, with the form of the particle that its last letter asks for.
func particles(phrase, noun string) string {
	runes := []rune(noun)
	last := runes[len(runes)-1]
	closed := last >= '가' && last <= '힣' && (last-'가')%28 != 0
	pick := func(after, open string) string {
		if closed {
			return noun + after
		}
		return noun + open
	}
	return strings.NewReplacer("{을}", pick("을", "를"), "{은}", pick("은", "는"), "{이}", pick("이", "가"),
		"{라는}", pick("이라는", "라는"), "{에}", noun+"에").Replace(phrase)
}
