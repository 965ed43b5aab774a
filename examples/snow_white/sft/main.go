// Command sft makes the SFT records of the example's adapter: the dialogues of data/persona.jsonl to train on and
// those of data/heldout.jsonl to hold out, rendered with the card.
//
//	go run ./examples/snow_white/sft OUT.jsonl
//
// Each dialogue is written several times, the user's words in other spellings, so that no answer hangs on one
// of them, and with the persona as system message every other time, since not every client sends one. The same
// bytes come out every time.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/persona-gguf/persona-gguf/persona"
)

const (
	copies = 3 // of every dialogue; the first two are not disturbed
	seed   = 20251205
)

// message is one message of a dialogue in data/.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./examples/snow_white/sft OUT.jsonl")
		os.Exit(2)
	}
	if err := run(filepath.Join("examples", "snow_white"), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sft: error:", err)
		os.Exit(1)
	}
}

func run(dir, out string) error {
	records, err := makeRecords(dir)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := persona.WriteRecords(w, records); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// makeRecords renders all dialogues of the example's folder.
func makeRecords(dir string) ([]persona.Record, error) {
	card, err := persona.Read(filepath.Join(dir, "persona.yaml"))
	if err != nil {
		return nil, err
	}
	learned, err := readDialogues(filepath.Join(dir, "data", "persona.jsonl"))
	if err != nil {
		return nil, err
	}
	unseen, err := readDialogues(filepath.Join(dir, "data", "heldout.jsonl"))
	if err != nil {
		return nil, err
	}
	d := &disturber{rng: rand.New(rand.NewPCG(seed, 0)), letters: lettersOf(learned)}
	var records []persona.Record
	for copy := range copies {
		for i, dialogue := range learned {
			if copy >= 2 {
				dialogue = d.dialogue(dialogue)
			}
			r, err := render(card, dialogue, (copy+i)%2 == 1)
			if err != nil {
				return nil, fmt.Errorf("persona.jsonl line %d: %w", i+1, err)
			}
			r.Source, r.Split = fmt.Sprintf("persona_%d", i+1), "train"
			records = append(records, r)
		}
	}
	for i, dialogue := range unseen {
		r, err := render(card, dialogue, false)
		if err != nil {
			return nil, fmt.Errorf("heldout.jsonl line %d: %w", i+1, err)
		}
		r.Source, r.Split = fmt.Sprintf("heldout_%d", i+1), "eval"
		records = append(records, r)
	}
	return records, nil
}

func readDialogues(path string) ([][]message, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all [][]message
	for line := range strings.Lines(string(text)) {
		var d struct {
			Messages []message `json:"messages"`
		}
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", path, len(all)+1, err)
		}
		all = append(all, d.Messages)
	}
	return all, nil
}

// render renders a dialogue. A system message of its own stands in place of the persona.
func render(card *persona.Card, dialogue []message, withPersona bool) (persona.Record, error) {
	var o persona.Options
	if !withPersona {
		o.System = new(string)
	}
	var turns []persona.Turn
	for _, m := range dialogue {
		switch m.Role {
		case "system":
			o.System = &m.Content
		case "user":
			turns = append(turns, persona.Turn{Role: card.User.Name, Content: m.Content})
		default:
			turns = append(turns, persona.Turn{Role: card.Name, Content: m.Content})
		}
	}
	r, err := persona.NewRenderer(card, o)
	if err != nil {
		return persona.Record{}, err
	}
	return r.Record(turns)
}

// disturber writes what users say in other ways.
type disturber struct {
	rng     *rand.Rand
	letters []rune
}

// lettersOf lists the letters of the dialogues, each as often as it occurs.
func lettersOf(all [][]message) (letters []rune) {
	for _, dialogue := range all {
		for _, m := range dialogue {
			for _, r := range m.Content {
				if unicode.IsLetter(r) {
					letters = append(letters, r)
				}
			}
		}
	}
	return letters
}

func (d *disturber) dialogue(dialogue []message) []message {
	out := make([]message, len(dialogue))
	for i, m := range dialogue {
		if out[i] = m; m.Role == "user" {
			out[i].Content = d.text(m.Content)
		}
	}
	return out
}

// text has letters fall out or be others, spaces fall out, and marks at the end go.
func (d *disturber) text(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch x := d.rng.Float64(); {
		case unicode.IsLetter(r) && x < 0.06, r == ' ' && x < 0.2, unicode.IsPunct(r) && x < 0.3:
		case unicode.IsLetter(r) && x < 0.12:
			b.WriteRune(d.letters[d.rng.IntN(len(d.letters))])
		default:
			b.WriteRune(r)
		}
	}
	if strings.TrimSpace(b.String()) == "" {
		return text
	}
	return strings.TrimSpace(b.String())
}
