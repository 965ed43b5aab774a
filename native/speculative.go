package llama

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
)

// defaultDraft is the number of proposed tokens when NDraft is 0.
const defaultDraft = 16

// SpeculativeSampling is Predict with a second, smaller model, ll, of the same
// vocabulary: ll proposes the next tokens, and l decodes all of them at once and
// keeps those it would have chosen itself. Every token is sampled from l, so the
// answer is l's.
//
// ll may have a smaller context, and may be l itself. The negative prompt and the
// prompt cache are not used. The seed of the model options counts when the call
// gives none.
func (l *LLama) SpeculativeSampling(ll *LLama, text string, opts ...PredictOption) (string, error) {
	po := NewPredictOptions(opts...)
	end, err := beginTwo(l, ll)
	if err != nil {
		return "", fmt.Errorf("speculative sampling: %w", err)
	}
	defer end()
	defer l.useCallback(po.TokenCallback)()
	answer, err := l.speculate(ll, text, po)
	if err != nil {
		return "", fmt.Errorf("speculative sampling: %w", err)
	}
	return answer, nil
}

func (l *LLama) speculate(ll *LLama, text string, po PredictOptions) (string, error) {
	if err := sameVocabulary(l.model, ll.model); err != nil {
		return "", err
	}
	if po.Seed == -1 && l.options.Seed != 0 {
		po.Seed = l.options.Seed
	}
	params, err := l.samplerParams(po)
	if err != nil {
		return "", err
	}
	s, err := NewSampler(l.model, params)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := setThreads(l.memory.c, po.Threads); err != nil {
		return "", err
	}
	l.loaded = false
	prompt, err := l.startPrompt(text, po, s)
	if err != nil {
		return "", err
	}
	d, err := l.newDraft(ll, prompt, po)
	if err != nil {
		return "", err
	}
	defer d.close()
	a := l.newAnswer(po)
	if err := d.generate(a, s); err != nil {
		return "", err
	}
	a.debug(po, len(prompt))
	if po.DebugMode {
		slog.Info("llama: draft", "proposed", d.proposed, "accepted", d.accepted)
	}
	return a.text(), nil
}

// maxVocabDifference is by how many (unused) tokens the vocabularies of two sizes
// of one model may differ (llama.cpp: common/speculative.cpp).
const maxVocabDifference = 128

// sameVocabulary compares the texts of all tokens that both models have.
func sameVocabulary(a, b *Model) error {
	if a == b {
		return nil
	}
	n, other := a.NVocab(), b.NVocab()
	if max(n, other)-min(n, other) > maxVocabDifference {
		return fmt.Errorf("draft model has another vocabulary: got %d tokens, want %d", other, n)
	}
	for t := range Token(min(n, other)) {
		want, err := a.TokenText(t)
		if err != nil {
			return err
		}
		got, err := b.TokenText(t)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("draft model has another vocabulary: token %d: got %q, want %q", t, got, want)
		}
	}
	if a.BOS() != b.BOS() || a.EOS() != b.EOS() {
		return fmt.Errorf("draft model has another vocabulary: BOS and EOS: got %d and %d, want %d and %d", b.BOS(), b.EOS(), a.BOS(), a.EOS())
	}
	return nil
}

// draft is one run of speculative sampling.
type draft struct {
	l      *LLama
	target *history
	memory *history      // the draft model's
	own    *ModelContext // made for this run, because l drafts for itself; or nil
	// grammar has seen the answer so far and chooses the likeliest token that
	// the grammar allows; nil without a grammar.
	grammar *Sampler
	most    int // tokens to propose at a time
	decoded int // tokens of the last proposal that the draft model decoded

	proposed, accepted int
}

// newDraft decodes the prompt with the draft model: as much of its end as half
// the context takes, if it does not fit.
func (l *LLama) newDraft(ll *LLama, prompt []Token, po PredictOptions) (*draft, error) {
	d := &draft{l: l, target: l.memory, memory: ll.memory}
	if err := d.start(ll, prompt, po); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *draft) start(ll *LLama, prompt []Token, po PredictOptions) error {
	var err error
	if ll == d.l {
		if d.own, err = ll.newContext(); err != nil {
			return err
		}
		d.memory = &history{c: d.own}
	} else {
		ll.next, ll.loaded = -1, false
	}
	c := d.memory.c
	if err := setThreads(c, po.Threads); err != nil {
		return err
	}
	if err := d.memory.clear(); err != nil {
		return err
	}
	d.memory.keep = d.target.keep
	if len(prompt) > c.NCtx()-4 {
		prompt = prompt[len(prompt)-c.NCtx()/2:]
		d.memory.keep = 1
	}
	d.most = po.NDraft
	if d.most <= 0 {
		d.most = defaultDraft
	}
	// What is decoded at once must fit into a batch, and behind the tokens kept
	// in a full context.
	d.most = min(d.most, d.target.c.NBatch()-1, (d.target.c.NCtx()-d.target.keep)/2-1, (c.NCtx()-d.memory.keep)/2-2)
	d.most = max(d.most, 0)
	if po.Grammar != "" {
		if d.grammar, err = NewSampler(d.l.model, SamplerParams{Grammar: po.Grammar, RepeatPenalty: 1}); err != nil {
			return err
		}
	}
	if int(slices.Max(prompt)) >= c.Model().NVocab() {
		d.memory = nil // as in propose
		return nil
	}
	return d.memory.decode(prompt, false)
}

