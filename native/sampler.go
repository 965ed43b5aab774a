package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// RandomSeed as a seed means a new one each time.
const RandomSeed uint32 = C.LLAMA_DEFAULT_SEED

// SamplerParams says how a token is chosen; start from DefaultSamplerParams. The
// steps run in llama.cpp's order: logit bias, penalties, DRY, top-n-sigma, top-k,
// typical, top-p, min-p, XTC, temperature, draw (common/sampling.cpp).
type SamplerParams struct {
	Seed        uint32  // RandomSeed draws one
	Temperature float32 // 0 or less: always the most likely token
	TopK        int     // 0 or less: off
	TopP        float32 // 1: off
	MinP        float32 // 0: off
	TypicalP    float32 // 1: off
	TopNSigma   float32 // 0 or less: off
	MinKeep     int     // the fewest tokens that TopP, MinP, TypicalP and XTC leave

	RepeatPenalty    float32 // 1: off
	FrequencyPenalty float32 // 0: off
	PresencePenalty  float32 // 0: off
	RepeatLastN      int     // tokens looked back on; 0: off
	PenalizeNewline  bool    // false: penalties leave the newline token alone

	Mirostat    int // 1 or 2 replace all steps between penalties and draw, except the temperature
	MirostatTau float32
	MirostatEta float32

	DynaTempRange, DynaTempExponent float32 // range 0: off
	XTCProbability, XTCThreshold    float32 // probability 0: off

	DRYMultiplier, DRYBase float32 // multiplier 0: off
	DRYAllowedLength       int
	DRYLastN               int
	DRYBreakers            []string

	Grammar     string // GBNF; "" is none
	GrammarRoot string // "" is "root"
	LogitBias   map[Token]float32
	IgnoreEOG   bool // never end the generation
}

// DefaultSamplerParams are the values that Ollama and llama.cpp's tools share as
// far as they agree, else Ollama's (top_p 0.9, min_p 0, repeat_penalty 1.1 over 64 tokens).
func DefaultSamplerParams() SamplerParams {
	return SamplerParams{
		Seed: RandomSeed, Temperature: 0.8, TopK: 40, TopP: 0.9, TypicalP: 1, TopNSigma: -1,
		RepeatPenalty: 1.1, RepeatLastN: 64, PenalizeNewline: true,
		MirostatTau: 5, MirostatEta: 0.1, DynaTempExponent: 1, XTCThreshold: 0.1,
		DRYBase: 1.75, DRYAllowedLength: 2, DRYLastN: 64, DRYBreakers: []string{"\n", ":", "\"", "*"},
		GrammarRoot: "root",
	}
}

// Sampler chooses tokens. It remembers what it accepted (penalties, grammar,
// mirostat), so one belongs to one sequence.
type Sampler struct {
	mu     sync.Mutex
	model  *Model
	ptr    *C.nl_sampler // nil after Close
	broken bool
}

// NewSampler makes a sampler for models with m's vocabulary.
func NewSampler(m *Model, p SamplerParams) (*Sampler, error) {
	if err := m.useVocab("new sampler"); err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			m.release()
		}
	}()
	if err := m.checkSampler(p); err != nil {
		return nil, fmt.Errorf("new sampler: %w", err)
	}
	if p.GrammarRoot == "" {
		p.GrammarRoot = "root"
	}
	var texts [3]*C.char
	for i, s := range []string{p.Grammar, p.GrammarRoot} {
		cs, err := cString(s)
		if err != nil {
			return nil, fmt.Errorf("new sampler: grammar: %w", err)
		}
		defer C.free(unsafe.Pointer(cs))
		texts[i] = cs
	}
	texts[2] = C.CString(strings.Join(p.DRYBreakers, "\x00") + "\x00")
	defer C.free(unsafe.Pointer(texts[2]))

	tokens := make([]Token, 0, len(p.LogitBias)+1)
	for t := range p.LogitBias {
		tokens = append(tokens, t)
	}
	slices.Sort(tokens)
	bias := make([]float32, len(tokens), len(tokens)+1)
	for i, t := range tokens {
		bias[i] = p.LogitBias[t]
	}
	r := C.nl_sampler_new(m.vocab, samplerParams(p), texts[0], texts[1],
		(*C.int32_t)(unsafe.SliceData(tokens)), (*C.float)(unsafe.SliceData(bias)), C.int32_t(len(tokens)),
		texts[2], C.int32_t(len(p.DRYBreakers)))
	if err := check(r, "new sampler", ""); err != nil {
		return nil, grammarError(err, p)
	}
	done = true
	return &Sampler{model: m, ptr: (*C.nl_sampler)(r.p)}, nil
}

// grammarError names the grammar when that was what llama.cpp refused.
func grammarError(err error, p SamplerParams) error {
	if e, ok := err.(*Error); ok && p.Grammar != "" {
		e.Object = "with grammar"
	}
	return err
}

