package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	llama "github.com/go-skynet/go-llama.cpp"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"

	"github.com/persona-gguf/persona-gguf/gen/check"
	"github.com/persona-gguf/persona-gguf/persona"
)

// sequence is a text as tokens, with those that count.
type sequence struct {
	id     string
	tokens []llama.Token
	counts []bool // of a token: it is under the loss
}

// errBorder marks a token that is partly inside of a span.
var errBorder = errors.New("it crosses the border of a span")

// newSequence tokenizes a text with spans of code points, as the trainer does: the text as it is, and nothing added but
// the model's BOS where special says so. A token that crosses the border of a span is an error.
func newSequence(m *llama.Model, id, text string, spans [][2]int, special bool) (sequence, error) {
	tokens, err := m.Tokenize(text, special, true)
	if err != nil {
		return sequence{}, fmt.Errorf("%s: %w", id, err)
	}
	s := sequence{id: id, tokens: tokens, counts: make([]bool, len(tokens))}
	pieces := make([][]byte, len(tokens))
	total := 0
	for i, t := range tokens {
		if pieces[i], err = m.TokenBytes(t, true); err != nil {
			return sequence{}, fmt.Errorf("%s: %w", id, err)
		}
		total += len(pieces[i])
	}
	// Some tokenizers put a space, or BOS, before the text.
	before := total - len(text)
	joined := slices.Concat(pieces...)
	if before < 0 || string(joined[before:]) != text {
		return sequence{}, fmt.Errorf("%s: got tokens that give another text, want the text itself", id)
	}
	limits := byteSpans(text, spans)
	at, span := -before, 0
	for i, p := range pieces {
		from, to := at, at+len(p)
		at = to
		for span < len(limits) && from >= limits[span][1] {
			span++
		}
		if span == len(limits) || to <= limits[span][0] || from == to {
			continue
		}
		if from < limits[span][0] || to > limits[span][1] {
			return sequence{}, fmt.Errorf("%s: token %d: got %q: %w", id, i, p, errBorder)
		}
		s.counts[i] = true
	}
	if !slices.Contains(s.counts, true) {
		return sequence{}, fmt.Errorf("%s: got no token that counts", id)
	}
	return s, nil
}

// byteSpans turns ranges of code points into ranges of bytes.
func byteSpans(text string, spans [][2]int) (out [][2]int) {
	at, n := 0, 0
	to := func(point int) int {
		for n < point {
			_, size := utf8.DecodeRuneInString(text[at:])
			at, n = at+size, n+1
		}
		return at
	}
	for _, s := range spans {
		from := to(s[0])
		out = append(out, [2]int{from, to(s[1])})
	}
	return out
}

// scorer gives the logits of a model.
type scorer struct {
	context *llama.ModelContext
}

// scoreBatch is the number of tokens that are computed, and whose logits are kept, at once.
const scoreBatch = 256

// newScorer makes a context for sequences of up to longest tokens.
func newScorer(m *llama.Model, longest, threads int) (*scorer, error) {
	p := llama.DefaultContextParams()
	p.NCtx, p.NBatch, p.NUBatch, p.Threads = max(longest, 8), scoreBatch, scoreBatch, threads
	c, err := m.NewContext(p)
	if err != nil {
		return nil, err
	}
	return &scorer{c}, nil
}

// rows calls visit with the logits that predict each token that counts, several at a time. They are in order of
// positions, and valid during the call only.
func (s *scorer) rows(ctx context.Context, q *sequence, visit func(next []llama.Token, rows [][]float32)) error {
	if err := s.context.MemoryClear(false); err != nil {
		return err
	}
	for from := 0; from < len(q.tokens)-1; from += scoreBatch {
		next, rows, err := s.part(ctx, q, from)
		if err != nil {
			return fmt.Errorf("%s: %w", q.id, err)
		}
		if len(rows) > 0 {
			visit(next, rows)
		}
	}
	return nil
}

