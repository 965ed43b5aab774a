package quant

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
)

// Collected are the sums of squares of a tensor's inputs: a row of columns for each of its matrices, and the number of
// rows that were added, one for all matrices or one for every expert.
type Collected struct {
	Name   string
	Sums   []float32
	Counts []int64
}

// WriteImatrix writes an importance matrix in llama.cpp's GGUF form (tools/imatrix/imatrix.cpp, save_imatrix): for each
// tensor NAME.in_sum2 and NAME.counts, by name. datasets name what it was computed on, in chunks of chunkSize tokens.
func WriteImatrix(path string, entries []Collected, datasets []string, chunks, chunkSize int) error {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Collected) int { return strings.Compare(a.Name, b.Name) })
	meta := &gguf.Metadata{}
	for _, kv := range []struct {
		key   string
		value any
	}{
		{"general.type", "imatrix"}, {"imatrix.datasets", datasets},
		{"imatrix.chunk_count", uint32(chunks)}, {"imatrix.chunk_size", uint32(chunkSize)},
	} {
		if err := meta.Set(kv.key, kv.value); err != nil {
			return fmt.Errorf("write imatrix %s: %w", path, err)
		}
	}
	var tensors []gguf.TensorInfo
	data := map[string][]byte{}
	for _, e := range entries {
		matrices := len(e.Counts)
		if matrices == 0 || len(e.Sums) == 0 || len(e.Sums)%matrices != 0 {
			return fmt.Errorf("write imatrix %s: entry %s: got %d sums and %d counts, want rows of sums", path, e.Name, len(e.Sums), matrices)
		}
		counts := make([]float32, matrices)
		for i, n := range e.Counts {
			counts[i] = float32(n)
		}
		for _, t := range []struct {
			suffix string
			values []float32
		}{{sumsSuffix, e.Sums}, {countsSuffix, counts}} {
			info := gguf.TensorInfo{Name: e.Name + t.suffix, Type: gguf.F32, NE: gguf.TrimNE([]int64{int64(len(t.values) / matrices), int64(matrices)})}
			raw, err := encodeFinite(t.values)
			if err != nil {
				return fmt.Errorf("write imatrix %s: tensor %s: %w", path, info.Name, err)
			}
			tensors, data[info.Name] = append(tensors, info), raw
		}
	}
	layout, err := gguf.NewLayout(meta, tensors, 0)
	if err != nil {
		return fmt.Errorf("write imatrix %s: %w", path, err)
	}
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		out, err := layout.NewWriter(w)
		if err != nil {
			return err
		}
		for _, t := range tensors {
			if err := out.WriteTensor(t.Name, data[t.Name]); err != nil {
				return err
			}
		}
		return out.Finish()
	})
}

// encodeFinite gives the bytes of values, which must be finite: a model that computes others has nothing to weigh.
func encodeFinite(values []float32) ([]byte, error) {
	out := make([]byte, 0, 4*len(values))
	for i, v := range values {
		if v-v != 0 {
			return nil, fmt.Errorf("value %d: got %v, want a finite number", i, v)
		}
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out, nil
}