func (d *draft) close() {
	if d.own != nil {
		_ = d.own.Close()
	}
	if d.grammar != nil {
		_ = d.grammar.Close()
	}
}

// generate repeats: sample from the target as long as it agrees with the
// proposal, go back to there, propose again, decode the proposal.
func (d *draft) generate(a *answer, s *Sampler) error {
	var proposal []Token // decoded by the target behind its last own token
	row := -1            // of the logits behind that token
	for {
		base := len(d.target.tokens) - len(proposal)
		agreed, t, done, err := d.verify(a, s, proposal, row)
		if err != nil {
			return err
		}
		if err := d.target.truncate(base + agreed); err != nil {
			return err
		}
		if done {
			d.l.next = t
			return nil
		}
		if proposal, err = d.propose(proposal, agreed, t); err != nil {
			return err
		}
		if err := d.target.room(1 + len(proposal)); err != nil {
			return err
		}
		if err := d.target.decode(append([]Token{t}, proposal...), true); err != nil {
			return err
		}
		row = 0
	}
}

// verify samples from the target, row by row. It returns how many proposed
// tokens are part of the answer and, unless done, the token that comes next. When
// done, next is the last token of the answer if that is not decoded yet, or -1.
func (d *draft) verify(a *answer, s *Sampler, proposal []Token, row int) (agreed int, next Token, done bool, err error) {
	for {
		t, err := s.Sample(d.target.c, row)
		if err != nil {
			return 0, -1, false, err
		}
		same := agreed < len(proposal) && proposal[agreed] == t
		done, keep, err := a.add(t)
		if err != nil {
			return 0, -1, false, err
		}
		if same && keep {
			agreed++
			d.accepted++
		}
		if done {
			if same || !keep {
				t = -1
			}
			return agreed, t, true, nil
		}
		if err := d.accept(s, t); err != nil {
			return 0, -1, false, err
		}
		if !same {
			return agreed, t, false, nil
		}
		row++
	}
}

// accept tells the samplers about a token of the answer.
func (d *draft) accept(s *Sampler, t Token) error {
	if d.grammar != nil {
		if err := d.grammar.Accept(t); err != nil {
			return err
		}
	}
	return s.Accept(t)
}

// propose takes back what the target did not agree with, decodes next and has
// the draft model go on as long as it is sure.
func (d *draft) propose(old []Token, agreed int, next Token) ([]Token, error) {
	m := d.memory
	if m == nil || int(next) >= m.c.Model().NVocab() {
		d.memory = nil // a token that the draft model lacks: it proposes no more
		return nil, nil
	}
	if err := m.truncate(len(m.tokens) - d.decoded + min(agreed, d.decoded)); err != nil {
		return nil, err
	}
	feed := append(slices.Clone(old[min(agreed, d.decoded):agreed]), next)
	d.decoded = 0
	if err := m.room(len(feed) + d.most); err != nil {
		return nil, err
	}
	if err := m.decode(feed, false); err != nil {
		return nil, err
	}
	var grammar *Sampler
	if d.grammar != nil {
		var err error
		if grammar, err = d.grammar.Clone(); err != nil {
			return nil, err
		}
		defer grammar.Close()
	}
	return d.sure(grammar)
}

// sure has the draft model go on from its last logits.
func (d *draft) sure(grammar *Sampler) ([]Token, error) {
	var proposal []Token
	for len(proposal) < d.most {
		logits, err := d.memory.c.Logits(-1)
		if err != nil {
			return nil, err
		}
		t, ok := likeliest(logits)
		if grammar != nil {
			// The logits do not tell how sure the model is among the tokens that
			// the grammar allows. One that allows none of them ends the proposal.
			t, err = grammar.SampleLogits(logits)
			ok = err == nil && !d.l.model.IsEOG(t) && grammar.Accept(t) == nil
		}
		if !ok || int(t) >= d.l.model.NVocab() {
			break
		}
		proposal = append(proposal, t)
		d.proposed++
		if len(proposal) == d.most || d.l.model.IsEOG(t) {
			break
		}
		if err := d.memory.decode([]Token{t}, false); err != nil {
			return nil, err
		}
		d.decoded++
	}
	return proposal, nil
}

// likeliest returns the token of the largest logit. The model is sure of it when
// it is at least twice as likely as the next.
func likeliest(logits []float32) (t Token, sure bool) {
	first, second := math.Inf(-1), math.Inf(-1)
	for i, x := range logits {
		switch x := float64(x); {
		case x > first:
			first, second, t = x, first, Token(i)
		case x > second:
			second = x
		}
	}
	return t, first-second >= math.Ln2
}
