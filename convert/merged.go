package convert

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/quant"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// openMerged plans the conversion of the base with its adapters. Config and tokenizer
// of the merged model are laid in a folder for as long as the planning takes.
func (p *Plan) openMerged(ctx context.Context) error {
	o := p.opts.Merge
	o.Warn = p.opts.Warn
	merge, err := lora.Open(ctx, p.Dir, p.opts.Adapters, o)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, merge)
	p.BaseQuant, p.Recorded = merge.BaseQuant, merge.Recorded
	temp, err := os.MkdirTemp("", "persona-gguf-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	// The folder's name enters the metadata, so it stays.
	abs, err := filepath.Abs(p.Dir)
	if err != nil {
		return err
	}
	p.folder = filepath.Join(temp, filepath.Base(abs))
	if err := os.Mkdir(p.folder, 0o700); err != nil {
		return err
	}
	if err := merge.Stage(p.folder, func(from, to string) error {
		abs, err := filepath.Abs(from)
		if err != nil {
			return err
		}
		return os.Symlink(abs, to)
	}); err != nil {
		return err
	}
	files, err := merge.Files()
	if err != nil {
		return err
	}
	origin := originNames(p.Dir, p.folder, files)
	if warn := p.opts.Warn; warn != nil {
		p.opts.Warn = func(msg string) { warn(origin.Replace(msg)) }
	}
	err = p.build(ctx, func() error { p.model = merge.Model(); return nil })
	p.folder = p.Dir
	if err != nil {
		return &stagedError{err, origin}
	}
	return nil
}

// originNames turns names of the staged folder into those that the user knows.
func originNames(dir, staged string, files map[string]string) *strings.Replacer {
	var pairs []string
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(files))) { // longer names first
		pairs = append(pairs, filepath.Join(staged, filepath.FromSlash(name)), files[name])
	}
	return strings.NewReplacer(append(pairs, staged, dir)...)
}

// stagedError is an error about a file of the staged folder.
type stagedError struct {
	err    error
	origin *strings.Replacer
}

// Error names the file that the staged one stands for.
func (e *stagedError) Error() string { return e.origin.Replace(e.err.Error()) }

// Unwrap gives the error itself.
func (e *stagedError) Unwrap() error { return e.err }

// quantized gives package quant's name of an output type, empty for one that the
// converter writes itself.
func quantized(outType string) (string, error) {
	if _, ok := outTypes[outType]; ok || outType == "" || outType == "auto" {
		return "", nil
	}
	name, err := quant.CanonicalFType(outType)
	if err != nil {
		return "", fmt.Errorf("output type: got %q, want f32, f16, bf16, q8_0, auto or a type of quantize, such as q4_0 or q4_K_M", outType)
	}
	return name, nil
}

// planQuant plans the quantization of the f16 file, which is never written.
func (p *Plan) planQuant(ctx context.Context, ftype string) error {
	out, err := p.outFile(ftype)
	if err != nil {
		return err
	}
	p.OutFile = out
	if err := p.checkTarget(); err != nil {
		return err
	}
	o := p.opts.Quant
	o.Threads, o.Budget, o.Progress, o.Warn = p.opts.Threads, p.opts.Budget, p.opts.Progress, p.opts.Warn
	src := newF16Source(p)
	if p.quant, err = quant.NewPlanFrom(ctx, src, p.Dir, out, ftype, o); err != nil {
		return err
	}
	p.OutType, p.Meta, p.Size = ftype, p.quant.Meta, p.quant.Size
	sources := map[string][]string{}
	for _, t := range p.Tensors {
		sources[t.Name] = t.Sources
	}
	p.Tensors = nil
	for _, t := range p.quant.Tensors {
		p.Tensors = append(p.Tensors, PlannedTensor{Name: t.Name, Type: t.Type, NE: t.NE, Sources: sources[t.SourceName], Bytes: t.Bytes})
	}
	return nil
}

// f16Source is the f16 file of a plan as package quant reads one: tensors are encoded
// when they are read.
type f16Source struct {
	p      *Plan
	byName map[string]*tensor
	w      *writer
}

func newF16Source(p *Plan) *f16Source {
	s := &f16Source{p: p, byName: map[string]*tensor{}, w: &writer{plan: p}}
	for _, t := range p.tensors {
		s.byName[t.Name] = t
	}
	return s
}

// Metadata gives the keys of the f16 file.
func (s *f16Source) Metadata() *gguf.Metadata { return s.p.Meta }

// TensorInfos gives its tensors.
func (s *f16Source) TensorInfos() []gguf.TensorInfo { return s.p.layout.Tensors }

