package eval

import (
	"context"
	"fmt"
	"math"
	"slices"

	llama "github.com/go-skynet/go-llama.cpp"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"

	"github.com/persona-gguf/persona-gguf/persona"
)

// DriftReport is how far a file is from the first one on the tokens under the loss of held-out records, by
// llama-perplexity's method (tools/perplexity/perplexity.cpp, --kl-divergence), with full softmaxes in float64.
type DriftReport struct {
	Reference string   `json:"reference"`
	File      string   `json:"file"`
	Records   int      `json:"records"`
	Tokens    int      `json:"tokens"`
	KLD       float64  `json:"kld"` // mean over tokens of Σ p·(log p − log q), p of the reference
	StdErr    float64  `json:"kld_std_err"`
	Q99       float64  `json:"kld_99"` // 99 % quantile
	Max       float64  `json:"kld_max"`
	SameTop   Score    `json:"same_top"`      // tokens where both have the same most likely one
	LogRatio  float64  `json:"log_ppl_ratio"` // mean loss of the file less that of the reference
	Changes   []Change `json:"score_changes"` // of every score of the interview
	values    []float64
}

// Change is what a score is in the reference and in the file.
type Change struct {
	Name string  `json:"name"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// divergence is Σ p·(log p − log q) of log probabilities.
func divergence(logP, logQ []float64) float64 {
	sum := 0.0
	for i, lp := range logP {
		if p := math.Exp(lp); p > 0 {
			sum += p * (lp - logQ[i])
		}
	}
	return sum
}

// measureDrift compares two files. Both are loaded at the same time.
func measureDrift(ctx context.Context, reference, file string, records []persona.Record, threads, gpuLayers int) (*DriftReport, error) {
	a, err := loadModel(ctx, reference, gpuLayers)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := loadModel(ctx, file, gpuLayers)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if a.NVocab() != b.NVocab() {
		return nil, fmt.Errorf("%s: vocabulary: got %d tokens, want %d as %s has", file, b.NVocab(), a.NVocab(), reference)
	}
	all, longest, err := sequencesOf(a, records)
	if err != nil {
		return nil, err
	}
	p, err := newScorer(a, longest, threads)
	if err != nil {
		return nil, err
	}
	defer p.context.Close()
	q, err := newScorer(b, longest, threads)
	if err != nil {
		return nil, err
	}
	defer q.context.Close()
	out := &DriftReport{Reference: reference, File: file, Records: len(all), SameTop: Score{Name: "same_top", Unit: "token", AtLeast: true}}
	ratio := 0.0
	for i := range all {
		sum, err := out.compare(ctx, p, q, &all[i])
		if err != nil {
			return nil, err
		}
		ratio += sum
	}
	out.finish(ratio)
	return out, nil
}

// compare adds the tokens of one sequence; it gives the sum of the differences of their losses.
func (d *DriftReport) compare(ctx context.Context, p, q *scorer, s *sequence) (float64, error) {
	for _, each := range []*scorer{p, q} {
		if err := each.context.MemoryClear(false); err != nil {
			return 0, err
		}
	}
	ratio := 0.0
	for from := 0; from < len(s.tokens)-1; from += scoreBatch {
		next, reference, err := p.part(ctx, s, from)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.id, err)
		}
		_, rows, err := q.part(ctx, s, from)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.id, err)
		}
		ratio += d.add(next, reference, rows)
	}
	return ratio, nil
}

// add compares rows of logits.
func (d *DriftReport) add(next []llama.Token, reference, rows [][]float32) float64 {
	values, same, differences := make([]float64, len(rows)), make([]bool, len(rows)), make([]float64, len(rows))
	each(len(rows), func(buffer *[2][]float64, i int) {
		buffer[0], buffer[1] = logSoftmax(buffer[0], reference[i]), logSoftmax(buffer[1], rows[i])
		values[i] = divergence(buffer[0], buffer[1])
		same[i] = floats.MaxIdx(buffer[0]) == floats.MaxIdx(buffer[1])
		differences[i] = buffer[0][next[i]] - buffer[1][next[i]]
	})
	d.values = append(d.values, values...)
	for _, is := range same {
		if d.SameTop.Of++; is {
			d.SameTop.N++
		}
	}
	return floats.Sum(differences)
}

func (d *DriftReport) finish(ratio float64) {
	slices.Sort(d.values)
	d.Tokens = len(d.values)
	d.KLD, d.StdErr, d.LogRatio = stat.Mean(d.values, nil), stdErr(d.values), ratio/float64(d.Tokens)
	d.Q99, d.Max = stat.Quantile(0.99, stat.Empirical, d.values, nil), d.values[d.Tokens-1]
	d.SameTop.finish()
}

// changes are the scores of both files side by side.
func changes(from, to []Score) (out []Change) {
	for _, a := range from {
		for _, b := range to {
			if a.Name == b.Name {
				out = append(out, Change{a.Name, a.Share, b.Share})
			}
		}
	}
	return out
}

// loadModel loads a file; ctx ends the loading.
func loadModel(ctx context.Context, path string, gpuLayers int) (*llama.Model, error) {
	p := llama.DefaultModelParams()
	p.GPULayers = gpuLayers
	p.Progress = func(float32) bool { return ctx.Err() == nil }
	m, err := llama.LoadModel(path, p)
	if ctx.Err() != nil {
		m.Close()
		return nil, ctx.Err()
	}
	return m, err
}
