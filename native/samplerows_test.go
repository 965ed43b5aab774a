package llama

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// wideModel has a vocabulary of which samplers look at a part only.
func wideModel(t *testing.T) *Model {
	t.Helper()
	o := tinymodel.Options{}
	for i := range 8000 {
		o.Extra = append(o.Extra, fmt.Sprintf("w%d", i))
	}
	return tinyModel(t, o)
}

// allOf makes a sampler look at the whole vocabulary: top-n-sigma needs it, and 1e9 leaves everything.
func allOf(p SamplerParams) SamplerParams {
	p.TopNSigma = 1e9
	return p
}

// TestSamplerCandidates compares samplers that look at a part of the vocabulary with ones that look at all of it.
func TestSamplerCandidates(t *testing.T) {
	m := wideModel(t)
	random := rand.New(rand.NewPCG(5, 6))
	for name, change := range map[string]func(*SamplerParams){
		"default":       func(*SamplerParams) {},
		"hot":           func(p *SamplerParams) { p.Temperature = 3 },
		"many":          func(p *SamplerParams) { p.TopK, p.TopP = 300, 1 },
		"two":           func(p *SamplerParams) { p.TopK = 2 },
		"rewarded":      func(p *SamplerParams) { p.RepeatPenalty, p.FrequencyPenalty, p.RepeatLastN = 0.5, -1, 20 },
		"long memory":   func(p *SamplerParams) { p.RepeatPenalty, p.PresencePenalty, p.RepeatLastN = 1.3, 2, 500 },
		"biased":        func(p *SamplerParams) { p.LogitBias = map[Token]float32{7: 9, 4000: 8, 11: -5} },
		"no newline":    func(p *SamplerParams) { p.PenalizeNewline = false },
		"small vocab":   func(p *SamplerParams) { p.TopK = 4000 },
		"without end":   func(p *SamplerParams) { p.IgnoreEOG = true },
		"a grammar":     func(p *SamplerParams) { p.Grammar = `root ::= [a-z ]+` },
		"rare grammar":  func(p *SamplerParams) { p.Grammar = `root ::= ([0-9] | "é")+` },
		"min p and xtc": func(p *SamplerParams) { p.MinP, p.XTCProbability = 0.05, 0.5 },
	} {
		p := DefaultSamplerParams()
		p.Seed = 42
		change(&p)
		part, all := sampler(t, m, p), sampler(t, m, allOf(p))
		for i := range 200 {
			logits := make([]float32, m.NVocab())
			for j := range logits {
				logits[j] = float32(random.NormFloat64() * 4)
			}
			got, want := draw(t, part, logits), draw(t, all, logits)
			if got != want {
				t.Fatalf("%s, draw %d: got token %d, want %d", name, i, got, want)
			}
			for _, s := range []*Sampler{part, all} {
				if err := s.Accept(got); err != nil {
					t.Fatalf("%s, draw %d: %v", name, i, err)
				}
			}
			if i == 100 { // the memory goes on in a copy
				clone, err := part.Clone()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { clone.Close() })
				part = clone
			}
		}
	}
}

// TestSamplerCandidatesGreedy has few finite logits, equal ones, and none that is a number.
func TestSamplerCandidatesGreedy(t *testing.T) {
	m := wideModel(t)
	p := greedy()
	p.RepeatPenalty = 2
	part := sampler(t, m, p)
	logits := make([]float32, m.NVocab())
	logits[5000], logits[70], logits[71] = 6, 5, 5
	for _, want := range []Token{5000, 70, 71} { // each is halved when it was chosen
		if got := draw(t, part, logits); got != want {
			t.Errorf("got token %d, want %d", got, want)
		}
		if err := part.Accept(want); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSampleRows(t *testing.T) {
	m := wideModel(t)
	c := tinyContext(t, m, func(p *ContextParams) { p.NSeqMax, p.NCtx, p.KVUnified = 5, 512, true })
	random := rand.New(rand.NewPCG(1, 2))
	for _, workers := range []int{1, 3, 99} {
		var batch []BatchToken
		for seq := range 5 {
			for pos := range 3 {
				batch = append(batch, BatchToken{Token: Token(random.IntN(m.NVocab())), Pos: int32(pos), Seqs: []int32{int32(seq)}, Logits: pos == 2})
			}
		}
		if err := c.MemoryClear(false); err != nil {
			t.Fatal(err)
		}
		if err := c.Decode(batch); err != nil {
			t.Fatal(err)
		}
		var rows []SampledRow
		var alone []*Sampler
		for seq := range 5 {
			p := DefaultSamplerParams()
			p.Seed = uint32(seq)
			if seq == 3 {
				p.Grammar = `root ::= "\u0001"+`
			}
			rows = append(rows, SampledRow{Index: 3*seq + 2, Sampler: sampler(t, m, p)})
			alone = append(alone, sampler(t, m, p))
		}
		if err := rows[1].Sampler.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.SampleRows(rows, workers); err != nil {
			t.Fatal(err)
		}
		for i, r := range rows {
			want, err := alone[i].Sample(c, r.Index)
			switch {
			case i == 1:
				if !errors.Is(r.Err, ErrClosed) {
					t.Errorf("row 1: got %v, want %v", r.Err, ErrClosed)
				}
			case (err == nil) != (r.Err == nil) || err == nil && (r.Token != want || r.EOG != m.IsEOG(want)):
				t.Errorf("%d workers, row %d: got %+v, want token %d, %v", workers, i, r, want, err)
			}
		}
	}
	if err := c.SampleRows([]SampledRow{{Index: 0, Sampler: sampler(t, m, greedy())}}, 1); err == nil {
		t.Error("a token without logits: got no error")
	}
	if err := c.SampleRows(nil, 1); err != nil {
		t.Errorf("no rows: got %v", err)
	}
}

// TestSampleRowsAccept has the samplers remember what they chose, as Accept does.
func TestSampleRowsAccept(t *testing.T) {
	m := wideModel(t)
	c := tinyContext(t, m, nil)
	want := slices.Clone(lastLogits(t, c, mustTokens(t, m, "who are you"), 0))
	p := greedy()
	p.FrequencyPenalty, p.IgnoreEOG = 1000, true
	s := sampler(t, m, p)
	last := len(mustTokens(t, m, "who are you")) - 1
	for i := range 3 {
		rows := []SampledRow{{Index: last, Sampler: s}}
		if err := c.SampleRows(rows, 1); err != nil || rows[0].Err != nil {
			t.Fatal(err, rows[0].Err)
		}
		if best := argmax(want); rows[0].Token != best {
			t.Fatalf("choice %d: got %d, want %d", i, rows[0].Token, best)
		}
		want[rows[0].Token] -= 1000
	}
}
