package convert

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/pipe"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

const (
	// pieceSize is the aim for the source bytes of one piece of work: large
	// enough for the disk, small enough that many pieces fit in the cache and
	// the budget.
	pieceSize = 2 << 20
	// piecesAhead bounds the pieces in flight per encoder, far below the budget.
	piecesAhead = 4
)

// Result tells what Write did.
type Result struct {
	Path       string
	Bytes      int64 // of the output
	InputBytes int64 // of the weights read
	Tensors    int
	Duration   time.Duration
}

// piece is a run of rows of one output tensor, out of one segment.
type piece struct {
	t           *tensor
	seg         segment
	first, rows int64 // within the segment
	out         int64 // where its bytes go in the output tensor
}

// rowBytes is the length of one source row in bytes.
func (s segment) rowBytes() int64 {
	return s.src.Shape[len(s.src.Shape)-1] * s.src.DType.Size()
}

// cut divides the work. Rows that a permutation keeps together stay together.
func cut(tensors []*tensor, size int64) []piece {
	var pieces []piece
	for _, t := range tensors {
		if len(t.segs) == 0 {
			pieces = append(pieces, piece{t: t})
		}
		out := int64(0)
		for _, s := range t.segs {
			n := max(size/(s.rowBytes()*t.group), 1) * t.group
			for first := int64(0); first < s.rows; first += n {
				p := piece{t, s, first, min(n, s.rows-first), out}
				out += p.outBytes()
				pieces = append(pieces, p)
			}
		}
	}
	return pieces
}

// inBytes is the number of source bytes of a piece.
func (p piece) inBytes() int64 {
	if p.seg.src == nil {
		return 0
	}
	return p.rows * p.seg.rowBytes()
}

// outBytes is the number of output bytes of a piece.
func (p piece) outBytes() int64 {
	if p.seg.src == nil {
		return p.t.Bytes()
	}
	n, err := p.t.Type.RowSize(p.rowLen())
	if err != nil {
		return 0 // tensorType gives no type that the row does not fit
	}
	return n * p.rows
}

// rowLen is the length of a source row, in elements.
func (p piece) rowLen() int64 { return p.seg.src.Shape[len(p.seg.src.Shape)-1] }

// unitBytes is the length of what a permutation moves: a row of a matrix, an
// element of a bias.
func (p piece) unitBytes() int64 {
	if len(p.seg.src.Shape) == 1 {
		return p.seg.src.DType.Size()
	}
	return p.seg.rowBytes()
}

// cost is the memory that a piece holds until it is written.
func (p piece) cost() int64 {
	in := p.inBytes()
	if p.t.op == opAddOne {
		in *= 2
	}
	return 2*in + p.outBytes()
}

// Write converts and writes the file under its final name at once: a failure,
// or the end of ctx, leaves nothing behind and an older file as it was.
func (p *Plan) Write(ctx context.Context) (*Result, error) {
	start := time.Now()
	if p.model == nil {
		return nil, fmt.Errorf("write %s: the plan is closed", p.OutFile)
	}
	if p.quant != nil {
		return p.writeQuantized(ctx)
	}
	free, err := atomicfile.FreeSpace(filepath.Dir(p.OutFile))
	if err != nil {
		return nil, err
	}
	if uint64(p.Size) > free {
		return nil, fmt.Errorf("write %s: %w: got %d bytes free, want %d", p.OutFile, syscall.ENOSPC, free, p.Size)
	}
	out, err := atomicfile.Create(p.OutFile)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	w := &writer{plan: p, pieces: cut(p.tensors, pieceSize)}
	if err := w.run(ctx, out); err != nil {
		return nil, fmt.Errorf("convert %s: %w", p.Dir, err)
	}
	if err := out.Commit(); err != nil {
		return nil, err
	}
	return &Result{Path: p.OutFile, Bytes: p.Size, InputBytes: p.InputBytes, Tensors: len(p.Tensors), Duration: time.Since(start)}, nil
}

// writeQuantized encodes every piece to f16 and on to its type.
func (p *Plan) writeQuantized(ctx context.Context) (*Result, error) {
	r, err := p.quant.Write(ctx)
	if err != nil {
		return nil, err
	}
	return &Result{Path: p.OutFile, Bytes: r.Bytes, InputBytes: p.InputBytes, Tensors: r.Tensors, Duration: r.Duration}, nil
}

// writer runs the pieces through the encoders, which write them to their places in the file.
type writer struct {
	plan     *Plan
	pieces   []piece
	bufs     pipe.Buffers
	overflow atomic.Bool
}

