package quant

import (
	"fmt"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// The rules of this file are those of llama_tensor_get_type_impl in
// src/llama-quant.cpp: which type a weight gets in a mixture such as Q4_K_M. Every
// table is read from the top; the first row for the ftype whose condition holds counts,
// and without one the weight gets the ftype's base type.

// site is one weight at the moment its type is chosen.
type site struct {
	hp         *hparams
	ftype      ftype
	hasImatrix bool
	layer      int  // position among the layers, counted as each table says
	layers     int  // how many layers the position refers to
	usedHeads  bool // set when a condition asked for the attention heads
}

// cond is a condition of a rule.
type cond func(*site) bool

// rule gives a type to a weight of some ftypes.
type rule struct {
	ftypes []ftype
	when   cond // nil: always
	to     gguf.Type
}

func pick(rules []rule, s *site) (gguf.Type, bool) {
	for _, r := range rules {
		for _, f := range r.ftypes {
			if f == s.ftype && (r.when == nil || r.when(s)) {
				return r.to, true
			}
		}
	}
	return 0, false
}

func on(f ...ftype) []ftype { return f }

// Conditions.

func gqa4(s *site) bool          { s.usedHeads = true; return s.hp.gqa >= 4 }
func gqa4OrExperts(s *site) bool { return gqa4(s) || s.hp.nExperts >= 4 }
func experts8(s *site) bool      { return s.hp.nExperts == 8 }
func falcon(s *site) bool        { return s.hp.arch == archFalcon }
func firstEighth(s *site) bool   { return s.layer < s.layers/8 }
func first16th(s *site) bool     { return s.layer < s.layers/16 }
func imatrix(s *site) bool       { return s.hasImatrix }

// middle is true for the layers outside the first and the last eighth.
func middle(s *site) bool { return s.layer >= s.layers/8 && s.layer < 7*s.layers/8 }

// spread is true for the first and last eighth of the layers and every third between them.
func spread(s *site) bool {
	return s.layer < s.layers/8 || s.layer >= 7*s.layers/8 || (s.layer-s.layers/8)%3 == 2
}

// before is true for the first n layers.
func before(n int) cond { return func(s *site) bool { return s.layer < n } }

func not(c cond) cond { return func(s *site) bool { return !c(s) } }

func both(a, b cond) cond { return func(s *site) bool { return a(s) && b(s) } }

// lowBit are the ftypes of about two bits and less, which have rules of their own.
var lowBit = on(ftypeIQ2_XXS, ftypeIQ2_XS, ftypeIQ2_S, ftypeIQ2_M, ftypeIQ1_S, ftypeIQ1_M)

func isLowBit(f ftype) bool {
	for _, l := range lowBit {
		if f == l {
			return true
		}
	}
	return false
}

// outputRules: the output matrix, or token embeddings that serve as it.
var outputRules = []rule{
	{on(ftypeMXFP4MoE), nil, gguf.Q8_0},
	{allFTypes, falcon, gguf.Q8_0},
	{lowBit, nil, gguf.Q5_K},
	{on(ftypeIQ3_XXS), nil, gguf.Q5_K},
	{on(ftypeQ8_0), nil, gguf.Q8_0},
	{allFTypes, nil, gguf.Q6_K},
}

// tokenEmbdRules: token embeddings of a model with an output matrix of its own.
var tokenEmbdRules = []rule{
	{on(ftypeIQ2_XXS, ftypeIQ2_XS, ftypeIQ1_S, ftypeIQ1_M), nil, gguf.Q2_K},
	{on(ftypeIQ2_S, ftypeIQ2_M, ftypeIQ3_XXS), nil, gguf.IQ3_S},
	{on(ftypeTQ1_0, ftypeTQ2_0, ftypeQ2_0), nil, gguf.Q4_K},
}

// lowBitRules: the lowBit ftypes. FFN layers are counted as they come.
var lowBitRules = map[category][]rule{
	catAttnV: {
		{lowBit, gqa4OrExperts, gguf.Q4_K},
		{on(ftypeIQ2_S, ftypeIQ2_M), nil, gguf.IQ3_S},
		{lowBit, nil, gguf.Q2_K},
	},
	catAttnK: {
		{lowBit, experts8, gguf.Q4_K},
	},
	catFFNDown: {
		{on(ftypeIQ2_S, ftypeIQ2_M), firstEighth, gguf.IQ3_S},
		{lowBit, firstEighth, gguf.Q2_K},
	},
	catAttnOutput: {
		{lowBit, experts8, gguf.Q5_K},
		{on(ftypeIQ1_S, ftypeIQ1_M), nil, gguf.IQ2_XXS},
		{on(ftypeIQ2_S, ftypeIQ2_M), nil, gguf.IQ3_S},
	},
}

// mixRules: all other ftypes. Values are counted as they come, FFN layers too
// unless the model has experts: then the name tells the layer.
var mixRules = map[category][]rule{
	catAttnV: {
		{on(ftypeQ2_K), gqa4, gguf.Q4_K},
		{on(ftypeQ2_K), nil, gguf.Q3_K},
		{on(ftypeQ2_K_S), gqa4, gguf.Q4_K},
		{on(ftypeIQ3_XXS), gqa4, gguf.Q4_K},
		{on(ftypeIQ3_XXS), not(imatrix), gguf.IQ3_S},
		{on(ftypeIQ3_XS, ftypeIQ3_S), gqa4, gguf.Q4_K},
		{on(ftypeIQ3_M), nil, gguf.Q4_K},
		{on(ftypeQ3_K_M), before(2), gguf.Q5_K},
		{on(ftypeQ3_K_M), nil, gguf.Q4_K},
		{on(ftypeQ3_K_L), nil, gguf.Q5_K},
		{on(ftypeIQ4_NL, ftypeIQ4_XS), gqa4, gguf.Q5_K},
		{on(ftypeQ4_K_M, ftypeQ5_K_M), spread, gguf.Q6_K},
		{on(ftypeQ4_K_S), before(4), gguf.Q5_K},
	},
	catAttnK: {
		{allFTypes, experts8, gguf.Q8_0},
		{on(ftypeIQ3_XS), nil, gguf.IQ3_XXS},
		{on(ftypeIQ3_XXS), nil, gguf.IQ2_S},
	},
	catAttnQ: {
		{on(ftypeIQ3_XS), nil, gguf.IQ3_XXS},
		{on(ftypeIQ3_XXS), nil, gguf.IQ2_S},
	},
	catAttnOutput: {
		{on(ftypeQ3_K_L), falcon, gguf.Q4_K},
		{allFTypes, falcon, keep},
		{on(ftypeQ2_K, ftypeIQ3_XS, ftypeIQ3_XXS, ftypeQ3_K_S, ftypeQ3_K_M, ftypeIQ4_NL, ftypeQ4_K_S,
			ftypeQ4_K_M, ftypeIQ3_S, ftypeIQ3_M, ftypeIQ4_XS), experts8, gguf.Q5_K},
		{allFTypes, experts8, keep},
		{on(ftypeQ2_K), nil, gguf.Q3_K},
		{on(ftypeIQ3_XXS), nil, gguf.IQ3_S},
		{on(ftypeQ3_K_M, ftypeIQ3_M), nil, gguf.Q4_K},
		{on(ftypeQ3_K_L), nil, gguf.Q5_K},
	},
	catFFNDown: {
		{on(ftypeQ2_K), nil, gguf.Q3_K},
		{on(ftypeQ2_K_S), firstEighth, gguf.Q4_K},
		{on(ftypeIQ3_XXS), imatrix, keep},
		{on(ftypeIQ3_XXS), firstEighth, gguf.Q4_K},
		{on(ftypeIQ3_XXS), nil, gguf.Q3_K},
		{on(ftypeQ3_K_M), first16th, gguf.Q5_K},
		{on(ftypeQ3_K_M), both(falcon, not(spread)), gguf.Q3_K},
		{on(ftypeQ3_K_M), nil, gguf.Q4_K},
		{on(ftypeIQ3_M), firstEighth, gguf.Q4_K},
		{on(ftypeIQ3_M), both(experts8, spread), gguf.Q4_K},
		{on(ftypeQ3_K_L), falcon, gguf.Q4_K},
		{on(ftypeQ3_K_L), nil, gguf.Q5_K},
		{on(ftypeQ4_K_M), both(falcon, first16th), gguf.Q6_K},
		{on(ftypeQ4_K_M), both(falcon, spread), gguf.Q5_K},
		{on(ftypeQ4_K_M), falcon, gguf.Q4_K},
		{on(ftypeQ4_K_M, ftypeQ5_K_M), spread, gguf.Q6_K},
		{on(ftypeIQ4_NL, ftypeIQ4_XS), both(firstEighth, not(imatrix)), gguf.Q5_K},
		{on(ftypeQ4_K_S), both(firstEighth, not(falcon)), gguf.Q5_K},
		{on(ftypeQ4_0), both(firstEighth, imatrix), gguf.Q4_1},
		{on(ftypeQ5_0), both(firstEighth, imatrix), gguf.Q5_1},
	},
	catFFNGate: {{on(ftypeIQ3_XS), middle, gguf.IQ3_XXS}},
	catFFNUp:   {{on(ftypeIQ3_XS), middle, gguf.IQ3_XXS}},
}

// keep as a rule's type stands for the ftype's base type.
const keep = gguf.Type(1<<32 - 1)

var allFTypes = func() []ftype {
	var all []ftype
	for _, t := range targets {
		all = append(all, t.ftype)
	}
	return all
}()

// mixer chooses types, tensor by tensor in the order of the file: it counts the layers it has seen.
type mixer struct {
	hp         *hparams
	target     target
	hasImatrix bool
	tied       bool // no output matrix: token embeddings serve as it
	outputType *gguf.Type
	values     int // tensors that hold values, in all
	seen       map[category]int
}

// choose gives the type of one weight in the mixture.
func (m *mixer) choose(name string, ne []int64) (gguf.Type, error) {
	cat := categoryOf(name)
	s := &site{hp: m.hp, ftype: m.target.ftype, hasImatrix: m.hasImatrix}
	switch {
	case cat == catOutput || m.tied && cat == catTokenEmbd:
		return m.chooseOutput(s, ne), nil
	case m.target.ftype == ftypeMXFP4MoE:
		return m.chooseMXFP4(cat, ne), nil
	case cat == catTokenEmbd:
		return m.pick(tokenEmbdRules, s), nil
	}
	rules := mixRules
	if isLowBit(m.target.ftype) {
		rules = lowBitRules
	}
	if err := m.locate(s, cat, name); err != nil {
		return 0, err
	}
	if !cat.isAttnV() {
		return m.pick(rules[cat], s), nil
	}
	t := m.pick(rules[catAttnV], s)
	if s.usedHeads && !m.hp.hasHeads {
		return 0, fmt.Errorf("type %s depends on the attention heads, which are not known for architecture %s", m.target.name, m.hp.arch)
	}
	if isLowBit(m.target.ftype) {
		return t, nil
	}
	if m.hp.is70B && (t == gguf.Q3_K || t == gguf.Q4_K) {
		t = gguf.Q5_K // eight query heads share these values
	}
	if experts8(s) {
		t = gguf.Q8_0
	}
	return t, nil
}

func (m *mixer) pick(rules []rule, s *site) gguf.Type {
	if t, ok := pick(rules, s); ok && t != keep {
		return t
	}
	return m.target.base
}

// chooseOutput: the asked type, or a good one that fits the row length.
func (m *mixer) chooseOutput(s *site, ne []int64) gguf.Type {
	switch {
	case m.outputType != nil:
		return *m.outputType
	case ne[0]%m.target.base.BlockSize() != 0:
		return gguf.Q8_0
	}
	return m.pick(outputRules, s)
}

// chooseMXFP4: experts become MXFP4, the rest Q8_0. In bailingmoe3 other tensors have three dimensions too.
func (m *mixer) chooseMXFP4(cat category, ne []int64) gguf.Type {
	ffn := cat == catFFNUp || cat == catFFNGate || cat == catFFNDown
	if len(ne) > 2 && ne[2] > 1 && (ffn || m.hp.arch != "bailingmoe3") {
		return gguf.MXFP4
	}
	return gguf.Q8_0
}

// locate sets the layer of a weight.
func (m *mixer) locate(s *site, cat category, name string) error {
	counter := cat
	switch {
	case cat.isAttnV():
		counter = catAttnV
		s.layers = m.values
	case cat == catFFNDown, cat == catFFNGate, cat == catFFNUp:
		s.layers = m.hp.nBlocks
	default:
		return nil
	}
	s.layer = m.seen[counter]
	m.seen[counter]++
	if counter == catAttnV || isLowBit(m.target.ftype) || m.hp.nExperts <= 1 {
		return nil
	}
	block, ok := blockOf(name)
	if !ok || block < 0 || block >= m.hp.nBlocks {
		return fmt.Errorf("layer of the name: got %d, want 0 to %d", block, m.hp.nBlocks-1)
	}
	s.layer = block
	return nil
}

// fallbacks gives the type for a row length that is no multiple of the block
// size (tensor_type_fallback in src/llama-quant.cpp).
var fallbacks = map[gguf.Type]gguf.Type{
	gguf.IQ1_S: gguf.IQ4_NL, gguf.IQ1_M: gguf.IQ4_NL, gguf.IQ2_XXS: gguf.IQ4_NL, gguf.IQ2_XS: gguf.IQ4_NL, gguf.IQ2_S: gguf.IQ4_NL,
	gguf.IQ3_XXS: gguf.IQ4_NL, gguf.IQ3_S: gguf.IQ4_NL, gguf.IQ4_XS: gguf.IQ4_NL,
	gguf.Q2_0: gguf.Q4_0, gguf.Q2_K: gguf.Q4_0, gguf.Q3_K: gguf.Q4_0, gguf.TQ1_0: gguf.Q4_0, gguf.TQ2_0: gguf.Q4_0,
	gguf.Q4_K: gguf.Q5_0, gguf.Q5_K: gguf.Q5_1, gguf.Q6_K: gguf.Q8_0,
}

// fit gives t, or the type to take instead for rows of n elements.
func fit(t gguf.Type, n int64) (gguf.Type, error) {
	if n%t.BlockSize() == 0 {
		return t, nil
	}
	other, ok := fallbacks[t]
	switch {
	case !ok && t.BlockSize() > 32:
		return 0, fmt.Errorf("rows of %d elements do not fit type %s (blocks of %d), which has no fallback", n, t, t.BlockSize())
	case !ok, n%other.BlockSize() != 0:
		return gguf.F16, nil
	}
	return other, nil
}
