package summary

import (
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// readSafetensors describes one safetensors file.
func readSafetensors(path string) (*Summary, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &Summary{Path: path, Format: Safetensors}
	for key, value := range f.Metadata {
		s.KV = append(s.KV, KV{Key: key, Type: "string", Value: value})
	}
	slices.SortFunc(s.KV, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
	s.addSafetensors([]*safetensors.File{f}, f.Tensors)
	return s, nil
}

// addSafetensors takes over files, their tensors and the sums.
func (s *Summary) addSafetensors(files []*safetensors.File, tensors []*safetensors.Tensor) {
	at := map[*safetensors.File]int{}
	for i, f := range files {
		at[f] = i
		s.Files = append(s.Files, File{Path: f.Path, Size: f.Size, Tensors: len(f.Tensors), DataOffset: dataOffset(f)})
	}
	var elements []int64
	for _, t := range tensors {
		s.Tensors = append(s.Tensors, Tensor{
			Name: t.Name, Type: string(t.DType), Shape: t.Shape, Bytes: t.Bytes(), Offset: t.Begin, File: at[t.File],
		})
		elements = append(elements, t.Elements())
	}
	s.total(elements)
}

// dataOffset gives where the data of a file begins: at its first tensor, at the end if it has none.
func dataOffset(f *safetensors.File) int64 {
	first := f.Size
	for _, t := range f.Tensors {
		first = min(first, t.Begin)
	}
	return first
}