// part computes the tokens from one on, after those before it, and gives the logits that predict tokens that count.
// They are views, valid until the next call.
func (s *scorer) part(ctx context.Context, q *sequence, from int) (next []llama.Token, rows [][]float32, err error) {
	var batch []llama.BatchToken
	var at []int
	for i := from; i < min(from+scoreBatch, len(q.tokens)-1); i++ {
		wanted := q.counts[i+1]
		if wanted {
			at, next = append(at, len(batch)), append(next, q.tokens[i+1])
		}
		batch = append(batch, llama.BatchToken{Token: q.tokens[i], Pos: int32(i), Seqs: []int32{0}, Logits: wanted})
	}
	if err := s.context.DecodeContext(ctx, batch); err != nil {
		return nil, nil, err
	}
	for _, i := range at {
		row, err := s.context.Logits(i)
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, row)
	}
	return next, rows, nil
}

// logSoftmax gives log p of all tokens in float64: x − max − log Σ exp(x − max).
func logSoftmax(dst []float64, row []float32) []float64 {
	dst = dst[:0]
	for _, x := range row {
		dst = append(dst, float64(x))
	}
	floats.AddConst(-floats.LogSumExp(dst), dst)
	return dst
}

// losses gives −log p of each token that counts.
func (s *scorer) losses(ctx context.Context, q *sequence) ([]float64, error) {
	var out []float64
	err := s.rows(ctx, q, func(next []llama.Token, rows [][]float32) {
		part := make([]float64, len(rows))
		each(len(rows), func(buffer *[2][]float64, i int) {
			buffer[0] = logSoftmax(buffer[0], rows[i])
			part[i] = -buffer[0][next[i]]
		})
		out = append(out, part...)
	})
	return out, err
}

// each works on all CPUs; every goroutine has buffers of its own.
func each(n int, work func(buffers *[2][]float64, i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var buffers [2][]float64
			for i := w; i < n; i += workers {
				work(&buffers, i)
			}
		})
	}
	wg.Wait()
}

// Loss is the mean −log p of the tokens under the loss, in nats, and e to its power.
type Loss struct {
	Records    int     `json:"records"`
	Tokens     int     `json:"tokens"`
	Loss       float64 `json:"loss"`
	StdErr     float64 `json:"std_err"`
	Perplexity float64 `json:"perplexity"`
}

func lossOf(records int, values []float64) *Loss {
	mean := stat.Mean(values, nil)
	return &Loss{records, len(values), mean, stdErr(values), math.Exp(mean)}
}

// stdErr is the standard error of the mean, 0 of less than two values.
func stdErr(values []float64) float64 {
	if len(values) < 2 {
		return 0
	}
	return stat.StdErr(stat.StdDev(values, nil), float64(len(values)))
}

// ErrNoEval says that there is no record to measure on.
var ErrNoEval = errors.New("no held-out record")

