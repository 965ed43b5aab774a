package summary

import (
	"reflect"
	"strconv"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// readGGUF describes a GGUF file; the first file of a split model stands for all of them.
func readGGUF(path string, o Options) (*Summary, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := []*gguf.File{f}
	if count, ok := f.Meta.Uint("split.count"); ok && count > 1 {
		if no, ok := f.Meta.Uint("split.no"); ok && no == 0 {
			m, err := gguf.OpenModel(path)
			if err != nil {
				return nil, err
			}
			defer m.Close()
			files = m.Files
		}
	}
	s := &Summary{Path: path, Format: GGUF, Version: f.Version, Alignment: f.Alignment}
	s.describe(&f.Meta, o)
	var elements []int64
	for i, f := range files {
		s.Files = append(s.Files, File{Path: f.Path, Size: f.Size, Tensors: len(f.Tensors), DataOffset: f.DataOffset})
		for _, t := range f.Tensors {
			s.Tensors = append(s.Tensors, Tensor{
				Name: t.Name, Type: t.Type.String(), NE: t.NE, Bytes: t.Bytes(), Offset: f.DataOffset + int64(t.Offset), File: i,
			})
			elements = append(elements, t.Elements())
		}
	}
	s.total(elements)
	return s, nil
}

// describe takes over the metadata.
func (s *Summary) describe(m *gguf.Metadata, o Options) {
	s.Arch, _ = m.String("general.architecture")
	s.Name, _ = m.String("general.name")
	if ftype, ok := m.Uint("general.file_type"); ok {
		s.FileType = strconv.FormatUint(ftype, 10)
		if o.FileTypeName != nil {
			s.FileType = o.FileTypeName(uint32(ftype))
		}
	}
	for key, value := range m.All() {
		s.KV = append(s.KV, ggufKV(key, value, o.MaxArray))
	}
}

// ggufKV gives one key; of an array with more than maxArray elements the first ones.
func ggufKV(key string, value any, maxArray int) KV {
	t, elem, n, _ := gguf.TypeOf(value)
	if t != gguf.TypeArray {
		return KV{Key: key, Type: t.String(), Value: value}
	}
	v := reflect.ValueOf(value)
	if maxArray > 0 && n > maxArray {
		v = v.Slice(0, maxArray)
	}
	// An array of bytes would become a base64 string in JSON, so elements go out one by one.
	list := make([]any, v.Len())
	for i := range list {
		list[i] = v.Index(i).Interface()
	}
	return KV{Key: key, Type: t.String() + "[" + elem.String() + "]", Count: &n, Value: list}
}
