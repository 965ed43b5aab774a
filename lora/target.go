package lora

import (
	"fmt"
	"math"
	"sync"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// target is one tensor of the merged model and what it is made of.
type target struct {
	name  string
	dtype safetensors.DType // of the output
	shape []int64           // outermost first
	w     *safetensors.Tensor
	file  *safetensors.File // for messages

	parts     []part
	dora      *dora
	tokens    *tokenRows
	nf4       *nf4Source
	factors   *cache
	replaced  bool // w is the adapter's
	untouched bool // the output is w's bytes
}

// part is one low-rank update of the rows low … high-1.
type part struct {
	scale     float32
	low, high int64
	left      left
	right     *right
	vector    *safetensors.Tensor // instead of factors: added to a bias
}

// dora is the magnitude of DoRA: of every row, or of every column of an embedding.
type dora struct {
	magnitude *safetensors.Tensor
	columns   bool

	once   sync.Once
	factor []float32 // per column
	err    error
}

// tokenRows are rows that replace those of an embedding.
type tokenRows struct {
	t   *safetensors.Tensor
	row map[int64]int64 // row of the embedding → row of t
}

// rowLen and rows are the size of the output, seen as a matrix.
func (t *target) rowLen() int64 {
	if len(t.shape) == 0 {
		return 1
	}
	return t.shape[len(t.shape)-1]
}

func (t *target) rows() int64 {
	n := int64(1)
	for i := range len(t.shape) - 1 {
		n *= t.shape[i]
	}
	return n
}

// blockElements is how much is held as float32 at a time, unless a row is longer.
const blockElements = 64 << 10

// readAt fills p with the merged tensor's bytes from off on.
func (t *target) readAt(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if t.untouched {
		return t.w.ReadAt(p, off)
	}
	rowBytes := t.rowLen() * t.dtype.Size()
	if off%rowBytes == 0 && int64(len(p))%rowBytes == 0 {
		return t.readRows(p, off/rowBytes)
	}
	first, end := off/rowBytes, (off+int64(len(p))+rowBytes-1)/rowBytes
	whole := make([]byte, (end-first)*rowBytes)
	if err := t.readRows(whole, first); err != nil {
		return err
	}
	copy(p, whole[off-first*rowBytes:])
	return nil
}

// readRows fills p with whole rows from row first on.
func (t *target) readRows(p []byte, first int64) error {
	n := t.rowLen()
	rowBytes := n * t.dtype.Size()
	if part := t.onlyPart(first, int64(len(p))/rowBytes); part != nil {
		if err := t.readUpdated(part, p, first); err != nil {
			return fmt.Errorf("merge tensor %s: %w", t.name, err)
		}
		return nil
	}
	step := max(1, blockElements/n)
	buf := takeFloats(min(step*n, int64(len(p))/t.dtype.Size()))
	defer giveFloats(buf)
	for len(p) > 0 {
		rows := min(step, int64(len(p))/rowBytes)
		v := buf[:rows*n]
		if err := t.floats(v, first, rows); err != nil {
			return fmt.Errorf("merge tensor %s: %w", t.name, err)
		}
		if err := encode(p[:rows*rowBytes], v, t.dtype); err != nil {
			return fmt.Errorf("merge tensor %s: %w", t.name, err)
		}
		p = p[rows*rowBytes:]
		first += rows
	}
	return nil
}

// onlyPart is the one product that makes the rows of the file's, nil if there is more to do.
func (t *target) onlyPart(first, rows int64) *part {
	if len(t.parts) != 1 || t.nf4 != nil || t.dora != nil || t.tokens != nil || t.dtype != t.w.DType {
		return nil
	}
	p := &t.parts[0]
	if p.vector != nil || first < p.low || first+rows > p.high {
		return nil
	}
	return p
}

// readUpdated fills b with whole rows from row first on, updated where they lie.
func (t *target) readUpdated(p *part, b []byte, first int64) error {
	rowBytes := t.rowLen() * t.dtype.Size()
	if err := t.w.ReadAt(b, first*rowBytes); err != nil {
		return err
	}
	rows := int64(len(b)) / rowBytes
	left, right, err := t.product(p, first, rows)
	if err != nil {
		return err
	}
	return llama.AddLowRankRows(b, ggmlType[t.dtype], left, right, int(rows), int(p.right.cols), int(p.right.r), p.scale)
}

// product gives the factors for rows.
func (t *target) product(p *part, first, rows int64) (left, right []float32, err error) {
	if right, err = t.factors.get(p.right); err != nil {
		return nil, nil, err
	}
	left, err = p.left.read(first-p.low, rows)
	return left, right, err
}

// encode rounds float32 to dtype d.
func encode(dst []byte, v []float32, d safetensors.DType) error {
	if len(v) == 0 {
		return nil
	}
	return llama.EncodeFloats(dst, ggmlType[d], v, int64(len(v)), nil)
}

// floats computes rows of the merged tensor in float32.
func (t *target) floats(v []float32, first, rows int64) error {
	if err := t.sum(v, first, rows); err != nil {
		return err
	}
	if t.dora != nil {
		if err := t.applyDora(v, first, rows); err != nil {
			return err
		}
	}
	if t.tokens == nil {
		return nil
	}
	n := t.rowLen()
	for i := range rows {
		if row, ok := t.tokens.row[first+i]; ok {
			if err := readFloats(v[i*n:(i+1)*n], t.tokens.t, row*n); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum computes W + Σ s·B·A for rows.
func (t *target) sum(v []float32, first, rows int64) error {
	n := t.rowLen()
	if err := readFloats(v, t.w, first*n); err != nil {
		return err
	}
	if t.nf4 != nil {
		if err := t.nf4.apply(v, first*n); err != nil {
			return err
		}
	}
	for i := range t.parts {
		p := &t.parts[i]
		low, high := max(first, p.low), min(first+rows, p.high)
		if low >= high {
			continue
		}
		if err := t.add(p, v[(low-first)*n:(high-first)*n], low, high-low); err != nil {
			return err
		}
	}
	return nil
}

// add adds one update to the rows that v holds.
func (t *target) add(p *part, v []float32, first, rows int64) error {
	if p.vector != nil {
		b := make([]float32, len(v))
		if err := readFloats(b, p.vector, 0); err != nil {
			return err
		}
		for i := range v {
			v[i] += float32(p.scale * b[i])
		}
		return nil
	}
	b, a, err := t.product(p, first, rows)
	if err != nil {
		return err
	}
	return llama.AddLowRank(v, b, a, int(rows), int(p.right.cols), int(p.right.r), p.scale)
}

// applyDora scales rows to the trained magnitude (PEFT's DoraLinearVariant and
// DoraEmbeddingVariant).
func (t *target) applyDora(v []float32, first, rows int64) error {
	n := t.rowLen()
	if t.dora.columns {
		t.dora.once.Do(func() { t.dora.factor, t.dora.err = t.columnFactors() })
		if t.dora.err != nil {
			return t.dora.err
		}
		for i := range v {
			v[i] *= t.dora.factor[int64(i)%n]
		}
		return nil
	}
	m := make([]float32, rows)
	if err := readFloats(m, t.dora.magnitude, first); err != nil {
		return err
	}
	for i := range rows {
		row := v[i*n : (i+1)*n]
		var sum float64
		for _, x := range row {
			sum += float64(x) * float64(x)
		}
		factor := m[i] / float32(math.Sqrt(sum))
		for j := range row {
			row[j] *= factor
		}
	}
	return nil
}

// columnFactors sweeps over an embedding once: magnitude over norm of each column.
func (t *target) columnFactors() ([]float32, error) {
	n := t.rowLen()
	factor, sums := make([]float32, n), make([]float64, n)
	if err := readFloats(factor, t.dora.magnitude, 0); err != nil {
		return nil, err
	}
	step := max(1, blockElements/n)
	buf := make([]float32, step*n)
	for first := int64(0); first < t.rows(); first += step {
		rows := min(step, t.rows()-first)
		if err := t.sum(buf[:rows*n], first, rows); err != nil {
			return nil, err
		}
		for i, x := range buf[:rows*n] {
			sums[int64(i)%n] += float64(x) * float64(x)
		}
	}
	for i := range factor {
		factor[i] /= float32(math.Sqrt(sums[i]))
	}
	return factor, nil
}
