package lora

import (
	"fmt"
	"sync"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// ggmlType gives ggml's number of a dtype that adapters and bases may have.
var ggmlType = map[safetensors.DType]uint32{safetensors.F32: 0, safetensors.F16: 1, safetensors.BF16: 30}

// decode turns little-endian numbers of dtype d into float32.
func decode(dst []float32, src []byte, d safetensors.DType) error {
	if len(dst) == 0 {
		return nil
	}
	return llama.DecodeRows(dst, src, ggmlType[d], int64(len(dst)))
}

// readFloats reads len(dst) elements of t from element first on.
func readFloats(dst []float32, t *safetensors.Tensor, first int64) error {
	size := t.DType.Size()
	floats := takeFloats((int64(len(dst))*size + 3) / 4)
	defer giveFloats(floats)
	raw := llama.FloatBytes(floats)[:int64(len(dst))*size]
	if err := t.ReadAt(raw, first*size); err != nil {
		return err
	}
	return decode(dst, raw, t.DType)
}

// spare holds buffers between uses, so that pieces of a tensor need no new memory each.
var spare sync.Pool

// takeFloats gives a buffer of n numbers of any value.
func takeFloats(n int64) []float32 {
	if b, _ := spare.Get().(*[]float32); b != nil && int64(cap(*b)) >= n {
		return (*b)[:n]
	}
	return make([]float32, n)
}

func giveFloats(b []float32) { spare.Put(&b) }

// right is the factor that is multiplied from the right, [r, cols], held as float32
// while it is in use: A of a linear layer, A of one expert, or the transposed B of an
// embedding.
type right struct {
	t         *safetensors.Tensor
	first     int64 // row of t
	r, cols   int64
	transpose bool // t is [cols, r]
}

func (m *right) bytes() int64 { return 4 * m.r * m.cols }

func (m *right) load() ([]float32, error) {
	v := make([]float32, m.r*m.cols)
	if !m.transpose {
		return v, readFloats(v, m.t, m.first*m.cols)
	}
	raw := make([]float32, len(v))
	if err := readFloats(raw, m.t, 0); err != nil {
		return nil, err
	}
	for i := range m.cols {
		for k := range m.r {
			v[k*m.cols+i] = raw[i*m.r+k]
		}
	}
	return v, nil
}

// left is the factor that is multiplied from the left, [rows, r], read for the rows
// at work: B of a linear layer, B of one expert, or the transposed A of an embedding.
type left struct {
	t       *safetensors.Tensor
	r       int64
	first   int64 // row of t that belongs to row 0
	experts int64 // above 0: t is [rows, r·experts], the expert innermost
	expert  int64
	columns bool // t is [r, rows]
}

// read gives rows first … first+n-1 as float32, [n, r].
func (m *left) read(first, n int64) ([]float32, error) {
	first += m.first
	switch {
	case m.columns:
		all := m.t.Shape[1]
		v, row := make([]float32, n*m.r), make([]float32, n)
		for k := range m.r {
			if err := readFloats(row, m.t, k*all+first); err != nil {
				return nil, err
			}
			for i := range n {
				v[i*m.r+k] = row[i]
			}
		}
		return v, nil
	case m.experts > 0:
		raw, v := make([]float32, n*m.r*m.experts), make([]float32, n*m.r)
		if err := readFloats(raw, m.t, first*m.r*m.experts); err != nil {
			return nil, err
		}
		for i := range v {
			v[i] = raw[int64(i)*m.experts+m.expert]
		}
		return v, nil
	}
	v := make([]float32, n*m.r)
	return v, readFloats(v, m.t, first*m.r)
}

// expectShape compares a tensor's shape.
func expectShape(a *Adapter, t *safetensors.Tensor, want ...int64) error {
	ok := len(t.Shape) == len(want)
	for i := range want {
		ok = ok && t.Shape[i] == want[i]
	}
	if !ok {
		return a.errorf(t, "shape: got %v, want %v", t.Shape, want)
	}
	return nil
}

// name of a tensor of a module, for messages.
func weightOf(path string) string { return fmt.Sprintf("%s.weight", path) }