// heldOut are the records of the split eval.
func heldOut(records []persona.Record) ([]persona.Record, error) {
	var out []persona.Record
	for _, r := range records {
		if r.Split == "eval" {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("data: %w: got %d records, none of the split eval", ErrNoEval, len(records))
	}
	return out, nil
}

// sequencesOf tokenizes records with a model's vocabulary.
func sequencesOf(m *llama.Model, records []persona.Record) (out []sequence, longest int, err error) {
	for i := range records {
		r := &records[i]
		q, err := newSequence(m, fmt.Sprintf("record %d (%s)", i+1, r.Source), r.Text(), r.Spans, false)
		if err != nil {
			return nil, 0, err
		}
		out, longest = append(out, q), max(longest, len(q.tokens))
	}
	return out, longest, nil
}

// measureLoss is the loss of a model on records.
func measureLoss(ctx context.Context, m *llama.Model, records []persona.Record, threads int) (*Loss, error) {
	all, longest, err := sequencesOf(m, records)
	if err != nil {
		return nil, err
	}
	s, err := newScorer(m, longest, threads)
	if err != nil {
		return nil, err
	}
	defer s.context.Close()
	var values []float64
	for i := range all {
		part, err := s.losses(ctx, &all[i])
		if err != nil {
			return nil, err
		}
		values = append(values, part...)
	}
	return lossOf(len(all), values), nil
}

// Margin is how much more likely the persona's answer is than that of an assistant without one: for each question the
// mean log p per token of the former less that of the latter. Of several answers the likeliest counts. End tokens do
// not, since both kinds of answers may go on.
type Margin struct {
	Generic  string `json:"generic"` // "list", or the file whose answers they are
	Mean     Mean   `json:"mean"`
	Positive Score  `json:"positive"` // questions with a margin above 0
}

// contrast is a question with both kinds of answers.
type contrast struct {
	id               string
	question         string
	persona, generic []string
}

// maxIntroductions is the number of answers of records that a question is compared with.
const maxIntroductions = 16

// contrasts are the questions of the probes that have a reference: a plain one, and what the records answer to who the
// character is.
func contrasts(card *persona.Card, probes []Probe, records []persona.Record) ([]contrast, error) {
	d, err := readProbes()
	if err != nil {
		return nil, err
	}
	language := card.Language
	fill := func(list []string, accept string) (out []string) {
		for _, text := range list {
			text = strings.NewReplacer("{name}", card.Name, "{accept}", accept).Replace(text)
			out = append(out, particles(text))
		}
		return out
	}
	introductions := append(fill(d.Answers.Persona.in(language), ""), check.NewRules(card).Introductions(records, maxIntroductions)...)
	var out []contrast
	for i := range probes {
		p := &probes[i]
		switch {
		case len(p.Turns) > 1:
		case p.Kind == Fact:
			out = append(out, contrast{p.ID, p.last(), fill(d.Answers.Fact.in(language), p.Accept[0]), d.Answers.GenericFact.in(language)})
		case p.Who && p.Kind != OtherLanguage:
			out = append(out, contrast{p.ID, p.last(), introductions, d.Answers.Generic.in(language)})
		}
	}
	return out, nil
}

// measureMargin compares the likelihoods of the answers.
func measureMargin(ctx context.Context, m *llama.Model, r *persona.Renderer, card *persona.Card, all []contrast, generic string, seed uint64, threads int) (*Margin, error) {
	s, err := newScorer(m, contextOf(card), threads)
	if err != nil {
		return nil, err
	}
	defer s.context.Close()
	var values []float64
	out := &Margin{Generic: generic, Positive: Score{Name: "margin_positive", Unit: "question", AtLeast: true}}
	for _, c := range all {
		own, err := s.likelihood(ctx, m, r, card, c, c.persona)
		if err != nil {
			return nil, err
		}
		other, err := s.likelihood(ctx, m, r, card, c, c.generic)
		if err != nil {
			return nil, err
		}
		values = append(values, own-other)
		out.Positive.add(own > other, Failure{Probe: c.id, Turn: 1})
	}
	out.Mean = meanOf("margin", "nat per token", values, seed)
	out.Positive.finish()
	return out, nil
}

// likelihood is the mean log p per token of the likeliest of the answers.
func (s *scorer) likelihood(ctx context.Context, m *llama.Model, r *persona.Renderer, card *persona.Card, c contrast, answers []string) (float64, error) {
	prompt, err := r.Prompt([]persona.Turn{{Role: card.User.Name, Content: c.question}})
	if err != nil {
		return 0, err
	}
	best := math.Inf(-1)
	for _, answer := range answers {
		if r.Format() == persona.TrainableAgents { // the space behind the colon is the answer's
			answer = " " + answer
		}
		q, err := answerSequence(m, "question "+c.id, prompt, answer)
		if err != nil {
			return 0, err
		}
		if len(q.tokens) > s.context.NCtx() {
			return 0, fmt.Errorf("question %s: got %d tokens, want at most %d", c.id, len(q.tokens), s.context.NCtx())
		}
		losses, err := s.losses(ctx, &q)
		if err != nil {
			return 0, err
		}
		best = max(best, -stat.Mean(losses, nil))
	}
	return best, nil
}

// answerSequence is a prompt and an answer to it, which counts. Where the vocabulary has a token across the border,
// the two are tokenized apart, as they are at inference.
func answerSequence(m *llama.Model, id, prompt, answer string) (sequence, error) {
	start := utf8.RuneCountInString(prompt)
	q, err := newSequence(m, id, prompt+answer, [][2]int{{start, start + utf8.RuneCountInString(answer)}}, true)
	if !errors.Is(err, errBorder) {
		return q, err
	}
	before, err := m.Tokenize(prompt, true, true)
	if err != nil {
		return sequence{}, fmt.Errorf("%s: %w", id, err)
	}
	after, err := m.Tokenize(answer, false, false)
	if err != nil || len(after) == 0 {
		return sequence{}, fmt.Errorf("%s: answer %q: got %d tokens: %w", id, answer, len(after), err)
	}
	q = sequence{id: id, tokens: slices.Concat(before, after), counts: make([]bool, len(before)+len(after))}
	for i := range after {
		q.counts[len(before)+i] = true
	}
	return q, nil
}
