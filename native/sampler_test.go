package llama

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
)

// greedy are parameters without any step besides the choice of the largest logit.
func greedy() SamplerParams {
	p := DefaultSamplerParams()
	p.Temperature, p.RepeatPenalty = 0, 1
	return p
}

func sampler(t *testing.T, m *Model, p SamplerParams) *Sampler {
	t.Helper()
	s, err := NewSampler(m, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ramp are logits that rise with the token's id, by step.
func ramp(m *Model, step float32) []float32 {
	l := make([]float32, m.NVocab())
	for i := range l {
		l[i] = step * float32(i)
	}
	return l
}

func draw(t *testing.T, s *Sampler, logits []float32) Token {
	t.Helper()
	tok, err := s.SampleLogits(logits)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestSamplerGreedy(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	c := tinyContext(t, m, nil)
	want := argmax(lastLogits(t, c, mustTokens(t, m, "who are you"), 0))
	s := sampler(t, m, greedy())
	for range 3 {
		if got, err := s.Sample(c, -1); err != nil || got != want {
			t.Fatalf("got %d, %v, want %d", got, err, want)
		}
	}
	logits := make([]float32, m.NVocab())
	logits[70], logits[71] = 5, 5
	kept := slices.Clone(logits)
	if got := draw(t, s, logits); got != 70 {
		t.Errorf("of two equal logits: got %d, want the first", got)
	}
	if !slices.Equal(logits, kept) {
		t.Error("the logits were changed")
	}
}

func TestSamplerSteps(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	last := Token(m.NVocab() - 1)
	for name, test := range map[string]struct {
		change func(*SamplerParams)
		step   float32 // of the ramp of logits
		min    Token   // the smallest token that may come
		spread int     // at least that many different ones
	}{
		"top k":        {func(p *SamplerParams) { p.TopK = 5 }, 0, 0, 2},
		"top k ramp":   {func(p *SamplerParams) { p.TopK = 5 }, 0.01, last - 4, 3},
		"top p":        {func(p *SamplerParams) { p.TopP = 0.5 }, 1, last, 1},
		"min p":        {func(p *SamplerParams) { p.MinP = 0.3 }, 1, last - 1, 2},
		"cold":         {func(p *SamplerParams) { p.Temperature = 0.01 }, 1, last, 1},
		"hot":          {func(p *SamplerParams) { p.Temperature = 100 }, 1, 0, 30},
		"top n sigma":  {func(p *SamplerParams) { p.TopNSigma = 0.01 }, 1, last, 1},
		"typical":      {func(p *SamplerParams) { p.TypicalP = 0.2 }, 1, 200, 1},
		"mirostat":     {func(p *SamplerParams) { p.Mirostat, p.MirostatTau = 1, 0.1 }, 1, last - 5, 1},
		"mirostat 2":   {func(p *SamplerParams) { p.Mirostat, p.MirostatTau = 2, 0.1 }, 1, last - 5, 1},
		"xtc":          {func(p *SamplerParams) { p.XTCProbability, p.XTCThreshold = 1, 0.1 }, 1, 0, 1},
		"dynamic temp": {func(p *SamplerParams) { p.DynaTempRange = 0.5 }, 1, 240, 1},
	} {
		p := SamplerParams{Seed: 7, Temperature: 1, TopP: 1, TypicalP: 1, RepeatPenalty: 1, MirostatEta: 0.1, DynaTempExponent: 1}
		test.change(&p)
		s := sampler(t, m, p)
		logits := ramp(m, test.step)
		seen := map[Token]bool{}
		for range 200 {
			tok := draw(t, s, logits)
			if tok < test.min {
				t.Errorf("%s: got token %d, want at least %d", name, tok, test.min)
				break
			}
			seen[tok] = true
		}
		if len(seen) < test.spread {
			t.Errorf("%s: got %d different tokens, want at least %d", name, len(seen), test.spread)
		}
		if name == "xtc" && seen[last] {
			t.Errorf("xtc: got the most likely token")
		}
	}
}

func TestSamplerSeed(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	logits := ramp(m, 0.01)
	take := func(s *Sampler) (tokens []Token) {
		for range 20 {
			tokens = append(tokens, draw(t, s, logits))
		}
		return tokens
	}
	p := DefaultSamplerParams()
	p.Seed = 42
	a := take(sampler(t, m, p))
	s := sampler(t, m, p)
	if b := take(s); !slices.Equal(a, b) {
		t.Errorf("same seed: got %v and %v", a, b)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if b := take(s); !slices.Equal(a, b) {
		t.Errorf("after reset: got %v and %v", a, b)
	}
	clone, err := s.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer clone.Close()
	if x, y := take(s), take(clone); !slices.Equal(x, y) {
		t.Errorf("clone: got %v and %v", x, y)
	}
	if seed, err := s.Seed(); err != nil || seed != 42 {
		t.Errorf("seed: got %d, %v", seed, err)
	}
	p.Seed = 43
	if b := take(sampler(t, m, p)); slices.Equal(a, b) {
		t.Error("another seed: the same tokens")
	}
	p.Seed = RandomSeed
	r := sampler(t, m, p)
	if seed, err := r.Seed(); err != nil || seed == RandomSeed {
		t.Errorf("drawn seed: got %d, %v", seed, err)
	}
}

func TestSamplerPenalties(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	nl := m.NL()
	logits := make([]float32, m.NVocab())
	logits[nl], logits['a'], logits['b'] = 10, 9.5, 9
	for _, test := range []struct {
		name   string
		change func(*SamplerParams)
		accept []Token
		want   Token
	}{
		{"none", func(p *SamplerParams) {}, []Token{nl}, nl},
		{"repeat", func(p *SamplerParams) { p.RepeatPenalty = 2 }, []Token{nl}, 'a'},
		{"presence", func(p *SamplerParams) { p.PresencePenalty = 1 }, []Token{nl, 'a'}, nl},
		{"presence of one", func(p *SamplerParams) { p.PresencePenalty = 1 }, []Token{nl}, 'a'},
		{"frequency", func(p *SamplerParams) { p.FrequencyPenalty = 0.4 }, []Token{nl, nl}, 'a'},
		{"not far back", func(p *SamplerParams) { p.RepeatPenalty = 2; p.RepeatLastN = 2 }, []Token{nl, 'x', 'y'}, nl},
		{"newline exempt", func(p *SamplerParams) { p.RepeatPenalty = 2; p.PenalizeNewline = false }, []Token{nl}, nl},
		{"others are not", func(p *SamplerParams) {
			p.RepeatPenalty = 2
			p.PenalizeNewline = false
			p.LogitBias = map[Token]float32{nl: -50}
		}, []Token{'a'}, 'b'},
		{"bias", func(p *SamplerParams) { p.LogitBias = map[Token]float32{'z': 100} }, nil, 'z'},
		{"never", func(p *SamplerParams) { p.LogitBias = map[Token]float32{nl: float32(math.Inf(-1))} }, nil, 'a'},
	} {
		p := greedy()
		test.change(&p)
		s := sampler(t, m, p)
		if err := s.AcceptPrompt(test.accept); err != nil {
			t.Fatal(err)
		}
		if got := draw(t, s, logits); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
		clone, err := s.Clone()
		if err != nil {
			t.Fatal(err)
		}
		if got := draw(t, clone, logits); got != test.want {
			t.Errorf("%s: clone: got %d, want %d", test.name, got, test.want)
		}
		clone.Close()
	}
	p := greedy()
	p.IgnoreEOG = true
	logits[m.EOS()], logits[256] = 50, 40
	if got := draw(t, sampler(t, m, p), logits); got != nl {
		t.Errorf("ignore eog: got %d, want %d", got, nl)
	}
}

func TestSamplerDRY(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	p := SamplerParams{Seed: 1, Temperature: 0.01, TopP: 1, TypicalP: 1, RepeatPenalty: 1, DynaTempExponent: 1,
		DRYMultiplier: 5, DRYBase: 1.75, DRYAllowedLength: 2, DRYLastN: 64, DRYBreakers: []string{"\n"}}
	logits := make([]float32, m.NVocab())
	logits['d'], logits['e'] = 10, 9
	s := sampler(t, m, p)
	if err := s.AcceptPrompt(mustTokens(t, m, "abcd xx abc")); err != nil {
		t.Fatal(err)
	}
	if got := draw(t, s, logits); got != 'e' {
		t.Errorf("a repeated end: got %q, want another one", rune(got))
	}
	s = sampler(t, m, p)
	if err := s.AcceptPrompt(mustTokens(t, m, "abcd xx ab\nc")); err != nil {
		t.Fatal(err)
	}
	if got := draw(t, s, logits); got != 'd' {
		t.Errorf("behind a breaker: got %q, want the repetition", rune(got))
	}
}

func TestSamplerGrammar(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	p := greedy()
	p.Grammar = "# digits\nroot ::= [0-9] [0-9] (\"x\" | \"y\")"
	s := sampler(t, m, p)
	logits := ramp(m, 0.1)
	var text []byte
	for range 10 {
		tok := draw(t, s, logits)
		if m.IsEOG(tok) {
			break
		}
		b, err := m.TokenBytes(tok, false)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
		if err := s.Accept(tok); err != nil {
			t.Fatal(err)
		}
	}
	if string(text) != "99y" {
		t.Errorf("got %q, want 99y and the end", text)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := s.Accept('q'); err == nil {
		t.Error("a token the grammar does not allow: no error")
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := draw(t, s, logits); got != '9' {
		t.Errorf("after reset: got %d", got)
	}
	if err := s.AcceptPrompt(mustTokens(t, m, "qqq")); err != nil {
		t.Errorf("the prompt is not the grammar's: %v", err)
	}
	p.GrammarRoot = "other"
	p.Grammar = "root ::= \"a\"\nother ::= \"b\""
	if got := draw(t, sampler(t, m, p), logits); got != 'b' {
		t.Errorf("another root: got %d", got)
	}
}

func TestSamplerErrors(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, change := range map[string]func(*SamplerParams){
		"temperature":     func(p *SamplerParams) { p.Temperature = nan },
		"infinite":        func(p *SamplerParams) { p.Temperature = inf },
		"top p":           func(p *SamplerParams) { p.TopP = -1 },
		"min keep":        func(p *SamplerParams) { p.MinKeep = -1 },
		"repeat":          func(p *SamplerParams) { p.RepeatPenalty = 0 },
		"tiny repeat":     func(p *SamplerParams) { p.RepeatPenalty = 1e-40 },
		"presence":        func(p *SamplerParams) { p.PresencePenalty = inf },
		"last n":          func(p *SamplerParams) { p.RepeatLastN = 1 << 30 },
		"negative last n": func(p *SamplerParams) { p.RepeatLastN = -1 },
		"mirostat":        func(p *SamplerParams) { p.Mirostat = 3 },
		"bias token":      func(p *SamplerParams) { p.LogitBias = map[Token]float32{1000: 1} },
		"bias":            func(p *SamplerParams) { p.LogitBias = map[Token]float32{1: nan} },
		"breaker":         func(p *SamplerParams) { p.DRYBreakers = []string{""} },
		"grammar":         func(p *SamplerParams) { p.Grammar = "root ::= (" },
		"no rule":         func(p *SamplerParams) { p.Grammar = "root ::= other" },
		"no root":         func(p *SamplerParams) { p.Grammar = "other ::= \"a\"" },
		"left recursion":  func(p *SamplerParams) { p.Grammar = "root ::= root \"a\"" },
		"no grammar":      func(p *SamplerParams) { p.Grammar = "hello" },
		"text":            func(p *SamplerParams) { p.Grammar = "root ::= \"abc" },
		"repetitions":     func(p *SamplerParams) { p.Grammar = "root ::= \"a\"{99999999}" },
		"deep":            func(p *SamplerParams) { p.Grammar = "root ::= " + strings.Repeat("(", 100_000) },
		"rules":           func(p *SamplerParams) { p.Grammar = strings.Repeat("a ::= b\n", 20_000) },
		"zero byte":       func(p *SamplerParams) { p.Grammar = "root ::= \"\x00\"" },
		"llguidance":      func(p *SamplerParams) { p.Grammar = "%llguidance {}" },
	} {
		p := DefaultSamplerParams()
		change(&p)
		s, err := NewSampler(m, p)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		} else if errors.Is(err, ErrBroken) || strings.Contains(err.Error(), "no reason") {
			t.Errorf("%s: got %v, want a checked error", name, err)
		}
	}
	s := sampler(t, m, DefaultSamplerParams())
	if s.Accept(-1) == nil || s.Accept(9999) == nil || s.AcceptPrompt([]Token{1, 9999}) == nil {
		t.Error("tokens out of range: no error")
	}
	if _, err := s.SampleLogits(make([]float32, 5)); err == nil {
		t.Error("too few logits: no error")
	}
	c := tinyContext(t, m, nil)
	if _, err := s.Sample(c, -1); err == nil {
		t.Error("nothing decoded: no error")
	}
	other := tinyModel(t, tinymodel.Options{Extra: []string{"snow"}})
	if _, err := s.Sample(tinyContext(t, other, nil), -1); err == nil {
		t.Error("another vocabulary: no error")
	}
	nans := make([]float32, m.NVocab())
	for i := range nans {
		nans[i] = nan
	}
	if tok, err := s.SampleLogits(nans); err == nil && (tok < 0 || int(tok) >= m.NVocab()) {
		t.Errorf("NaN logits: got token %d", tok)
	}
}

func TestSamplerChain(t *testing.T) {
	m := tinyModel(t, tinymodel.Options{})
	chain := func(change func(*SamplerParams)) string {
		p := DefaultSamplerParams()
		change(&p)
		names, err := sampler(t, m, p).Chain()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " ")
	}
	if got, want := chain(func(*SamplerParams) {}), "penalties ?dry ?top-n-sigma top-k ?typical top-p ?min-p ?xtc temp-ext dist"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := chain(func(p *SamplerParams) { p.Temperature = 0 }), "penalties greedy"; got != want {
		t.Errorf("greedy: got %s, want %s", got, want)
	}
	if got, want := chain(func(p *SamplerParams) { p.Mirostat = 2 }), "penalties temp mirostat-v2"; got != want {
		t.Errorf("mirostat: got %s, want %s", got, want)
	}
}
