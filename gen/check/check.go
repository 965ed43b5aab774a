// Package check measures SFT records before anything is trained on them: every figure with its numerator, its
// denominator and the records behind it, on turns and not on flat text.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/persona-gguf/persona-gguf/gen/sft"
	"github.com/persona-gguf/persona-gguf/internal/minhash"
	"github.com/persona-gguf/persona-gguf/internal/pipe"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrGate says that a gate is not passed.
var ErrGate = errors.New("gates not passed")

// ErrFault says that the data, or the card, has a fault that no gate may allow.
var ErrFault = errors.New("fault in the data")

// Options are what Run needs.
type Options struct {
	Card         *persona.Card
	Profile      *persona.Profile // nil: facts are compared with the persona only
	Threshold    float64          // similarity of near duplicates; 0 for 0.8
	MaxLength    int              // tokens; 0 for 2048
	Model        *sft.Tokenizer   // nil: lengths in code points of the output, at most 3,000
	NoProtective bool             // waives that there must be protective turns
	Workers      int
	Progress     func(done, total int64)
}

// maxOutput is the longest output without a tokenizer to count tokens, in code points: what older tools allowed.
const maxOutput = 3000

// Metric is a count with what it is a share of. IDs are the sources of the records behind it: for own_name_identity
// and honorific those that fall short, else those that were counted.
type Metric struct {
	N     int            `json:"n"`
	Of    int            `json:"of"`
	Unit  string         `json:"unit"` // "turn" or "record"
	IDs   []string       `json:"ids"`
	Terms map[string]int `json:"terms,omitempty"` // user_address: by word
}

// Share is N / Of, 0 if there is nothing.
func (m *Metric) Share() float64 {
	if m.Of == 0 {
		return 0
	}
	return float64(m.N) / float64(m.Of)
}

// Gate is a limit on a share.
type Gate struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Want    float64 `json:"want"`
	AtLeast bool    `json:"at_least"` // else at most
	OK      bool    `json:"ok"`
	Waived  bool    `json:"waived,omitempty"`
}

// Topic is a scene type, with what it has of the data.
type Topic struct {
	Topic   string  `json:"topic"`
	Records int     `json:"records"`
	Turns   int     `json:"turns"`  // of the character
	Length  int     `json:"length"` // in the report's length unit
	Share   float64 `json:"share"`  // of all length
}

// Report is what Run found.
type Report struct {
	Version        int                     `json:"version"` // of what the metrics mean
	Records        int                     `json:"records"`
	Train          int                     `json:"train"`
	Eval           int                     `json:"eval"`
	Unique         int                     `json:"unique_records"` // without near duplicates
	UniqueLength   int                     `json:"unique_length"`  // of these
	Turns          int                     `json:"character_turns"`
	Metrics        map[string]*Metric      `json:"metrics"`
	Gates          []Gate                  `json:"gates"`
	Contradictions []persona.Contradiction `json:"contradictions"`
	Warnings       []string                `json:"warnings"`
	LengthUnit     string                  `json:"length_unit"` // "token", or "code point"
	Lengths        map[string]Distribution `json:"lengths"`
	Topics         []Topic                 `json:"topics"`

	values map[string][]float64
}

// The names of the metrics, in the order in which they are shown.
var order = []string{
	"own_name", "own_name_identity", "identity_turns", "protective_turns", "wrong_persona", "third_person", "user_address", "honorific",
	"foreign_script", "control_text", "user_turn_leak", "markdown", "stage_direction", "thoughts", "repetition", "near_duplicates", "too_long",
}

// shortfall are the metrics whose IDs are the records that fall short.
var shortfall = []string{"own_name_identity", "honorific"}

// checker looks at records for one card.
type checker struct {
	Options
	card  *persona.Card
	words *words
	latin []string // words of names on the card, in Latin letters
}

// tally is one metric of one record.
type tally struct{ n, of int }

