package llama

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Values of the rope options that stand for the model's own: go-llama.cpp
// applied them always, when every model was trained with them.
const (
	ropeBaseOfOld  = 10000
	ropeScaleOfOld = 1
)

// loadParams turns the options of New into the parameters of model and context.
func loadParams(o ModelOptions) (ModelParams, ContextParams, error) {
	mp, cp := DefaultModelParams(), DefaultContextParams()
	var err error
	if mp.MainGPU, err = parseMainGPU(o.MainGPU); err != nil {
		return mp, cp, err
	}
	if mp.TensorSplit, err = parseTensorSplit(o.TensorSplit); err != nil {
		return mp, cp, err
	}
	if o.ContextSize < 0 {
		return mp, cp, fmt.Errorf("context size: got %d, want 0 or more", o.ContextSize)
	}
	mp.GPULayers = max(o.NGPULayers, -1)
	mp.UseMMap, mp.UseMLock = o.MMap, o.MLock

	cp.NCtx = o.ContextSize
	cp.NBatch = o.NBatch
	if cp.NBatch <= 0 {
		cp.NBatch = DefaultModelOptions.NBatch
	}
	cp.NUBatch = min(cp.NUBatch, cp.NBatch)
	cp.NSeqMax, cp.Pooling = 1, PoolingNone
	if cp.RopeFreqBase, err = parseRope("base", o.FreqRopeBase, ropeBaseOfOld); err != nil {
		return mp, cp, err
	}
	cp.RopeFreqScale, err = parseRope("scale", o.FreqRopeScale, ropeScaleOfOld)
	return mp, cp, err
}

// parseRope returns 0, the model's own, for 0 and the default of old.
func parseRope(name string, f, old float32) (float32, error) {
	switch {
	case f == 0 || f == old:
		return 0, nil
	case !(f > 0) || math.IsInf(float64(f), 0):
		return 0, fmt.Errorf("rope frequency %s: got %v, want a number of 0 or more", name, f)
	}
	return f, nil
}

// parseMainGPU reads the number of a GPU; "" is 0.
func parseMainGPU(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("main GPU: got %q, want a decimal number of 0 or more", s)
	}
	return int(n), nil
}

// parseTensorSplit reads the shares of GPUs, separated by "," and "/"; "" is nil.
func parseTensorSplit(s string) ([]float32, error) {
	if s == "" {
		return nil, nil
	}
	var shares []float32
	for _, field := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '/' }) {
		f, err := strconv.ParseFloat(strings.TrimSpace(field), 32)
		if err != nil || !(f >= 0) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("tensor split %q: share %d: got %q, want a number of 0 or more", s, len(shares)+1, field)
		}
		shares = append(shares, float32(f))
	}
	if len(shares) == 0 {
		return nil, fmt.Errorf("tensor split: got %q, want numbers separated by %q or %q", s, ",", "/")
	}
	return shares, nil
}

// parseLogitBias reads "ID+VALUE" or "ID-VALUE"; "" is none.
func parseLogitBias(s string) (map[Token]float32, error) {
	if s == "" {
		return nil, nil
	}
	bad := fmt.Errorf("logit bias: got %q, want ID+VALUE or ID-VALUE", s)
	text := strings.TrimSpace(s)
	i := strings.IndexAny(text, "+-")
	if i <= 0 {
		return nil, bad
	}
	id, err := strconv.ParseUint(strings.TrimSpace(text[:i]), 10, 31)
	if err != nil {
		return nil, bad
	}
	number := strings.TrimSpace(text[i+1:])
	value, err := strconv.ParseFloat(number, 32)
	if err != nil || !(value >= 0) || number[0] == '+' {
		return nil, bad
	}
	if text[i] == '-' {
		value = -value
	}
	if math.IsInf(value, 1) {
		return nil, fmt.Errorf("logit bias: got %q, want a finite value or -inf", s)
	}
	return map[Token]float32{Token(id): float32(value)}, nil
}

// check refuses what cannot be read in the options that are only checked.
func (po PredictOptions) check() error {
	if _, err := parseMainGPU(po.MainGPU); err != nil {
		return err
	}
	_, err := parseTensorSplit(po.TensorSplit)
	return err
}

// samplerParams turns the options of a call into a sampler chain of the same
// steps, in the same order: bias, penalties, grammar, then either the likeliest
// token, Mirostat, or top-k, typical, top-p, temperature.
func (l *LLama) samplerParams(po PredictOptions) (SamplerParams, error) {
	if err := po.check(); err != nil {
		return SamplerParams{}, err
	}
	bias, err := parseLogitBias(po.LogitBias)
	if err != nil {
		return SamplerParams{}, err
	}
	if po.Mirostat < 0 || po.Mirostat > 2 {
		return SamplerParams{}, fmt.Errorf("mirostat: got %d, want 0, 1 or 2", po.Mirostat)
	}
	p := SamplerParams{
		Seed:             DefaultSamplerParams().Seed,
		Temperature:      max(po.Temperature, 0),
		TopK:             max(po.TopK, 0),
		TopP:             po.TopP,
		TypicalP:         po.TypicalP,
		RepeatPenalty:    po.Penalty,
		FrequencyPenalty: po.FrequencyPenalty,
		PresencePenalty:  po.PresencePenalty,
		RepeatLastN:      po.Repeat,
		PenalizeNewline:  po.PenalizeNL,
		MirostatTau:      po.MirostatTAU,
		MirostatEta:      po.MirostatETA,
		Grammar:          po.Grammar,
		LogitBias:        bias,
		IgnoreEOG:        po.IgnoreEOS,
	}
	if p.Temperature > 0 {
		p.Mirostat = po.Mirostat
	}
	if po.Seed != -1 {
		p.Seed = uint32(po.Seed)
	}
	if po.Penalty == 0 {
		p.RepeatPenalty = 1
	}
	if po.Repeat < 0 {
		p.RepeatLastN = l.memory.c.NCtx()
	}
	return p, nil
}
