package safetensors

import (
	"fmt"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/prefetch"
)

const maxOffset = math.MaxInt64

// Tensor is one tensor of an open file. Its fields are read-only.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // Hugging Face order, outermost first; empty for a single number
	File  *File
	// Begin and End bound the data, in bytes from the start of the file.
	Begin, End int64

	elements int64
	read     ReadFunc // of a tensor that is computed
	stored   *Tensor  // that it is computed from; nil if that is not known
}

// Bytes gives the size of the data.
func (t *Tensor) Bytes() int64 { return t.End - t.Begin }

// Elements gives the product of the shape.
func (t *Tensor) Elements() int64 { return t.elements }

// ReadAt fills p with the tensor's bytes from off on; off+len(p) must not
// exceed Bytes. It reads with pread and may be called from many goroutines at
// once. (It is not an io.ReaderAt: it gives all of p or an error.)
func (t *Tensor) ReadAt(p []byte, off int64) error {
	var err error
	if off < 0 || off > t.Bytes() || int64(len(p)) > t.Bytes()-off {
		err = fmt.Errorf("got %d bytes at %d, want a part of its %d bytes", len(p), off, t.Bytes())
	} else if t.read != nil {
		return t.read(p, off)
	} else {
		err = readFull(t.File.file, p, t.Begin+off)
	}
	if err != nil {
		return fmt.Errorf("read safetensors %s: tensor %q: %w", t.File.Path, t.Name, err)
	}
	return nil
}

// Data gives the tensor's bytes out of the mapped file; see [File.Map].
func (t *Tensor) Data() ([]byte, error) {
	if t.read != nil {
		return nil, fmt.Errorf("map safetensors %s: tensor %q: it is computed, not stored", t.File.Path, t.Name)
	}
	data, err := t.File.Map()
	if err != nil {
		return nil, err
	}
	return data[t.Begin:t.End:t.End], nil
}

// File is an open file whose header has been read and checked. Its methods may
// be called from many goroutines at once; its fields are read-only.
type File struct {
	Path     string
	Size     int64             // bytes
	Metadata map[string]string // of "__metadata__"; nil if there is none
	Tensors  []*Tensor         // in the order of the header

	index map[string]*Tensor
	file  *prefetch.File

	mu     sync.Mutex
	data   []byte // the mapped file
	closed bool
}

// Open opens the file at path and checks its header against the rules of the
// package comment. It reads no tensor data. The file stays open until Close.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors %s: %w", path, err)
	}
	return f, nil
}

func open(path string) (*File, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	osFile, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, unwrapPath(err)
	}
	f, err := newFile(osFile)
	if err != nil {
		osFile.Close()
		return nil, err
	}
	f.Path = path
	return f, nil
}

func newFile(osFile *os.File) (*File, error) {
	st, err := osFile.Stat()
	if err != nil {
		return nil, unwrapPath(err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("got %s, want a regular file", st.Mode().Type())
	}
	f := &File{Size: st.Size(), file: &prefetch.File{File: osFile}}
	if f.Metadata, f.Tensors, err = parse(osFile, f.Size); err != nil {
		return nil, err
	}
	f.index = make(map[string]*Tensor, len(f.Tensors))
	for _, t := range f.Tensors {
		t.File = f
		f.index[t.Name] = t
	}
	return f, nil
}

// Tensor gives the tensor called name.
func (f *File) Tensor(name string) (*Tensor, bool) {
	t, ok := f.index[name]
	return t, ok
}

// Close closes the file and unmaps it: slices from Map and Data must not be
// touched afterwards. A second Close does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	err := f.file.Close()
	if f.data != nil {
		if e := unix.Munmap(f.data); err == nil {
			err = e
		}
		f.data = nil
	}
	if err != nil {
		return fmt.Errorf("close safetensors %s: %w", f.Path, unwrapPath(err))
	}
	return nil
}

// Map maps the whole file read-only into memory, once, and gives its bytes,
// which stay valid until Close. If another process cuts the file short
// meanwhile, touching the lost part kills the process (SIGBUS); use
// Tensor.ReadAt for files that are not under control.
func (f *File) Map() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("map safetensors %s: %w", f.Path, os.ErrClosed)
	}
	if f.data == nil {
		data, err := unix.Mmap(int(f.file.Fd()), 0, int(f.Size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("map safetensors %s: %d bytes: %w", f.Path, f.Size, err)
		}
		f.data = data
	}
	return f.data, nil
}

// unwrapPath takes the path out of an os error, because the caller names the file itself.
func unwrapPath(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}