func samplerParams(p SamplerParams) C.nl_sampler_params {
	return C.nl_sampler_params{
		seed: C.uint32_t(p.Seed), top_k: C.int32_t(p.TopK), min_keep: C.int32_t(p.MinKeep),
		repeat_last_n: C.int32_t(p.RepeatLastN), mirostat: C.int32_t(p.Mirostat),
		dry_allowed_length: C.int32_t(p.DRYAllowedLength), dry_last_n: C.int32_t(p.DRYLastN),
		temp: C.float(p.Temperature), top_p: C.float(p.TopP), min_p: C.float(p.MinP),
		typical_p: C.float(p.TypicalP), top_n_sigma: C.float(p.TopNSigma),
		repeat: C.float(p.RepeatPenalty), frequency: C.float(p.FrequencyPenalty), presence: C.float(p.PresencePenalty),
		mirostat_tau: C.float(p.MirostatTau), mirostat_eta: C.float(p.MirostatEta),
		dynatemp_range: C.float(p.DynaTempRange), dynatemp_exponent: C.float(p.DynaTempExponent),
		xtc_probability: C.float(p.XTCProbability), xtc_threshold: C.float(p.XTCThreshold),
		dry_multiplier: C.float(p.DRYMultiplier), dry_base: C.float(p.DRYBase),
		penalize_nl: cbool(p.PenalizeNewline), ignore_eog: cbool(p.IgnoreEOG),
	}
}

// maxLookBack bounds the tokens a sampler remembers, for which it allocates.
const maxLookBack = 1 << 24

func (m *Model) checkSampler(p SamplerParams) error {
	for _, x := range []struct {
		name     string
		got, min float32
	}{
		{"temperature", p.Temperature, -math.MaxFloat32}, {"top_p", p.TopP, 0}, {"min_p", p.MinP, 0},
		{"typical_p", p.TypicalP, 0}, {"top_n_sigma", p.TopNSigma, -math.MaxFloat32},
		{"repeat_penalty", p.RepeatPenalty, math.SmallestNonzeroFloat32},
		{"frequency_penalty", p.FrequencyPenalty, -math.MaxFloat32}, {"presence_penalty", p.PresencePenalty, -math.MaxFloat32},
		{"mirostat_tau", p.MirostatTau, 0}, {"mirostat_eta", p.MirostatEta, 0},
		{"dynatemp_range", p.DynaTempRange, 0}, {"dynatemp_exponent", p.DynaTempExponent, 0},
		{"xtc_probability", p.XTCProbability, 0}, {"xtc_threshold", p.XTCThreshold, 0},
		{"dry_multiplier", p.DRYMultiplier, 0}, {"dry_base", p.DRYBase, 0},
	} {
		if !(x.got >= x.min) || math.IsInf(float64(x.got), 0) {
			return fmt.Errorf("%s: got %v, want a number of at least %v", x.name, x.got, x.min)
		}
	}
	if p.RepeatPenalty < 1e-30 { // its inverse must be finite too
		return fmt.Errorf("repeat_penalty: got %v, want more than 0", p.RepeatPenalty)
	}
	for _, x := range []struct {
		name          string
		got, min, max int
	}{
		{"top_k", p.TopK, math.MinInt32, math.MaxInt32}, {"min_keep", p.MinKeep, 0, math.MaxInt32},
		{"repeat_last_n", p.RepeatLastN, 0, maxLookBack}, {"mirostat", p.Mirostat, 0, 2},
		{"dry_allowed_length", p.DRYAllowedLength, 0, math.MaxInt32}, {"dry_last_n", p.DRYLastN, 0, maxLookBack},
	} {
		if x.got < x.min || x.got > x.max {
			return fmt.Errorf("%s: got %d, want %d to %d", x.name, x.got, x.min, x.max)
		}
	}
	for t, b := range p.LogitBias {
		if err := m.checkToken("logit bias", t); err != nil {
			return err
		}
		if math.IsNaN(float64(b)) || math.IsInf(float64(b), 1) {
			return fmt.Errorf("logit bias of token %d: got %v, want a number or -Inf", t, b)
		}
	}
	for i, b := range p.DRYBreakers {
		if b == "" || strings.IndexByte(b, 0) >= 0 {
			return fmt.Errorf("dry breaker %d: got %q, want text", i, b)
		}
	}
	return checkGrammar(p.Grammar)
}

// Limits of a grammar: llama.cpp's parser and its search for left recursion call
// themselves, on the C stack.
const (
	maxGrammarBytes = 1 << 20
	maxGrammarRules = 10_000
	maxGrammarDepth = 500
)

func checkGrammar(g string) error {
	if strings.HasPrefix(g, "%llguidance") {
		return fmt.Errorf("grammar: llguidance is not part of this build, want GBNF")
	}
	if len(g) > maxGrammarBytes {
		return fmt.Errorf("grammar: got %d bytes, want at most %d", len(g), maxGrammarBytes)
	}
	if n := strings.Count(g, "::="); n > maxGrammarRules {
		return fmt.Errorf("grammar: got %d rules, want at most %d", n, maxGrammarRules)
	}
	if n := nesting(g); n > maxGrammarDepth {
		return fmt.Errorf("grammar: parentheses nested %d deep, want at most %d", n, maxGrammarDepth)
	}
	return nil
}