// Tensor gives one of them.
func (s *f16Source) Tensor(name string) (gguf.TensorInfo, bool) {
	for _, t := range s.p.layout.Tensors {
		if t.Name == name {
			return t, true
		}
	}
	return gguf.TensorInfo{}, false
}

// Shard is 0: there is one file.
func (s *f16Source) Shard(string) int { return 0 }

// Paths gives the weights' files.
func (s *f16Source) Paths() []string {
	var paths []string
	for _, t := range s.p.model.Tensors() {
		if n := len(paths); n == 0 || paths[n-1] != t.File.Path {
			paths = append(paths, t.File.Path)
		}
	}
	return paths
}

// Close leaves the files to the plan.
func (s *f16Source) Close() error { return nil }

// ReadAhead announces the rows that the ranges are made of.
func (s *f16Source) ReadAhead(ranges []gguf.Range, workers int, budget int64) (cold bool, stop func()) {
	return safetensors.ReadAhead(s.parts(ranges), workers, budget)
}

// parts gives what the ranges are read from, in their order.
func (s *f16Source) parts(ranges []gguf.Range) (list []safetensors.Part) {
	for _, r := range ranges {
		t := s.byName[r.Name]
		if t == nil {
			continue
		}
		begin := int64(0) // of the segment, in output bytes
		for _, seg := range t.segs {
			size := piece{t: t, seg: seg, rows: seg.rows}.outBytes()
			if from, to := max(r.Begin, begin), min(r.End, begin+size); from < to {
				first, end := rowsHolding(t, seg, from-begin, to-begin)
				list = append(list, safetensors.Part{Tensor: seg.src, Begin: (seg.first + first) * seg.rowBytes(), End: (seg.first + end) * seg.rowBytes()})
			}
			begin += size
		}
	}
	return list
}

// ReadTensorAt encodes the rows that hold the wanted bytes.
func (s *f16Source) ReadTensorAt(name string, p []byte, off int64) error {
	t := s.byName[name]
	if t == nil || off < 0 || off+int64(len(p)) > t.Bytes() {
		return fmt.Errorf("tensor %s: got %d bytes at %d, want a part of it", name, len(p), off)
	}
	if len(t.segs) == 0 {
		copy(p, float32Bytes(t.values)[off:])
		return nil
	}
	begin := int64(0) // of the segment, in output bytes
	for _, seg := range t.segs {
		size := piece{t: t, seg: seg, rows: seg.rows}.outBytes()
		if from, to := max(off, begin), min(off+int64(len(p)), begin+size); from < to {
			if err := s.readSegment(t, seg, p[from-off:to-off], from-begin); err != nil {
				return err
			}
		}
		begin += size
	}
	return nil
}

// EncodeRowsAt encodes rows that lie in one segment and that no permutation moves, through f16 without storing it.
func (s *f16Source) EncodeRowsAt(dst []byte, typ gguf.Type, name string, off, size int64, importance []float32) bool {
	t := s.byName[name]
	if t == nil || t.Type != gguf.F16 || t.op == opPermuteQ || t.op == opPermuteK {
		return false
	}
	begin := int64(0) // of the segment, in output bytes
	for _, seg := range t.segs {
		row := piece{t: t, seg: seg, rows: 1}.outBytes()
		if end := begin + row*seg.rows; off >= end {
			begin = end
			continue
		}
		if off+size > begin+row*seg.rows || (off-begin)%row != 0 || size%row != 0 {
			return false
		}
		p := piece{t: t, seg: seg, first: (off - begin) / row, rows: size / row}
		src, dtype, err := s.w.read(p)
		if err != nil {
			return false
		}
		defer s.w.bufs.Put(src)
		return llama.EncodeRowsThroughF16(dst, uint32(typ), src, uint32(readable[dtype]), p.rowLen(), importance) == nil
	}
	return false
}

// readSegment encodes a part of one segment. Rows that a permutation keeps together are
// encoded together.
func (s *f16Source) readSegment(t *tensor, seg segment, p []byte, off int64) error {
	first, end := rowsHolding(t, seg, off, off+int64(len(p)))
	enc, err := s.w.encode(piece{t: t, seg: seg, first: first, rows: end - first})
	if err != nil {
		return err
	}
	copy(p, enc[off-piece{t: t, seg: seg, rows: first}.outBytes():])
	s.w.bufs.Put(enc)
	return nil
}

// rowsHolding gives the rows of a segment that hold its output bytes from off to end, and those that a permutation keeps with them.
func rowsHolding(t *tensor, seg segment, off, end int64) (first, last int64) {
	group := t.group
	if len(seg.src.Shape) == 1 {
		group = 1 // one row, whose elements are permuted
	}
	unit := piece{t: t, seg: seg, rows: group}.outBytes()
	return off / unit * group, min((end+unit-1)/unit*group, seg.rows)
}
