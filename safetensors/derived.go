package safetensors

import (
	"fmt"
)

// ReadFunc fills p with the bytes of a tensor from byte off on. It gets ranges
// inside the tensor only, and may be called from many goroutines at once.
type ReadFunc func(p []byte, off int64) error

// NewTensor makes a tensor whose bytes are computed by read instead of read from
// a file as they are: a merged weight, for example. file is the one that errors
// name; Data does not work on such a tensor.
func NewTensor(name string, d DType, shape []int64, file *File, read ReadFunc) (*Tensor, error) {
	size, elements, err := byteSize(d, shape)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	return &Tensor{Name: name, DType: d, Shape: shape, File: file, End: size, elements: elements, read: read}, nil
}

// From tells that t is computed from w: the bytes of a part of t from those of about
// the same part of w. [ReadAhead] reads them ahead then.
func (t *Tensor) From(w *Tensor) { t.stored = w }

// NewModel makes a model of the given tensors, in their order. The files stay the
// caller's: Close of the model does not close them.
func NewModel(dir string, tensors []*Tensor) (*Model, error) {
	m := &Model{Dir: dir, tensors: tensors, index: make(map[string]*Tensor, len(tensors))}
	for _, t := range tensors {
		if _, ok := m.index[t.Name]; ok {
			return nil, fmt.Errorf("model %s: tensor %q: got it twice, want it once", dir, t.Name)
		}
		m.index[t.Name] = t
	}
	return m, nil
}