// nesting returns the largest depth of parentheses outside of literals, character
// classes and comments.
func nesting(g string) int {
	depth, most := 0, 0
	var until byte
	for i := 0; i < len(g); i++ {
		switch c := g[i]; {
		case c == '\\' && until != '\n':
			i++
		case until != 0:
			if c == until {
				until = 0
			}
		case c == '"':
			until = '"'
		case c == '[':
			until = ']'
		case c == '#':
			until = '\n'
		case c == '(':
			depth++
			most = max(most, depth)
		case c == ')':
			depth--
		}
	}
	return most
}

// use locks the sampler for one call; the caller must unlock s.mu.
func (s *Sampler) use(op string) error {
	if s == nil {
		return fmt.Errorf("%s: sampler: %w", op, ErrClosed)
	}
	s.mu.Lock()
	switch {
	case s.ptr == nil:
		s.mu.Unlock()
		return fmt.Errorf("%s: sampler: %w", op, ErrClosed)
	case s.broken:
		s.mu.Unlock()
		return fmt.Errorf("%s: sampler: %w", op, ErrBroken)
	}
	return nil
}

func (s *Sampler) check(r C.nl_result, op string) error {
	s.broken = s.broken || bool(r.broken)
	return check(r, op, "")
}

// Sample chooses a token by the logits of token i of c's last decode (see
// ModelContext.Logits). It does not remember it: call Accept with the token that is used.
func (s *Sampler) Sample(c *ModelContext, i int) (Token, error) {
	if err := s.use("sample"); err != nil {
		return -1, err
	}
	defer s.mu.Unlock()
	if err := c.use("sample"); err != nil {
		return -1, err
	}
	defer c.mu.Unlock()
	if c.model.nVocab != s.model.nVocab {
		return -1, fmt.Errorf("sample: vocabulary of the context: got %d tokens, want the sampler's %d", c.model.nVocab, s.model.nVocab)
	}
	j, err := c.row("logits", i)
	if err != nil {
		return -1, fmt.Errorf("sample: %w", err)
	}
	r := C.nl_sampler_sample(s.ptr, c.ptr, j)
	if err := s.check(r, "sample"); err != nil {
		c.broken = c.broken || bool(r.broken)
		return -1, err
	}
	return Token(r.n), nil
}

// SampleLogits is Sample on a row of n_vocab logits, which it does not change.
func (s *Sampler) SampleLogits(logits []float32) (Token, error) {
	if err := s.use("sample"); err != nil {
		return -1, err
	}
	defer s.mu.Unlock()
	if len(logits) != s.model.nVocab {
		return -1, fmt.Errorf("sample: got %d logits, want %d", len(logits), s.model.nVocab)
	}
	r := C.nl_sampler_sample_logits(s.ptr, (*C.float)(&logits[0]), C.int32_t(len(logits)))
	if err := s.check(r, "sample"); err != nil {
		return -1, err
	}
	return Token(r.n), nil
}

// Accept remembers a generated token. One that the grammar does not allow is an error.
func (s *Sampler) Accept(t Token) error { return s.accept(t, true) }

// AcceptPrompt remembers tokens of the prompt for the penalties; the grammar,
// which is about the answer only, does not see them.
func (s *Sampler) AcceptPrompt(tokens []Token) error {
	for _, t := range tokens {
		if err := s.accept(t, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sampler) accept(t Token, generated bool) error {
	if err := s.use("accept"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := s.model.checkToken("accept", t); err != nil {
		return err
	}
	return s.check(C.nl_sampler_accept(s.ptr, C.int32_t(t), cbool(generated)), "accept")
}

// Reset forgets everything accepted and starts the random numbers again.
func (s *Sampler) Reset() error {
	if err := s.use("reset sampler"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return s.check(C.nl_sampler_reset(s.ptr), "reset sampler")
}

// Clone returns a sampler in the same state.
func (s *Sampler) Clone() (*Sampler, error) {
	if err := s.use("clone sampler"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	r := C.nl_sampler_clone(s.ptr)
	if err := s.check(r, "clone sampler"); err != nil {
		return nil, err
	}
	s.model.retain()
	return &Sampler{model: s.model, ptr: (*C.nl_sampler)(r.p)}, nil
}

// Seed returns the seed in use, also when it was drawn.
func (s *Sampler) Seed() (uint32, error) {
	if err := s.use("seed"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	return uint32(C.nl_sampler_seed(s.ptr)), nil
}

// Chain returns the names of the steps, in order.
func (s *Sampler) Chain() ([]string, error) {
	if err := s.use("chain"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return strings.Fields(takeString(C.nl_sampler_print(s.ptr))), nil
}

// Close frees the sampler.
func (s *Sampler) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ptr == nil {
		return nil
	}
	if !s.broken {
		_ = check(C.nl_sampler_free(s.ptr), "free sampler", "")
	}
	s.ptr = nil
	s.model.release()
	return nil
}
