package lora

import (
	"math"
	"sync"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// NF4Options say how a base was quantized.
type NF4Options struct {
	DoubleQuant bool     // the absmax values are 8-bit numbers themselves (bnb_4bit_use_double_quant)
	BlockSize   int      // elements with one absmax; 0 means bitsandbytes' 64
	Offset      *float32 // the mean that double quantization subtracts; nil computes it
	GPU         bool     // 8-bit numbers by their exact middles, as on a GPU, not as the CPU kernel
}

// NF4 holds the absmax values of a tensor that bitsandbytes would have quantized to
// NF4: 4 bytes for every block of elements. It may be used by many goroutines.
type NF4 struct {
	block  int64
	n      int64
	absmax []float32 // for quantizing
	scale  []float32 // for dequantizing: after double quantization
}

// sweepElements is how much of a tensor NewNF4 reads at a time.
const sweepElements = 64 << 10

// mapBlock is the number of absmax values that double quantization scales together.
const mapBlock = 256

// NewNF4 sweeps over a tensor of n elements; read fills dst with the elements from first
// on, in the tensor's flattened order.
//
// It follows bitsandbytes 0.50 (backends/default and backends/cpu, quantize_4bit and
// quantize_blockwise). Without an offset the mean of the absmax values is PyTorch's
// float32 mean on one thread; GPUs, and CPUs with several threads when there are more
// than 32,768 blocks, sum in other orders, and may differ in its last bits. A
// trainer therefore records the offsets.
func NewNF4(n int64, read func(dst []float32, first int64) error, o NF4Options) (*NF4, error) {
	q := &NF4{block: int64(o.BlockSize), n: n}
	if q.block <= 0 {
		q.block = 64
	}
	q.absmax = make([]float32, 0, (n+q.block-1)/q.block)
	step := max(1, sweepElements/q.block) * q.block
	buf := make([]float32, min(step, n))
	for first := int64(0); first < n; first += step {
		v := buf[:min(step, n-first)]
		if err := read(v, first); err != nil {
			return nil, err
		}
		for len(v) > 0 {
			b := v[:min(q.block, int64(len(v)))]
			q.absmax = append(q.absmax, largest(b))
			v = v[len(b):]
		}
	}
	if n%q.block != 0 {
		last := len(q.absmax) - 1
		q.absmax[last] = max(q.absmax[last], tiny)
	}
	q.scale = q.absmax
	if o.DoubleQuant {
		q.scale = doubleQuant(q.absmax, o)
	}
	return q, nil
}

// tiny keeps divisions finite, as in bitsandbytes.
const tiny = 1e-38

func largest(v []float32) float32 {
	m := float32(0)
	for _, x := range v {
		if x < 0 {
			x = -x
		}
		if x > m {
			m = x
		}
	}
	return m
}

// Apply replaces values, the elements from first on, by what dequantization to dtype
// gives: level × absmax in float32, rounded to dtype.
func (q *NF4) Apply(values []float32, first int64, dtype safetensors.DType) {
	full := q.n / q.block // blocks; the one after them is shorter
	for i := 0; i < len(values); {
		at := first + int64(i)
		b := at / q.block
		end := min(len(values), int((b+1)*q.block-first))
		absmax, scale := q.absmax[b], q.scale[b]
		inverse := 1 / max(absmax, tiny)
		for ; i < end; i++ {
			x := values[i]
			if b < full {
				x *= inverse
			} else {
				x /= absmax
			}
			values[i] = nf4Levels.at[nf4Level(min(max(x, -1), 1))] * scale
		}
	}
	round(values, dtype)
}

// nf4Level is nearest for the 16 levels, without a search.
func nf4Level(x float32) int {
	n := 0
	for _, m := range nf4Levels.middle {
		if x > m {
			n++
		}
	}
	return n
}

// round rounds float32 to the nearest numbers of dtype, ties to even.
func round(v []float32, d safetensors.DType) {
	switch d {
	case safetensors.BF16:
		for i, x := range v {
			b := math.Float32bits(x)
			v[i] = math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff)
		}
	case safetensors.F16:
		p := make([]byte, 2*len(v))
		if encode(p, v, d) == nil {
			_ = decode(v, p, d) // lengths and dtype are known to fit
		}
	}
}

// doubleQuant gives the absmax values after their way through 8 bits.
func doubleQuant(absmax []float32, o NF4Options) []float32 {
	offset := mean(absmax)
	if o.Offset != nil {
		offset = *o.Offset
	}
	level := mapLevels.nearest
	if !o.GPU {
		level = tableLevel
	}
	out := make([]float32, len(absmax))
	for i, x := range absmax {
		out[i] = x - offset
	}
	for first := 0; first < len(out); first += mapBlock {
		v := out[first:min(first+mapBlock, len(out))]
		scale := largest(v)
		for i, x := range v {
			v[i] = float32(mapLevels.at[level(normal(x, scale))]*scale) + offset // rounded twice, on every CPU
		}
	}
	return out
}

func normal(x, scale float32) float32 {
	if scale == 0 {
		return 0
	}
	return min(max(x*(1/scale), -1), 1)
}

// tableSize is the number of steps between −1 and 1 for which bitsandbytes' CPU kernel
// knows the nearest level beforehand (measured: its choices are these for all inputs tried).
const tableSize = 65535

var levelTable = sync.OnceValue(func() []uint8 {
	t := make([]uint8, tableSize+1)
	for i := range t {
		t[i] = uint8(mapLevels.nearest(float32(-1 + 2*float64(i)/tableSize)))
	}
	return t
})

func tableLevel(x float32) int {
	return int(levelTable()[int(float32((x+1)*0.5*tableSize)+0.5)])
}

// mean is PyTorch's float32 mean of contiguous numbers on one thread: vectors of 8,
// four of them side by side, summed in a cascade of four levels
// (aten/src/ATen/native/cpu/SumKernel.cpp).
func mean(v []float32) float32 {
	const lanes, side = 8, 4
	vectors := len(v) / lanes
	sums := cascade(v, vectors/side)
	for i := vectors / side * side; i < vectors; i++ {
		addTo(sums[:lanes], v[i*lanes:])
	}
	for k := 1; k < side; k++ {
		addTo(sums[:lanes], sums[k*lanes:])
	}
	sum := float32(0)
	for _, x := range v[vectors*lanes:] {
		sum += x
	}
	for _, x := range sums[:lanes] {
		sum += x
	}
	return sum / float32(len(v))
}

// cascade sums n groups of 32 numbers lane by lane: into the first level, and after
// every power of two of groups from a level into the next.
func cascade(v []float32, n int) []float32 {
	const width, count = 32, 4
	power := max(4, bitsFor(n)/count)
	step := 1 << power
	var level [count][width]float32
	i := 0
	for i+step <= n {
		for range step {
			addTo(level[0][:], v[i*width:])
			i++
		}
		for j := 1; j < count; j++ {
			addTo(level[j][:], level[j-1][:])
			level[j-1] = [width]float32{}
			if i&((step-1)<<(j*power)) != 0 {
				break
			}
		}
	}
	for ; i < n; i++ {
		addTo(level[0][:], v[i*width:])
	}
	for j := 1; j < count; j++ {
		addTo(level[0][:], level[j][:])
	}
	return level[0][:]
}

// bitsFor is the logarithm of n to base 2, rounded up.
func bitsFor(n int) int {
	p := 0
	for 1<<p < n {
		p++
	}
	return p
}

func addTo(dst, src []float32) {
	for i := range dst {
		dst[i] += src[i]
	}
}
