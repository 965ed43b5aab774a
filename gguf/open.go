package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/persona-gguf/persona-gguf/internal/prefetch"
)

var le = binary.LittleEndian

// File is an open GGUF file whose header has been read and checked. Its
// methods may be called from many goroutines at once; its fields are read-only.
type File struct {
	Path       string
	Version    uint32 // 2 or 3
	Alignment  int64
	DataOffset int64 // where the data section begins
	Size       int64 // of the file
	Meta       Metadata
	Tensors    []TensorInfo // in the order of the file

	index map[string]int
	file  *prefetch.File

	mu     sync.Mutex
	data   []byte // the mapped file
	closed bool
}

// Open opens the file at path and checks all of its header: see the limits, the
// rules in the package comment, and that the data of every tensor is inside
// the file. It reads no tensor data. The file stays open until Close.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open gguf %s: %w", path, err)
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
	h, err := parseFile(osFile, st.Size())
	if err != nil {
		return nil, err
	}
	f := &File{
		Version: h.version, Alignment: h.alignment, DataOffset: h.dataOffset, Size: st.Size(),
		Meta: h.meta, Tensors: h.tensors, index: make(map[string]int, len(h.tensors)), file: &prefetch.File{File: osFile},
	}
	for i, t := range f.Tensors {
		f.index[t.Name] = i
	}
	return f, nil
}

// parseFile reads the header of a file of size bytes and checks everything.
func parseFile(r io.ReaderAt, size int64) (*header, error) {
	h, err := parse(r, size)
	if err != nil {
		return nil, err
	}
	return h, h.checkFileSize(size)
}

// checkFileSize checks that the data fills the file. The padding after the
// last tensor may be missing: llama.cpp's loader does not read it.
func (h *header) checkFileSize(size int64) error {
	if size < h.dataEnd {
		for _, t := range h.tensors {
			if end := h.dataOffset + int64(t.Offset) + t.Bytes(); end > size {
				return fmt.Errorf("tensor %q: truncated: got a file of %d bytes, want %d for this tensor and %d in all", t.Name, size, end, h.dataEnd)
			}
		}
	}
	if most := pad(h.dataEnd, h.alignment); size > most {
		return fmt.Errorf("trailing bytes: got a file of %d bytes, want %d", size, most)
	}
	return nil
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
		return fmt.Errorf("close gguf %s: %w", f.Path, unwrapPath(err))
	}
	return nil
}

// Tensor gives the tensor called name.
func (f *File) Tensor(name string) (TensorInfo, bool) {
	i, ok := f.index[name]
	if !ok {
		return TensorInfo{}, false
	}
	return f.Tensors[i], true
}

// ReadTensorAt fills p with the bytes of t from off on; off+len(p) must not
// exceed t's size, and t must be a tensor of this file. It reads with pread.
func (f *File) ReadTensorAt(t TensorInfo, p []byte, off int64) error {
	begin, err := f.locate(t)
	if err == nil && (off < 0 || off > t.Bytes() || int64(len(p)) > t.Bytes()-off) {
		err = fmt.Errorf("got %d bytes at %d, want a part of its %d bytes", len(p), off, t.Bytes())
	}
	if err == nil {
		err = readFull(f.file, p, begin+off)
	}
	if err != nil {
		return fmt.Errorf("read gguf %s: tensor %q: %w", f.Path, t.Name, unwrapPath(err))
	}
	return nil
}

// Map maps the whole file read-only into memory, once, and gives its bytes,
// which stay valid until Close. If another process cuts the file short
// meanwhile, touching the lost part kills the process (SIGBUS); use
// ReadTensorAt for files that are not under control.
func (f *File) Map() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("map gguf %s: %w", f.Path, os.ErrClosed)
	}
	if f.data == nil {
		data, err := unix.Mmap(int(f.file.Fd()), 0, int(f.Size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("map gguf %s: %d bytes: %w", f.Path, f.Size, err)
		}
		f.data = data
	}
	return f.data, nil
}

// Data gives the bytes of t out of the mapped file; see Map.
func (f *File) Data(t TensorInfo) ([]byte, error) {
	begin, err := f.locate(t)
	if err != nil {
		return nil, fmt.Errorf("map gguf %s: tensor %q: %w", f.Path, t.Name, err)
	}
	data, err := f.Map()
	if err != nil {
		return nil, err
	}
	end := begin + t.Bytes()
	return data[begin:end:end], nil
}

// locate gives the file offset of t after making sure that it is a tensor of this file.
func (f *File) locate(t TensorInfo) (int64, error) {
	own, ok := f.Tensor(t.Name)
	if !ok {
		return 0, fmt.Errorf("not in this file")
	}
	if own.Offset != t.Offset || own.Bytes() != t.Bytes() {
		return 0, fmt.Errorf("got offset %d and %d bytes, want %d and %d as in this file", t.Offset, t.Bytes(), own.Offset, own.Bytes())
	}
	return f.DataOffset + int64(own.Offset), nil
}

// unwrapPath takes the path out of an os error, because the caller names the file itself.
func unwrapPath(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}
