package quant

import "github.com/persona-gguf/persona-gguf/gguf"

// Source is a GGUF model to be quantized: a file, or one that is made while it is
// read. ReadTensorAt fills p with the tensor's bytes from off on, any range, and
// may be called from many goroutines at once. ReadAhead announces the order in which
// ranges will be read, as that of [gguf.Model].
type Source interface {
	Metadata() *gguf.Metadata
	TensorInfos() []gguf.TensorInfo
	Tensor(name string) (gguf.TensorInfo, bool)
	Shard(name string) int // number of the file that holds the tensor
	ReadTensorAt(name string, p []byte, off int64) error
	ReadAhead(ranges []gguf.Range, workers int, budget int64) (cold bool, stop func())
	Paths() []string // files that are read and must not be replaced
	Close() error
}

// fileSource is a model that lies in files.
type fileSource struct{ *gguf.Model }

// Metadata gives the keys of the first file.
func (s fileSource) Metadata() *gguf.Metadata { return s.Meta }

// TensorInfos gives the tensors of all files.
func (s fileSource) TensorInfos() []gguf.TensorInfo { return s.Tensors }

// Paths gives the files.
func (s fileSource) Paths() []string {
	var paths []string
	for _, f := range s.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

// Encoder is a Source that can encode rows without making their bytes first. EncodeRowsAt writes to dst, as the
// quantized type, the rows whose bytes ReadTensorAt would give as [off, off+size), and tells whether it did: where it did not,
// which is no error, they are read and encoded the other way. The bytes are the same.
type Encoder interface {
	EncodeRowsAt(dst []byte, t gguf.Type, name string, off, size int64, importance []float32) bool
}