// target is what writer needs of a file: *atomicfile.File.
type target interface {
	io.WriterAt
	Stream(size int64, cold bool) error
}

func (w *writer) run(ctx context.Context, out target) error {
	limits, ahead := w.limits()
	cold, stop := safetensors.ReadAhead(parts(w.plan.tensors), limits.Workers, ahead)
	defer stop()
	if err := out.Stream(w.plan.Size, cold); err != nil {
		return err
	}
	gw, err := w.plan.layout.NewWriterAt(out)
	if err != nil {
		return err
	}
	o := &w.plan.opts
	done := w.plan.layout.DataOffset
	work := func(_ context.Context, i int) (int, error) {
		t := w.pieces[i].t
		enc, err := w.encode(w.pieces[i])
		if err != nil {
			return 0, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		defer w.bufs.Put(enc)
		return len(enc), gw.WriteTensorAt(t.Name, enc, w.pieces[i].out)
	}
	emit := func(_, n int) error {
		if done += int64(n); o.Progress != nil {
			o.Progress(min(done, w.plan.Size), w.plan.Size)
		}
		return nil
	}
	cost := func(i int) int64 { return w.pieces[i].cost() }
	if err := pipe.Ordered(ctx, limits, len(w.pieces), cost, work, emit); err != nil {
		return err
	}
	if w.overflow.Load() {
		o.Warn("some weights are too large for F16 and became infinite; use output type bf16 or f32")
	}
	if err := gw.Finish(); err != nil {
		return err
	}
	if o.Progress != nil {
		o.Progress(w.plan.Size, w.plan.Size)
	}
	return nil
}

// limits bounds the pieces in flight, and the bytes that are read ahead of them.
func (w *writer) limits() (o pipe.Options, ahead int64) {
	workers := w.plan.opts.Threads
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ahead, budget := pipe.Split(w.plan.opts.Budget)
	largest := int64(0)
	for _, p := range w.pieces {
		largest = max(largest, p.cost())
	}
	return pipe.Options{Workers: workers, Budget: min(budget, largest*int64(workers)*piecesAhead)}, ahead
}

// parts gives what tensors are read from, in their order.
func parts(tensors []*tensor) []safetensors.Part {
	var list []safetensors.Part
	for _, t := range tensors {
		for _, s := range t.segs {
			list = append(list, safetensors.Part{Tensor: s.src, Begin: s.first * s.rowBytes(), End: (s.first + s.rows) * s.rowBytes()})
		}
	}
	return list
}

// encode reads one piece and returns it in the tensor's type. The result comes
// from w.bufs.
func (w *writer) encode(p piece) ([]byte, error) {
	if p.seg.src == nil {
		return float32Bytes(p.t.values), nil
	}
	src, dtype, err := w.read(p)
	if err != nil {
		return nil, err
	}
	defer w.bufs.Put(src)
	out := w.bufs.Get(int(p.outBytes()))
	if err := llama.EncodeRows(out, uint32(p.t.Type), src, uint32(readable[dtype]), p.rowLen(), nil); err != nil {
		w.bufs.Put(out)
		return nil, err
	}
	if p.t.Type == gguf.F16 && dtype != safetensors.F16 && !w.overflow.Load() && hasNewInf(out, src, dtype) {
		w.overflow.Store(true)
	}
	return out, nil
}

// read reads one piece and does to its values what its tensor wants; the result, in the type that is given, comes from w.bufs.
func (w *writer) read(p piece) (src []byte, dtype safetensors.DType, err error) {
	src, dtype = w.bufs.Get(int(p.inBytes())), p.seg.src.DType
	if err := p.seg.src.ReadAt(src, (p.seg.first+p.first)*p.seg.rowBytes()); err != nil {
		w.bufs.Put(src)
		return nil, dtype, err
	}
	switch p.t.op {
	case opPermuteQ, opPermuteK:
		dst := w.bufs.Get(len(src))
		permute(dst, src, p.t.group, p.unitBytes())
		w.bufs.Put(src)
		return dst, dtype, nil
	case opAddOne:
		dst := w.bufs.Get(len(src) / int(dtype.Size()) * 4)
		addOne(dst, src, dtype)
		w.bufs.Put(src)
		return dst, safetensors.F32, nil
	}
	return src, dtype, nil
}

// float32Bytes writes values as little-endian bytes.
func float32Bytes(values []float32) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
