package convert

import (
	"math"
	"strings"
)

// ropeParams is the rotary embedding's parameters as the reference gathers
// them: rope_parameters, else rope_scaling, with some top-level keys mirrored
// into it (conversion/base.py, TextModel.__init__).
type ropeParams struct{ *object }

// full returns the parameters of full attention: the whole object, unless it
// is split by attention kind.
func (r *ropeParams) full() *object {
	if f := r.object.object("full_attention"); f != nil {
		return f
	}
	return r.object
}

func newRopeParams(c *config) (*ropeParams, error) {
	name := "rope_parameters"
	v, ok := c.get(name)
	if !ok {
		name = "rope_scaling"
		v, _ = c.get(name)
	}
	src, isObject := v.(*object)
	if v != nil && !isObject {
		return nil, c.errorf(name, "got %s, want an object", jsonKind(v))
	}
	r := &ropeParams{src.clone()}
	for _, split := range []string{"full_attention", "sliding_attention"} {
		v, ok := r.get(split)
		if _, isObject := v.(*object); ok && !isObject {
			return nil, c.errorf(name, "%s: got %s, want an object", split, jsonKind(v))
		}
	}
	_, hasFull := r.get("full_attention")
	_, hasSliding := r.get("sliding_attention")
	if !hasFull && !hasSliding {
		r.mirror(c)
	}
	return r, nil
}

// mirror copies top-level keys that older configs use.
func (r *ropeParams) mirror(c *config) {
	if _, theta := c.find("local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta", "rope_local_base_freq"); theta != nil {
		local := newObject()
		local.set("rope_theta", theta)
		r.set("sliding_attention", local)
	}
	fill := func(key string, from *object, names ...string) {
		if _, ok := r.get(key); ok {
			return
		}
		if _, v := from.find(names...); v != nil {
			r.set(key, v)
		}
	}
	fill("rope_theta", c.object, "global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta", "rotary_emb_base")
	fill("rope_type", r.object, "type")
	fill("partial_rotary_factor", c.object, "partial_rotary_factor", "rope_pct", "rope_percent")
	fill("original_max_position_embeddings", c.object, "original_max_position_embeddings")
}

// ropeFreqDefaults says how an architecture computes its llama3 rope factors.
type ropeFreqDefaults struct {
	factor   float64 // when the config has none
	wantBand bool    // low and high wavelengths must differ
}

// ropeFreqs computes the rope_freqs tensor of a llama3-scaled model: for each
// rotated pair 1 where the wavelength is short, factor where it is long, and a
// smooth passage between, all in float32 as PyTorch does (conversion/llama.py,
// generate_extra_tensors). It returns nil when the model has no such scaling.
//
// PyTorch's own pow is off by one unit in the last place for about 0.5 % of
// the inputs, and not for the same ones on AVX2 and AVX-512; here the power is
// correctly rounded.
func ropeFreqs(c *config, r *ropeParams, d *ropeFreqDefaults) ([]float32, error) {
	full := r.full()
	kind, _ := full.string("rope_type")
	if d == nil || !strings.EqualFold(kind, "llama3") {
		return nil, nil
	}
	_, _, headDim, err := headCounts(c)
	if err != nil {
		return nil, err
	}
	num := func(o *object, key string, def float64) float64 {
		v, ok := o.get(key)
		if !ok {
			return def
		}
		f, e := asFloat64(v)
		if e == nil && f <= 0 {
			e = c.errorf(key, "got %v, want a positive number", f)
		} else if e != nil {
			e = c.errorf(key, "%v", e)
		}
		if e != nil && err == nil {
			err = e
		}
		return f
	}
	theta := full
	if d.wantBand { // EXAONE 3.5 takes it from the undivided parameters
		theta = r.object
	}
	base := num(theta, "rope_theta", 10000)
	factor := num(full, "factor", d.factor)
	low := num(full, "low_freq_factor", 1)
	high := num(full, "high_freq_factor", 4)
	oldCtx := num(full, "original_max_position_embeddings", 8192)
	if err != nil {
		return nil, err
	}
	if low == high {
		return nil, c.errorf("high_freq_factor", "got %v, want another value than low_freq_factor", high)
	}
	return llama3Factors(int(headDim), base, factor, low, high, oldCtx), nil
}

// llama3Factors is the formula; every step rounds to float32.
func llama3Factors(headDim int, base, factor, low, high, oldCtx float64) []float32 {
	lowWave, highWave := float32(oldCtx/low), float32(oldCtx/high)
	out := make([]float32, 0, (headDim+1)/2)
	for i := 0; i < headDim; i += 2 {
		exponent := float32(i) / float32(headDim)
		freq := 1 / float32(math.Pow(float64(float32(base)), float64(exponent)))
		wave := (1 / freq) * float32(2*math.Pi)
		switch {
		case wave < highWave:
			out = append(out, 1)
		case wave > lowWave:
			out = append(out, float32(factor))
		default:
			// The conversions keep the compiler from fusing multiply and add.
			turns := float32((1 / wave) * float32(oldCtx))
			smooth := float32(turns-float32(low)) / float32(high-low)
			passage := float32(float32(1-smooth)/float32(factor)) + smooth
			out = append(out, 1/passage)
		}
	}
	return out
}
