// Package summary describes a model on disk as data: a GGUF file, a safetensors file, or a
// Hugging Face model folder. It reads headers only, never tensor data.
package summary

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// The formats that [Read] knows.
const (
	GGUF        = "gguf"
	Safetensors = "safetensors"
	Folder      = "folder"
)

// Summary is what a model on disk says about itself.
type Summary struct {
	Path   string `json:"path"`
	Format string `json:"format"` // GGUF, Safetensors or Folder
	Files  []File `json:"files"`  // those that hold tensors; more than one when the model is sharded
	Size   int64  `json:"size"`   // bytes of Files

	Arch      string `json:"arch,omitempty"`      // GGUF: general.architecture
	HFArch    string `json:"hf_arch,omitempty"`   // folder: the first of config.json's architectures
	Name      string `json:"name,omitempty"`      // GGUF: general.name
	FileType  string `json:"ftype,omitempty"`     // GGUF: general.file_type by name ("Q4_0"), or its number
	Version   uint32 `json:"version,omitempty"`   // GGUF
	Alignment int64  `json:"alignment,omitempty"` // GGUF

	TensorCount int     `json:"tensor_count"`
	Parameters  int64   `json:"parameters"`   // elements of all tensors
	TensorBytes int64   `json:"tensor_bytes"` // without headers and padding
	BPW         float64 `json:"bpw"`          // bits per weight: 8·TensorBytes/Parameters
	Types       []Type  `json:"types"`        // largest first

	// KV is the GGUF metadata, the safetensors __metadata__, or the top level of config.json, in the file's order.
	KV      []KV     `json:"kv,omitempty"`
	Tensors []Tensor `json:"tensors,omitempty"`
}

// File is one file that holds tensors.
type File struct {
	Path       string `json:"path"`
	Size       int64  `json:"size"`
	Tensors    int    `json:"tensors"`
	DataOffset int64  `json:"data_offset"` // where tensor data begins
}

// Type is the sum over all tensors of one type.
type Type struct {
	Type     string  `json:"type"` // ggml's tensor type, or the safetensors dtype
	Tensors  int     `json:"tensors"`
	Elements int64   `json:"elements"`
	Bytes    int64   `json:"bytes"`
	BPW      float64 `json:"bpw"`
}

// KV is one key with its value.
type KV struct {
	Key  string `json:"key"`
	Type string `json:"type"` // "u32", "str", "arr[str]", …; in config.json JSON's own "number", "string", …
	// Count is the number of elements of an array, of which Value holds the first ones.
	Count *int `json:"count,omitempty"`
	Value any  `json:"value"`
}

// Tensor is one tensor. A GGUF tensor has NE, a safetensors tensor Shape; one is the reverse of the other.
type Tensor struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	NE     []int64 `json:"ne,omitempty"`    // innermost dimension first
	Shape  []int64 `json:"shape,omitempty"` // outermost dimension first
	Bytes  int64   `json:"bytes"`
	Offset int64   `json:"offset"` // from the start of the file
	File   int     `json:"file"`   // position in Summary.Files
}

// Options chooses how much of it is kept.
type Options struct {
	// MaxArray is the number of elements of a long array that are kept; 0 keeps all.
	MaxArray int
	// FileTypeName gives the name of a general.file_type; nil leaves the number.
	FileTypeName func(uint32) string
}

// Read describes the model at path. What it is, is told by its content: a folder, or the magic at
// the start of the file. The errors are those of packages gguf and safetensors.
func Read(path string, o Options) (*Summary, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err.(*os.PathError).Err)
	}
	if info.IsDir() {
		return readFolder(path)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("inspect %s: got %s, want a file or a folder", path, info.Mode().Type())
	}
	head, err := readHead(path)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("GGUF")):
		return readGGUF(path, o)
	case len(head) == 9 && head[8] == '{' || filepath.Ext(path) == ".safetensors":
		return readSafetensors(path)
	}
	return nil, fmt.Errorf("inspect %s: %w: got a file that begins with %q", path, ErrFormat, head)
}

// ErrFormat says that a file is neither GGUF nor safetensors.
var ErrFormat = fmt.Errorf("neither GGUF nor safetensors")

// readHead reads the first nine bytes, or fewer when the file is shorter. Safetensors begins with the
// length of its header, eight bytes, and the header's opening brace.
func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err.(*os.PathError).Err
	}
	defer f.Close()
	head := make([]byte, 9)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return head[:n], nil
}

// total fills the sums from Files and Tensors; elements is the number of elements of each tensor.
func (s *Summary) total(elements []int64) {
	byType := map[string]int{}
	for i, t := range s.Tensors {
		at, ok := byType[t.Type]
		if !ok {
			at = len(s.Types)
			byType[t.Type] = at
			s.Types = append(s.Types, Type{Type: t.Type})
		}
		s.Types[at].Tensors++
		s.Types[at].Elements += elements[i]
		s.Types[at].Bytes += t.Bytes
		s.Parameters += elements[i]
		s.TensorBytes += t.Bytes
	}
	for i := range s.Types {
		s.Types[i].BPW = bpw(s.Types[i].Bytes, s.Types[i].Elements)
	}
	slices.SortStableFunc(s.Types, func(a, b Type) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for _, f := range s.Files {
		s.Size += f.Size
	}
	s.TensorCount = len(s.Tensors)
	s.BPW = bpw(s.TensorBytes, s.Parameters)
}

// bpw gives bits per weight; no weights have none.
func bpw(bytes, elements int64) float64 {
	if elements == 0 {
		return 0
	}
	return 8 * float64(bytes) / float64(elements)
}
