package testmodel

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
)

// DType is a safetensors dtype that Write can produce: "F32", "F16" or "BF16".
type DType string

// The dtypes Write can produce.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// size returns the bytes of one element.
func (d DType) size() (int, error) {
	switch d {
	case F32:
		return 4, nil
	case F16, BF16:
		return 2, nil
	}
	return 0, fmt.Errorf("testmodel dtype: unsupported: got %q, want F32, F16 or BF16", string(d))
}

// role says how large a tensor's values are: enough for a network of two or
// twelve blocks to give finite, telling logits.
type role int

const (
	roleWeight  role = iota // around 0, standard deviation 0.036
	roleNorm                // around 1: a norm's weight
	roleShifted             // around 0: a norm's weight that the model adds 1 to
	roleBias                // around 0, standard deviation 0.07
)

// nameHash seeds the values of a tensor with its name.
func nameHash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name)) // never fails
	return h.Sum64()
}

// mix is the finalizer of splitmix64: one 64-bit word per index, every bit of
// which depends on every bit of the index.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// bell returns a whole number in ±131070, never 0: the sum of four uniform
// 16-bit numbers, so nearly normal with standard deviation 37837.
func bell(x uint64) int32 {
	s := int32(x&0xffff) + int32(x>>16&0xffff) + int32(x>>32&0xffff) + int32(x>>48) - 2*65535
	if s == 0 {
		return 1
	}
	return s
}

// Value returns element i of the named tensor as Write makes it before it is
// rounded to the tensor's dtype. It is a whole number times a power of two, so
// it is the same on every machine.
func Value(name string, i int64, r role) float32 {
	s := float32(bell(mix(nameHash(name) + uint64(i))))
	return scaled(s, r)
}

func scaled(s float32, r role) float32 {
	switch r {
	case roleNorm:
		return 1 + s*(1.0/(1<<20))
	case roleBias:
		return s * (1.0 / (1 << 19))
	}
	return s * (1.0 / (1 << 20))
}

// extreme replaces some elements by values that trip careless arithmetic:
// denormal floats, and magnitudes beyond F16's range.
func extreme(v float32, x uint64, i int64) float32 {
	switch {
	case i%61 == 7:
		return math.Float32frombits(uint32(x)&0x807fffff | 1)
	case i%211 == 5:
		return v * (1 << 20)
	case i%307 == 11:
		return v * (1.0 / (1 << 18)) // denormal as F16
	}
	return v
}

// fill appends n elements of the named tensor, encoded as d.
func fill(dst []byte, name string, n int64, d DType, r role, extremes bool) []byte {
	h := nameHash(name)
	for i := range n {
		x := mix(h + uint64(i))
		v := scaled(float32(bell(x)), r)
		if extremes && r == roleWeight {
			v = extreme(v, x, i)
		}
		switch d {
		case F32:
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		case F16:
			dst = binary.LittleEndian.AppendUint16(dst, toF16(v))
		case BF16:
			dst = binary.LittleEndian.AppendUint16(dst, toBF16(v))
		}
	}
	return dst
}

// toBF16 rounds a finite v to bfloat16, ties to even.
func toBF16(v float32) uint16 {
	b := math.Float32bits(v)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// toF16 rounds a finite v to IEEE half precision, ties to even.
func toF16(v float32) uint16 {
	b := math.Float32bits(v)
	sign := uint16(b >> 16 & 0x8000)
	exp := int(b>>23&0xff) - 127
	man := b&0x7fffff | 0x800000 // 24 bits; wrong for f32 denormals, which round to 0 anyway
	switch {
	case exp > 15:
		return sign | 0x7c00
	case exp < -25:
		return sign
	}
	drop := 13 // bits of the mantissa that a normal half does not hold
	if exp < -14 {
		drop += -14 - exp
	}
	q := man >> drop
	rest, half := man&(1<<drop-1), uint32(1)<<(drop-1)
	if rest > half || rest == half && q&1 == 1 {
		q++
	}
	if exp < -14 {
		return sign | uint16(q) // q may be 1<<10: the smallest normal number
	}
	return sign | uint16(uint32(exp+14)<<10+q) // q holds the implicit bit, which adds 1 to the exponent
}
