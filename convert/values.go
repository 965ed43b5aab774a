package convert

import (
	"encoding/binary"
	"math"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// permute reorders the units of every group from two halves to interleaved
// pairs: unit i of half h goes to place 2i+h (conversion/llama.py,
// LlamaModel.permute). dst and src are equally long, whole groups of group
// units of unit bytes.
func permute(dst, src []byte, group, unit int64) {
	half := group / 2
	for base := int64(0); base < int64(len(src)); base += group * unit {
		for i := range half {
			for h := range int64(2) {
				to, from := base+(2*i+h)*unit, base+(h*half+i)*unit
				copy(dst[to:to+unit], src[from:from+unit])
			}
		}
	}
}

// addOne writes src + 1 as float32. F16 sums are rounded to F16 first, because
// the reference adds in the tensor's own type unless it is BF16.
func addOne(dst, src []byte, dtype safetensors.DType) {
	size := int(dtype.Size())
	for i := range len(src) / size {
		var v float32
		switch dtype {
		case safetensors.F32:
			v = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])) + 1
		case safetensors.BF16:
			v = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:]))<<16) + 1
		case safetensors.F16:
			v = roundToHalf(halfToFloat(binary.LittleEndian.Uint16(src[2*i:])) + 1)
		}
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
}

// halfToFloat widens an IEEE half.
func halfToFloat(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp, frac := uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exp {
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case 0:
		v := float32(frac) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// roundToHalf rounds to the nearest IEEE half, ties to even.
func roundToHalf(f float32) float32 {
	a := float32(math.Abs(float64(f)))
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return f
	}
	if a >= 65520 {
		return float32(math.Copysign(math.Inf(1), float64(f)))
	}
	// The spacing of halves near a, as a power of two.
	exp := max(math.Ilogb(float64(a))-10, -24)
	if a == 0 {
		return f
	}
	return float32(math.Ldexp(math.RoundToEven(math.Ldexp(float64(f), -exp)), exp))
}

// hasNewInf tells whether a finite value of src became infinite in dst, the
// same values as F16.
func hasNewInf(dst, src []byte, dtype safetensors.DType) bool {
	if llama.ValidateRows(dst, uint32(gguf.F16)) == nil {
		return false
	}
	for i := range len(dst) / 2 {
		if binary.LittleEndian.Uint16(dst[2*i:])&0x7fff != 0x7c00 {
			continue
		}
		bits := uint32(0)
		if dtype == safetensors.F32 {
			bits = binary.LittleEndian.Uint32(src[4*i:])
		} else {
			bits = uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16
		}
		if bits&0x7f800000 != 0x7f800000 {
			return true
		}
	}
	return false
}