// findings are what one record has.
type findings struct {
	tallies map[string]tally
	terms   []string
	sketch  minhash.Sketch
	turns   []int // lengths of the character's turns
	all     int   // turns
}

// Run checks records. The report is there even with an error about the gates or faults.
func Run(ctx context.Context, records []persona.Record, o Options) (*Report, error) {
	if o.Threshold == 0 {
		o.Threshold = 0.8
	}
	if o.MaxLength == 0 {
		o.MaxLength = 2048
	}
	k := newChecker(o)
	lengths, err := k.lengths(ctx, records)
	if err != nil {
		return nil, err
	}
	r := newReport()
	index := minhash.New(o.Threshold)
	topics := map[string]*Topic{}
	const batch = 128
	err = pipe.Ordered(ctx, pipe.Options{Workers: o.Workers}, (len(records)+batch-1)/batch, func(int) int64 { return 1 << 20 },
		func(_ context.Context, i int) ([]findings, error) {
			var out []findings
			for j := i * batch; j < min((i+1)*batch, len(records)); j++ {
				out = append(out, k.record(&records[j]))
			}
			return out, nil
		}, func(i int, all []findings) error {
			for j := range all {
				n := i*batch + j
				k.count(r, &records[n], &all[j], index, lengths[n], topics)
			}
			if o.Progress != nil {
				o.Progress(int64(min((i+1)*batch, len(records))), int64(len(records)))
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	k.finish(r, topics)
	return r, k.verdict(r)
}

func newReport() *Report {
	r := &Report{Version: 1, Metrics: map[string]*Metric{}, values: map[string][]float64{}, Lengths: map[string]Distribution{}, Warnings: []string{}, Contradictions: []persona.Contradiction{}}
	for _, name := range order {
		unit := "turn"
		if name == "near_duplicates" || name == "too_long" {
			unit = "record"
		}
		r.Metrics[name] = &Metric{Unit: unit, IDs: []string{}}
	}
	return r
}

// lengths gives the length of every record.
func (k *checker) lengths(ctx context.Context, records []persona.Record) ([]int, error) {
	if k.Model != nil {
		return k.Model.Count(ctx, records, k.Workers)
	}
	out := make([]int, len(records))
	for i := range records {
		out[i] = utf8.RuneCountInString(records[i].Output)
	}
	return out, nil
}

// record looks at one record.
func (k *checker) record(r *persona.Record) findings {
	f := findings{tallies: map[string]tally{}}
	turns := k.turnsOf(r)
	f.all = len(turns)
	seen := map[string]bool{}
	var text strings.Builder
	asked, who, protective := "", false, false
	for _, t := range turns {
		text.WriteString(t.text)
		f.add("control_text", persona.ControlToken(t.text) != "" || strings.Contains(t.text, "<|"))
		if t.kind != persona.Character {
			if t.kind == persona.Visitor {
				asked, who, protective = t.text, k.words.asksWho(t.text), k.beyond(t.text)
			}
			continue
		}
		f.turns = append(f.turns, utf8.RuneCountInString(t.text))
		f.add("thoughts", t.thought)
		k.turn(&f, t, asked, who, protective || r.Kind == "protective")
		f.add("repetition", Repeats(t.text, seen, repeatLetters))
		who = false // a second answer in a row answers nothing
	}
	f.sketch = minhash.Of(text.String())
	return f
}

// beyond tells whether a question is about what the character cannot know.
func (k *checker) beyond(text string) bool {
	has := func(word string) bool { return persona.Word(text, word, false) }
	return slices.ContainsFunc(k.card.ProtectiveTopics, has) || slices.ContainsFunc(k.card.Forbidden, has)
}

// turn looks at one turn of the character.
func (k *checker) turn(f *findings, t said, asked string, who, protective bool) {
	v := k.look(t.text, asked, who)
	f.add("own_name", v.OwnName)
	f.add("third_person", v.ThirdPerson)
	f.add("identity_turns", who)
	f.add("protective_turns", protective)
	if who {
		f.add("own_name_identity", v.OwnName)
	}
	f.add("wrong_persona", v.WrongPersona)
	f.add("foreign_script", v.ForeignScript)
	f.add("user_turn_leak", v.UserTurnLeak)
	f.add("markdown", v.Markdown)
	f.add("stage_direction", v.StageDirection)
	f.terms = append(f.terms, v.Address...)
	f.add("user_address", len(v.Address) > 0)
	if len(k.card.HonorificEndings) > 0 {
		f.add("honorific", v.Honorific)
	}
}

func (f *findings) add(name string, is bool) {
	t := f.tallies[name]
	if t.of++; is {
		t.n++
	}
	f.tallies[name] = t
}

// count adds a record's findings to the report.
func (k *checker) count(r *Report, rec *persona.Record, f *findings, index *minhash.Index, length int, topics map[string]*Topic) {
	r.Records++
	switch rec.Split {
	case "eval":
		r.Eval++
	default:
		r.Train++
	}
	_, fresh := index.AddSketch(rec.Source, f.sketch)
	f.add("near_duplicates", !fresh)
	if fresh {
		r.UniqueLength += length
	}
	limit := k.MaxLength
	if k.Model == nil {
		limit = maxOutput
	}
	f.add("too_long", length > limit)
	for name, t := range f.tallies {
		m := r.Metrics[name]
		m.N, m.Of = m.N+t.n, m.Of+t.of
		if slices.Contains(shortfall, name) && t.n < t.of || !slices.Contains(shortfall, name) && t.n > 0 {
			m.IDs = append(m.IDs, rec.Source)
		}
	}
	for _, term := range f.terms {
		m := r.Metrics["user_address"]
		if m.Terms == nil {
			m.Terms = map[string]int{}
		}
		m.Terms[term]++
	}
	r.Turns += len(f.turns)
	r.values["record"] = append(r.values["record"], float64(length))
	r.values["turns"] = append(r.values["turns"], float64(f.all))
	for _, n := range f.turns {
		r.values["turn"] = append(r.values["turn"], float64(n))
	}
	name := topicOf(rec)
	if topics[name] == nil {
		topics[name] = &Topic{Topic: name}
	}
	topics[name].Records, topics[name].Turns, topics[name].Length = topics[name].Records+1, topics[name].Turns+len(f.turns), topics[name].Length+length
}

func topicOf(r *persona.Record) string {
	switch {
	case r.Kind != "":
		return r.Kind
	case r.Type != "":
		return r.Type
	}
	return "unknown"
}

// finish closes the account.
func (k *checker) finish(r *Report, topics map[string]*Topic) {
	r.LengthUnit = "code point"
	if k.Model != nil {
		r.LengthUnit = "token"
	}
	total := 0
	for _, t := range topics {
		total += t.Length
	}
	r.Topics = []Topic{}
	for _, t := range topics {
		t.Share = float64(t.Length) / float64(max(total, 1))
		r.Topics = append(r.Topics, *t)
	}
	slices.SortFunc(r.Topics, func(a, b Topic) int {
		if d := b.Length - a.Length; d != 0 {
			return d
		}
		return strings.Compare(a.Topic, b.Topic)
	})
	for name, values := range r.values {
		r.Lengths[name] = distribution(values)
	}
	r.Unique = r.Records - r.Metrics["near_duplicates"].N
	if found := k.card.LintFacts(k.Profile); found != nil {
		r.Contradictions = found
	}
	if m := r.Metrics["own_name"]; m.Share() > 0.8 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("own_name: got %d of %d turns, %.1f%%, want at most 80%%: the character introduces itself all the time", m.N, m.Of, 100*m.Share()))
	}
	if k.Model == nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("too_long: counted in code points of the output, at most %d; --model counts tokens", maxOutput))
	}
	if k.Profile != nil {
		for _, warning := range k.Profile.Lint(k.card) {
			r.Warnings = append(r.Warnings, "profile "+warning)
		}
	}
	k.gates(r)
}
