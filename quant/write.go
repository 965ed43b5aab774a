package quant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/pipe"
)

// Result tells what Write did.
type Result struct {
	Paths       []string // the files written
	Bytes       int64    // their size
	InputBytes  int64    // bytes of the tensors read
	Tensors     int
	Quantized   int // tensors whose type changed
	Duration    time.Duration
	TensorBytes int64
}

// outFile is what Write needs of an output file: *atomicfile.File.
type outFile interface {
	WriteAt(p []byte, off int64) (int, error)
	Stream(size int64, cold bool) error
	Commit() error
	Abort() error
}

func createAtomic(path string) (outFile, error) { return atomicfile.Create(path) }

// Write encodes and writes every tensor. When it fails or ctx is cancelled, no
// output file is left and files that were there before are as they were.
func (p *Plan) Write(ctx context.Context) (*Result, error) {
	begin := time.Now()
	if err := p.write(ctx); err != nil {
		return nil, fmt.Errorf("quantize %s: %w", p.In, err)
	}
	r := &Result{Bytes: p.Size, InputBytes: p.SourceBytes, TensorBytes: p.TensorBytes, Tensors: len(p.Tensors), Duration: time.Since(begin)}
	for _, f := range p.Files {
		r.Paths = append(r.Paths, f.Path)
	}
	for _, t := range p.Tensors {
		if t.Type != t.SourceType {
			r.Quantized++
		}
	}
	return r, nil
}

func (p *Plan) write(ctx context.Context) (err error) {
	switch {
	case p.src == nil:
		return errors.New("plan is closed")
	case p.o.DryRun:
		return cmp.Or(p.blocked, errors.New("plan is a dry run"))
	case uint64(p.Size) > p.FreeDisk:
		return fmt.Errorf("output %s: %w: got %d bytes free, want %d", p.Files[0].Path, ErrNoSpace, p.FreeDisk, p.Size)
	}
	var open []outFile
	defer func() {
		for _, f := range open {
			err = errors.Join(err, f.Abort()) // nothing after Commit
		}
	}()
	var done int64
	for i := range p.Files {
		f, err := p.create(p.Files[i].Path)
		if err != nil {
			return err
		}
		open = append(open, f)
		if err := p.writeFile(ctx, f, &p.Files[i], &done); err != nil {
			return err
		}
	}
	for i, f := range open {
		if err := f.Commit(); err != nil {
			for _, committed := range p.Files[:i] {
				err = errors.Join(err, os.Remove(committed.Path))
			}
			return err
		}
	}
	return nil
}

// writeFile writes one file through w, every piece by the goroutine that encoded it; done counts the bytes read so far.
func (p *Plan) writeFile(ctx context.Context, w outFile, f *PlannedFile, done *int64) error {
	ahead, budget := pipe.Split(p.o.Budget)
	o := pipe.Options{Workers: cmp.Or(p.o.Threads, runtime.GOMAXPROCS(0)), Budget: budget}
	pieces := interleave(cut(f.tensors))
	cold, stop := p.src.ReadAhead(ranges(pieces), o.Workers, ahead)
	defer stop()
	if err := w.Stream(f.Size, cold); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return err
	}
	out, err := f.layout.NewWriterAt(w)
	if err != nil {
		return err
	}
	var buffers pipe.Buffers
	cost := func(i int) int64 { return pieces[i].size + pieces[i].outSize }
	work := func(_ context.Context, i int) (struct{}, error) {
		data, err := p.encode(&pieces[i], &buffers)
		if err == nil {
			err = out.WriteTensorAt(pieces[i].tensor.Name, data, pieces[i].out)
			buffers.Put(data)
		}
		return struct{}{}, err
	}
	emit := func(i int, _ struct{}) error {
		*done += pieces[i].size
		if p.o.Progress != nil {
			p.o.Progress(*done, p.SourceBytes)
		}
		return nil
	}
	if err := pipe.Ordered(ctx, o, len(pieces), cost, work, emit); err != nil {
		return err
	}
	return out.Finish()
}

// encode reads one piece and gives its bytes in the output. Input and output
// are checked for numbers that are none, as the reference does.
func (p *Plan) encode(c *piece, buffers *pipe.Buffers) ([]byte, error) {
	t := c.tensor
	if dst := p.encodeAtOnce(c, buffers); dst != nil {
		return dst, nil
	}
	src := buffers.Get(int(c.size))
	if err := p.src.ReadTensorAt(t.SourceName, src, c.off); err != nil {
		return nil, err
	}
	if err := llama.ValidateRows(src, uint32(t.SourceType)); err != nil {
		return nil, fmt.Errorf("tensor %s: invalid data at byte %d: %w", t.SourceName, c.off, err)
	}
	if t.Type == t.SourceType {
		return src, nil
	}
	dst := buffers.Get(int(c.outSize))
	err := llama.EncodeRows(dst, uint32(t.Type), src, uint32(t.SourceType), t.NE[0], c.importance)
	buffers.Put(src)
	if err == nil {
		err = llama.ValidateRows(dst, uint32(t.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("tensor %s: to %s: %w", t.Name, t.Type, err)
	}
	return dst, nil
}

// encodeAtOnce encodes a piece of F16 without a look at its bytes before: by the source, if that can, or checked while
// they are decoded. It is nil where there may be something to report, which encode then finds.
func (p *Plan) encodeAtOnce(c *piece, buffers *pipe.Buffers) []byte {
	t := c.tensor
	if t.SourceType != gguf.F16 || t.Type == gguf.F16 {
		return nil
	}
	dst := buffers.Get(int(c.outSize))
	var done bool
	if source, ok := p.src.(Encoder); ok {
		done = source.EncodeRowsAt(dst, t.Type, t.SourceName, c.off, c.size, c.importance)
	} else {
		src := buffers.Get(int(c.size))
		done = p.src.ReadTensorAt(t.SourceName, src, c.off) == nil &&
			llama.EncodeRowsThroughF16(dst, uint32(t.Type), src, uint32(gguf.F16), t.NE[0], c.importance) == nil
		buffers.Put(src)
	}
	if done && llama.ValidateRows(dst, uint32(t.Type)) == nil {
		return dst
	}
	buffers.Put(dst)
	return nil
}
