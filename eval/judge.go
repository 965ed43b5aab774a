package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/internal/pipe"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Judged is what a language model thinks of the replies: a mean of 1 to 7 for every dimension.
type Judged struct {
	Model      string      `json:"model"`
	Dimensions []Dimension `json:"dimensions"`
}

// Dimension is one thing that is judged. An answer of the judge that is not one digit from 1 to 7 is unscored.
type Dimension struct {
	Name     string `json:"name"`
	Score    Mean   `json:"score"`
	Unscored int    `json:"unscored"`
}

// Pairs compares the first two files reply by reply. Every pair is shown in both orders; it counts only where the
// judge prefers the same file both times.
type Pairs struct {
	Model     string `json:"model"`
	First     string `json:"first"`
	Second    string `json:"second"`
	FirstWins int    `json:"first_wins"`
	Wins      int    `json:"second_wins"`
	Agreement Score  `json:"agreement"` // pairs judged alike in both orders
	Unscored  int    `json:"unscored"`
}

// dimensions are what is judged, and on what.
var dimensions = []struct {
	name, question string
	about          func(p *Probe) bool
}{
	{"memory", "Factual correctness: is what the character says about its life true and specific, and not generic?", func(p *Probe) bool { return p.Kind == Fact || has(p.Topics, "memory") }},
	{"values", "Values: does the character hold its own values and wishes?", func(p *Probe) bool { return p.Kind == Style }},
	{"personality", "Personality: do tone and traits fit the character?", func(p *Probe) bool { return has(p.Topics, "small talk") || p.ID == "P01" || p.ID == "P15" }},
	{"hallucination", "Avoiding hallucination: does the character know nothing that lies outside its world?", func(p *Probe) bool { return has(p.Topics, "protective") }},
	{"stability", "Long-term acting: does the character stay itself over the whole conversation?", func(p *Probe) bool { return p.Kind == Drift && strings.HasSuffix(p.ID, "0") }},
}

var (
	scoreSchema = json.RawMessage(`{"type":"object","properties":{"reason":{"type":"string"},"score":{"type":"string","enum":["1","2","3","4","5","6","7"]}},"required":["reason","score"],"additionalProperties":false}`)
	pairSchema  = json.RawMessage(`{"type":"object","properties":{"reason":{"type":"string"},"better":{"type":"string","enum":["A","B"]}},"required":["reason","better"],"additionalProperties":false}`)
)

// judge asks the judge about every file, and about the first two side by side.
func (r *run) judge(ctx context.Context) error {
	j, err := engine.NewOllama(r.Server.String(), r.Judge, 5*time.Minute)
	if err != nil {
		return err
	}
	if _, err := j.Inspect(ctx); err != nil {
		return err
	}
	k := &judging{run: r, asks: j}
	for i := range r.report.Files {
		if err := k.scores(ctx, &r.report.Files[i]); err != nil {
			return err
		}
	}
	if len(r.report.Files) > 1 {
		return k.pairs(ctx, &r.report.Files[0], &r.report.Files[1])
	}
	return nil
}

// asker is a language model that judges.
type asker interface {
	Chat(ctx context.Context, r engine.Request) (engine.Reply, error)
}

type judging struct {
	*run
	asks asker
}

// conversation is the text of a whole conversation with the most likely replies.
func (k *judging) conversation(f *FileReport, id string) string {
	var b strings.Builder
	for _, r := range f.Replies {
		if r.Probe == id && r.Seed == 0 {
			fmt.Fprintf(&b, "%s: %s\n%s: %s\n", k.Card.User.Name, r.Question, k.Card.Name, r.Text)
		}
	}
	return b.String()
}

// relevant are the facts of the card, and up to three paragraphs of the profile, that have words of a question.
func (k *judging) relevant(p *Probe) string {
	var b strings.Builder
	question := strings.Join(p.Turns, " ")
	for _, f := range k.Card.Facts {
		if overlap(question, f.Question+" "+strings.Join(f.Accept, " ")) > 0 {
			fmt.Fprintf(&b, "- %s %s", f.Question, strings.Join(f.Accept, " / "))
			if len(f.Reject) > 0 {
				fmt.Fprintf(&b, " (wrong: %s)", strings.Join(f.Reject, " / "))
			}
			b.WriteString("\n")
		}
	}
	if k.Profile == nil {
		return b.String()
	}
	all := slices.Clone(k.Profile.Paragraphs)
	slices.SortStableFunc(all, func(a, b persona.Paragraph) int { return overlap(question, b.Text) - overlap(question, a.Text) })
	for _, paragraph := range all[:min(3, len(all))] {
		if overlap(question, paragraph.Text) > 0 {
			fmt.Fprintf(&b, "- %s\n", paragraph.Text)
		}
	}
	return b.String()
}

