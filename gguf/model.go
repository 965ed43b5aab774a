package gguf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/prefetch"
)

// Model is a model in one GGUF file or in several (a split model). Its methods
// may be called from many goroutines at once; its fields are read-only.
type Model struct {
	Meta    *Metadata    // of the first file
	Files   []*File      // the shards in order; one if the model is not split
	Tensors []TensorInfo // of all files, in their order; offsets are relative to the data section of the file

	shard map[string]int
}

// OpenModel opens the model at path: a single file, or the first file
// (NAME-00001-of-0000N.gguf) of a split model with all the others beside it.
// It checks that every file is there and says the same about the split
// (split.no, split.count, split.tensors.count) and that no tensor is in two of
// them; the rules are those of src/llama-model-loader.cpp.
func OpenModel(path string) (*Model, error) {
	first, err := Open(path)
	if err != nil {
		return nil, err
	}
	m := &Model{Meta: &first.Meta, Files: []*File{first}}
	if err = m.openShards(); err == nil {
		err = m.index()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// openShards opens the other files of a split model.
func (m *Model) openShards() error {
	first := m.Files[0]
	count, ok := first.Meta.Uint(keySplitCount)
	if !ok || count < 2 {
		return nil
	}
	if count > MaxShards {
		return fmt.Errorf("open gguf %s: %s: got %d, want at most %d", first.Path, keySplitCount, count, MaxShards)
	}
	no, _ := first.Meta.Uint(keySplitNo)
	prefix, ok := strings.CutSuffix(first.Path, shardSuffix(no, count))
	if !ok {
		return fmt.Errorf("open gguf %s: file name: got none that ends in %s, want it for %s %d of %d", first.Path, shardSuffix(no, count), keySplitNo, no, count)
	}
	if no != 0 {
		return fmt.Errorf("open gguf %s: got file %d of a split model, want the first one, %s", first.Path, no+1, prefix+shardSuffix(0, count))
	}
	for i := uint64(1); i < count; i++ {
		f, err := Open(prefix + shardSuffix(i, count))
		if err != nil {
			return fmt.Errorf("open split model %s: %w", first.Path, err)
		}
		m.Files = append(m.Files, f)
		if got, ok := f.Meta.Uint(keySplitNo); !ok || got != i {
			return fmt.Errorf("open gguf %s: %s: got %d, want %d", f.Path, keySplitNo, got, i)
		}
		if got, ok := f.Meta.Uint(keySplitCount); !ok || got != count {
			return fmt.Errorf("open gguf %s: %s: got %d, want %d as in %s", f.Path, keySplitCount, got, count, first.Path)
		}
	}
	return nil
}

// shardSuffix gives the end of the name of shard no (from 0) of count: llama_split_path in src/llama.cpp.
func shardSuffix(no, count uint64) string {
	return fmt.Sprintf("-%05d-of-%05d.gguf", no+1, count)
}

// index collects the tensors of all files.
func (m *Model) index() error {
	m.shard = make(map[string]int)
	for i, f := range m.Files {
		for _, t := range f.Tensors {
			if j, ok := m.shard[t.Name]; ok {
				return fmt.Errorf("open gguf %s: tensor %q: got it again, want it in %s only", f.Path, t.Name, m.Files[j].Path)
			}
			m.shard[t.Name] = i
			m.Tensors = append(m.Tensors, t)
		}
	}
	if want, ok := m.Meta.Uint(keySplitTensors); ok && len(m.Files) > 1 && want != uint64(len(m.Tensors)) {
		return fmt.Errorf("open gguf %s: %s: got %d tensors in %d files, want %d", m.Files[0].Path, keySplitTensors, len(m.Tensors), len(m.Files), want)
	}
	return nil
}

// Close closes every file.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.Files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Tensor gives the tensor called name.
func (m *Model) Tensor(name string) (TensorInfo, bool) {
	i, ok := m.shard[name]
	if !ok {
		return TensorInfo{}, false
	}
	return m.Files[i].Tensor(name)
}

// Shard gives the position in Files of the file that holds the tensor called name, -1 if none does.
func (m *Model) Shard(name string) int {
	if i, ok := m.shard[name]; ok {
		return i
	}
	return -1
}

// Bytes gives the size of all tensors, without headers and padding.
func (m *Model) Bytes() int64 {
	var n int64
	for _, t := range m.Tensors {
		n += t.Bytes()
	}
	return n
}

// Range is a part of a tensor: its bytes from Begin to End.
type Range struct {
	Name       string
	Begin, End int64
}

// ReadAhead announces that the ranges will be read in this order, by workers
// goroutines at least: what is not in the page cache is then read ahead, budget bytes
// at most, until stop is called. No read of the files may be going on at that time.
// cold tells that most of these bytes are not in the page cache.
func (m *Model) ReadAhead(ranges []Range, workers int, budget int64) (cold bool, stop func()) {
	r := prefetch.Start(m.spans(ranges), prefetch.Options{Workers: workers, Budget: budget})
	return r.Cold(), r.Stop
}

// spans are the places of ranges in their files.
func (m *Model) spans(ranges []Range) (list []prefetch.Span) {
	for _, r := range ranges {
		i, ok := m.shard[r.Name]
		if !ok {
			continue
		}
		f := m.Files[i]
		t, _ := f.Tensor(r.Name)
		begin := f.DataOffset + int64(t.Offset)
		list = append(list, prefetch.Span{File: f.file, Begin: begin + max(r.Begin, 0), End: begin + min(r.End, t.Bytes())})
	}
	return list
}

// ReadTensorAt fills p with the bytes of the tensor called name from off on; see [File.ReadTensorAt].
func (m *Model) ReadTensorAt(name string, p []byte, off int64) error {
	f, t, err := m.find(name)
	if err != nil {
		return err
	}
	return f.ReadTensorAt(t, p, off)
}

// Data gives the bytes of the tensor called name out of the mapped file; see [File.Map].
func (m *Model) Data(name string) ([]byte, error) {
	f, t, err := m.find(name)
	if err != nil {
		return nil, err
	}
	return f.Data(t)
}

func (m *Model) find(name string) (*File, TensorInfo, error) {
	i, ok := m.shard[name]
	if !ok {
		return nil, TensorInfo{}, fmt.Errorf("read gguf %s: tensor %q: not in the model", m.Files[0].Path, name)
	}
	t, _ := m.Files[i].Tensor(name)
	return m.Files[i], t, nil
}
