package quant

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// Imatrix is an importance matrix: for every tensor a weight per column, for
// experts one such row after the other. It is made by llama-imatrix.
type Imatrix struct {
	Path     string
	Entries  map[string][]float32
	Datasets []string
	Chunks   int32 // text chunks it was computed on; 0 or less if not known
}

// LoadImatrix reads an importance matrix in GGUF or in the older .dat format.
func LoadImatrix(path string) (*Imatrix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read imatrix: %w", err)
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil {
		return nil, fmt.Errorf("read imatrix %s: magic: %w", path, err)
	}
	m := &Imatrix{Path: path, Entries: map[string][]float32{}}
	if string(magic[:]) == "GGUF" {
		err = m.readGGUF(path)
	} else {
		err = m.readLegacyFile(f)
	}
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, fmt.Errorf("read imatrix %s: %w", path, err)
	}
	return m, nil
}

// check refuses values that are not numbers, as the reference does.
func (m *Imatrix) check() error {
	for name, values := range m.Entries {
		for i, v := range values {
			if v-v != 0 {
				return fmt.Errorf("entry %s: value %d: got %v, want a finite number", name, i, v)
			}
		}
	}
	return nil
}

// filter drops the entries whose name contains one of exclude, or none of
// include if there are any.
func (m *Imatrix) filter(include, exclude []string) {
	for name := range m.Entries {
		in := func(part string) bool { return strings.Contains(name, part) }
		if slices.ContainsFunc(exclude, in) || len(include) > 0 && !slices.ContainsFunc(include, in) {
			delete(m.Entries, name)
		}
	}
}

const (
	sumsSuffix   = ".in_sum2"
	countsSuffix = ".counts"
)

// readGGUF reads sums of squares and token counts and divides them
// (common/imatrix-loader.cpp, load_imatrix in tools/quantize/quantize.cpp).
func (m *Imatrix) readGGUF(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := m.readMeta(&f.Meta); err != nil {
		return err
	}
	sums, counts := map[string][]float32{}, map[string][]float32{}
	for _, t := range f.Tensors {
		for suffix, to := range map[string]map[string][]float32{sumsSuffix: sums, countsSuffix: counts} {
			if name, ok := strings.CutSuffix(t.Name, suffix); ok {
				if to[name], err = readF32(f, t); err != nil {
					return err
				}
			}
		}
	}
	if len(f.Tensors) == 0 {
		return errors.New("got no tensors, want the entries")
	}
	for name := range counts {
		if _, ok := sums[name]; !ok {
			return fmt.Errorf("entry %s: got counts without sums", name)
		}
	}
	for name, s := range sums {
		c, ok := counts[name]
		if !ok {
			return fmt.Errorf("entry %s: got sums without counts", name)
		}
		if m.Entries[name], err = mean(s, c); err != nil {
			return fmt.Errorf("entry %s: %w", name, err)
		}
	}
	return nil
}

func (m *Imatrix) readMeta(meta *gguf.Metadata) error {
	datasets, ok := meta.Get("imatrix.datasets")
	if !ok {
		return errors.New("key imatrix.datasets: missing: not an importance matrix")
	}
	if list, ok := datasets.([]string); ok {
		for _, d := range list {
			m.Datasets = append(m.Datasets, cString(d))
		}
	}
	chunks, ok, err := fileValue[uint32](meta, "imatrix.chunk_count")
	if err == nil && ok {
		m.Chunks = int32(chunks)
		_, ok, err = fileValue[uint32](meta, "imatrix.chunk_size")
	}
	if err == nil && !ok {
		err = errors.New("keys imatrix.chunk_count and imatrix.chunk_size: missing: not an importance matrix")
	}
	return err
}

func readF32(f *gguf.File, t gguf.TensorInfo) ([]float32, error) {
	if t.Type != gguf.F32 {
		return nil, fmt.Errorf("tensor %s: type: got %s, want f32", t.Name, t.Type)
	}
	p := make([]byte, t.Bytes())
	if err := f.ReadTensorAt(t, p, 0); err != nil {
		return nil, err
	}
	return floats(p), nil
}

func floats(p []byte) []float32 {
	v := make([]float32, len(p)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
	return v
}

// mean divides each row of sums by its count: mean[j][i] = sums[j][i] / counts[j].
// Rows of experts that were never used count as all ones.
func mean(sums, counts []float32) ([]float32, error) {
	n := len(sums) / len(counts)
	out := make([]float32, len(sums))
	for j, c := range counts {
		if !(math.Abs(float64(c)) < 1<<62) {
			return nil, fmt.Errorf("count %d: got %v, want a finite number", j, c)
		}
		rounded := float32(math.Round(float64(c)))
		for i := j * n; i < (j+1)*n; i++ {
			if rounded > 0 {
				out[i] = sums[i] / rounded
			} else {
				out[i] = 1
			}
		}
	}
	return out, nil
}

// maxLegacySize bounds the old format, which is read as a whole.
const maxLegacySize = 1 << 30

func (m *Imatrix) readLegacyFile(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() > maxLegacySize {
		return fmt.Errorf("got %d bytes, want at most %d", st.Size(), int64(maxLegacySize))
	}
	p := make([]byte, st.Size())
	if _, err := f.ReadAt(p, 0); err != nil {
		return err
	}
	return m.readLegacy(p)
}

// readLegacy parses the old format, little-endian i32 and f32 throughout:
//
//	entry count; per entry: name length, name, calls, value count, values
//	optionally: chunk count; optionally: dataset length, dataset
//
// Values are divided by the number of calls.
func (m *Imatrix) readLegacy(p []byte) error {
	r := &datReader{p: p}
	n := r.count("number of entries", 1, 13)
	for i := range n {
		name := cString(string(r.bytes(r.count("length of the name", 0, 1))))
		calls := r.int32()
		values := floats(r.bytes(4 * r.count("number of values", 1, 4)))
		if r.err != nil {
			return fmt.Errorf("entry %d: %w", i, r.err)
		}
		if calls > 0 {
			for k := range values {
				values[k] /= float32(calls)
			}
		}
		m.Entries[name] = values
	}
	if r.err == nil && len(r.p) > 0 {
		m.Chunks = r.int32()
		if r.err == nil && len(r.p) > 0 {
			if dataset := r.bytes(r.count("length of the dataset", 0, 1)); len(dataset) > 0 {
				m.Datasets = []string{cString(string(dataset))}
			}
		}
	}
	if r.err == nil && len(r.p) > 0 {
		r.err = fmt.Errorf("got %d bytes after the end", len(r.p))
	}
	return r.err
}

// datReader takes values from the front of p; after an error it gives zeros.
type datReader struct {
	p   []byte
	err error
}

func (r *datReader) bytes(n int) []byte {
	if r.err == nil && n > len(r.p) {
		r.err = fmt.Errorf("got %d bytes, want %d more: the file is cut short", len(r.p), n)
	}
	if r.err != nil {
		return nil
	}
	b := r.p[:n]
	r.p = r.p[n:]
	return b
}

func (r *datReader) int32() int32 {
	if b := r.bytes(4); b != nil {
		return int32(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// count reads a number of things of at least size bytes each.
func (r *datReader) count(what string, least int32, size int) int {
	n := r.int32()
	if r.err == nil && (n < least || int(n) > len(r.p)/size) {
		r.err = fmt.Errorf("%s: got %d, want %d to %d, as many as fit the file", what, n, least, len(r.p)/size)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// cString cuts s at its first zero byte, as everything that passes through C.
func cString(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

// atMost127 is what fits the reference's struct for a string override.
func atMost127(s string) string { return s[:min(len(s), maxOverrideBytes)] }
