package safetensors

import "github.com/persona-gguf/persona-gguf/internal/prefetch"

// Part is a range of a tensor's bytes.
type Part struct {
	Tensor     *Tensor
	Begin, End int64
}

// ReadAhead announces that parts will be read in this order, by workers goroutines at
// least: what is not in the page cache is then read ahead, budget bytes at most, until
// stop is called. No read of the files may be going on at that time. cold tells that most
// of the parts is not in the page cache.
func ReadAhead(parts []Part, workers int, budget int64) (cold bool, stop func()) {
	r := prefetch.Start(spans(parts), prefetch.Options{Workers: workers, Budget: budget})
	return r.Cold(), r.Stop
}

// spans are the places of parts in their files; of what is computed from nothing that is stored there is none.
func spans(parts []Part) (list []prefetch.Span) {
	for _, p := range parts {
		t, begin, end := p.Tensor, p.Begin, p.End
		if t.read != nil && t.stored != nil && t.Bytes() > 0 { // rows of both are as many
			rowBytes, stored := bytesOfRow(t), bytesOfRow(t.stored)
			t, begin, end = t.stored, begin/rowBytes*stored, (end+rowBytes-1)/rowBytes*stored
		}
		if t.read == nil && t.File != nil {
			list = append(list, prefetch.Span{File: t.File.file, Begin: t.Begin + begin, End: min(t.Begin+end, t.End)})
		}
	}
	return list
}

// bytesOfRow is the length of the innermost dimension.
func bytesOfRow(t *Tensor) int64 {
	if n := len(t.Shape); n > 0 {
		return t.Shape[n-1] * t.DType.Size()
	}
	return t.DType.Size()
}