// overlap is the number of words of a text, without what follows their first two letters, that begin one of another.
func overlap(a, b string) (n int) {
	for _, word := range strings.Fields(a) {
		if stem := []rune(strings.Trim(word, `.,!?"'`)); len(stem) >= 2 && persona.Word(b, string(stem[:2]), false) {
			n++
		}
	}
	return n
}

func (k *judging) prompt(p *Probe, what string) string {
	return fmt.Sprintf("%s\n\nThe character is %s:\n%s\n\nFacts:\n%s\n", what, k.Card.Name, k.Card.Persona, k.relevant(p))
}

// ask gives the value of a key of the judge's answer, "" if there is none.
func (k *judging) ask(ctx context.Context, prompt string, schema json.RawMessage, key string) (string, error) {
	reply, err := k.asks.Chat(ctx, engine.Request{
		Messages: []engine.Message{{Role: "system", Content: "You judge how well an actor plays a character. Reason first, then decide."}, {Role: "user", Content: prompt}},
		Schema:   schema, Options: engine.Options{TopP: 1, TopK: 1, RepeatPenalty: 1, NumPredict: 512, NumCtx: 8192, Seed: int(k.Seed)},
	})
	if err != nil {
		return "", err
	}
	answer := map[string]any{}
	if json.Unmarshal([]byte(reply.Content), &answer) != nil {
		return "", nil
	}
	value, _ := answer[key].(string)
	return value, nil
}

// task is one question to the judge.
type task struct {
	dimension int
	probe     *Probe
}

func (k *judging) tasks() (out []task) {
	for d := range dimensions {
		for i := range k.probes {
			if dimensions[d].about(&k.probes[i]) {
				out = append(out, task{d, &k.probes[i]})
			}
		}
	}
	return out
}

// each works on all tasks, several at a time, and takes the results in order.
func (k *judging) each(ctx context.Context, stage string, work func(ctx context.Context, t task) ([]string, error), take func(t task, answers []string)) error {
	tasks, tell := k.tasks(), k.tell(stage)
	return pipe.Ordered(ctx, pipe.Options{Workers: k.Parallel}, len(tasks), func(int) int64 { return 1 << 16 },
		func(ctx context.Context, i int) ([]string, error) { return work(ctx, tasks[i]) },
		func(i int, answers []string) error {
			take(tasks[i], answers)
			tell(int64(i+1), int64(len(tasks)))
			return nil
		})
}

// scores judges one file.
func (k *judging) scores(ctx context.Context, f *FileReport) error {
	values, unscored := make([][]float64, len(dimensions)), make([]int, len(dimensions))
	err := k.each(ctx, "judge "+f.Label, func(ctx context.Context, t task) ([]string, error) {
		what := "Score the replies of the character from 1 (worst) to 7 (best). " + dimensions[t.dimension].question
		answer, err := k.ask(ctx, k.prompt(t.probe, what)+"\nConversation:\n"+k.conversation(f, t.probe.ID)+"\nThe score is one digit from 1 to 7.", scoreSchema, "score")
		return []string{answer}, err
	}, func(t task, answers []string) {
		if a := answers[0]; len(a) == 1 && a[0] >= '1' && a[0] <= '7' {
			values[t.dimension] = append(values[t.dimension], float64(a[0]-'0'))
		} else {
			unscored[t.dimension]++
		}
	})
	if err != nil {
		return err
	}
	f.Judged = &Judged{Model: k.Judge}
	for d := range dimensions {
		f.Judged.Dimensions = append(f.Judged.Dimensions, Dimension{dimensions[d].name, meanOf(dimensions[d].name, "score of 7", values[d], uint64(k.Seed)), unscored[d]})
	}
	return nil
}

// pairs judges two files side by side, in both orders.
func (k *judging) pairs(ctx context.Context, a, b *FileReport) error {
	out := &Pairs{Model: k.Judge, First: a.Label, Second: b.Label, Agreement: Score{Name: "agreement", Unit: "pair", AtLeast: true}}
	err := k.each(ctx, "judge pairs", func(ctx context.Context, t task) (answers []string, err error) {
		for _, order := range [][2]*FileReport{{a, b}, {b, a}} {
			what := "Two actors play the same character. Which one is better? " + dimensions[t.dimension].question
			prompt := k.prompt(t.probe, what) + "\nA:\n" + k.conversation(order[0], t.probe.ID) + "\nB:\n" + k.conversation(order[1], t.probe.ID) + "\nAnswer A or B."
			answer, err := k.ask(ctx, prompt, pairSchema, "better")
			if err != nil {
				return nil, err
			}
			answers = append(answers, answer)
		}
		return answers, nil
	}, func(t task, answers []string) {
		for _, answer := range answers {
			if answer != "A" && answer != "B" {
				out.Unscored++
				return
			}
		}
		same := answers[0] != answers[1] // the order was swapped
		out.Agreement.add(same, Failure{Probe: t.probe.ID})
		if same && answers[0] == "A" {
			out.FirstWins++
		} else if same {
			out.Wins++
		}
	})
	out.Agreement.finish()
	k.report.Pairs = out
	return err
}
