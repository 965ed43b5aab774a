package quant

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
)

// planMeta sets the keys of the output in llama-quantize's order.
func (p *Plan) planMeta() error {
	src := p.src.Metadata()
	p.Meta = new(gguf.Metadata)
	for key, v := range src.All() {
		if err := p.Meta.Set(key, cutZeros(v)); err != nil {
			return err
		}
	}
	file := p.target.ftype
	if p.target.copy {
		var err error
		if file, err = sourceFType(p.reader(), p.inBlockOrder()); err != nil {
			return err
		}
	}
	set := []gguf.KV{{Key: keyQuantVersion, Value: uint32(quantizationVersion)}, {Key: keyFileType, Value: uint32(file)}}
	for _, key := range []string{keySplitNo, keySplitCount, keySplitTensors} {
		p.Meta.Remove(key)
	}
	for _, o := range p.o.OverrideKV {
		set = append(set, gguf.KV{Key: o.Key, Value: o.stored()})
	}
	set = append(set, p.imatrixKeys()...)
	if len(p.o.PruneLayers) > 0 {
		set = append(set, gguf.KV{Key: p.hp.arch + ".block_count", Value: uint32(p.blocksLeft)})
	}
	for _, kv := range set {
		if err := p.Meta.SetLast(kv.Key, kv.Value); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) imatrixKeys() []gguf.KV {
	if p.imatrix == nil {
		return nil
	}
	kvs := []gguf.KV{{Key: "quantize.imatrix.file", Value: atMost127(p.imatrix.Path)}}
	if len(p.imatrix.Datasets) > 0 {
		kvs = append(kvs, gguf.KV{Key: "quantize.imatrix.dataset", Value: atMost127(p.imatrix.Datasets[0])})
	}
	kvs = append(kvs, gguf.KV{Key: "quantize.imatrix.entries_count", Value: uint32(len(p.imatrix.Entries))})
	if p.imatrix.Chunks > 0 {
		kvs = append(kvs, gguf.KV{Key: "quantize.imatrix.chunks_count", Value: uint32(p.imatrix.Chunks)})
	}
	return kvs
}

// cutZeros ends strings at their first zero byte: the reference copies them as C strings.
func cutZeros(v any) any {
	switch v := v.(type) {
	case string:
		return cString(v)
	case []string:
		if !slices.ContainsFunc(v, func(s string) bool { return strings.IndexByte(s, 0) >= 0 }) {
			return v
		}
		cut := make([]string, len(v))
		for i, s := range v {
			cut[i] = cString(s)
		}
		return cut
	}
	return v
}

// DefaultOutput is the name that llama-quantize gives its output:
// ggml-model-FTYPE.gguf in the folder of in.
func DefaultOutput(in, ftype string) (string, error) {
	name, err := CanonicalFType(ftype)
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(in), "ggml-model-"+name+".gguf"), nil
}

// planFiles lays out the output files.
func (p *Plan) planFiles(out string) error {
	if out == "" {
		var err error
		if out, err = DefaultOutput(p.In, p.target.name); err != nil {
			return err
		}
	}
	n := 1
	if p.o.KeepSplit {
		for _, t := range p.Tensors {
			n = max(n, t.shard+1)
		}
	}
	p.Files = make([]PlannedFile, n)
	for i := range p.Tensors {
		t := &p.Tensors[i]
		t.Bytes = gguf.TensorInfo{Type: t.Type, NE: t.NE}.Bytes()
		p.SourceBytes += t.SourceBytes
		p.TensorBytes += t.Bytes
		k := 0
		if p.o.KeepSplit {
			k = t.shard
		}
		p.Files[k].tensors = append(p.Files[k].tensors, *t)
	}
	for i := range p.Files {
		if err := p.layOut(i, out); err != nil {
			return err
		}
		p.Size += p.Files[i].Size
	}
	if p.o.DryRun {
		return nil
	}
	if err := p.checkPaths(); err != nil {
		return err
	}
	var err error
	p.FreeDisk, err = atomicfile.FreeSpace(filepath.Dir(out))
	return err
}

// layOut plans file i.
func (p *Plan) layOut(i int, out string) error {
	f := &p.Files[i]
	n := len(p.Files)
	f.Path = out
	if p.o.KeepSplit {
		f.Path = fmt.Sprintf("%s-%05d-of-%05d.gguf", strings.TrimSuffix(out, ".gguf"), i+1, n)
	}
	if len(f.tensors) == 0 {
		return fmt.Errorf("file %d of %d would have no tensors left", i+1, n)
	}
	meta := new(gguf.Metadata)
	if i == 0 {
		meta = p.Meta
	}
	if n > 1 {
		split := []gguf.KV{
			{Key: keySplitNo, Value: uint16(i)},
			{Key: keySplitCount, Value: uint16(n)},
			{Key: keySplitTensors, Value: int32(len(p.Tensors))},
		}
		for _, kv := range split {
			if err := meta.SetLast(kv.Key, kv.Value); err != nil {
				return err
			}
		}
	}
	infos := make([]gguf.TensorInfo, len(f.tensors))
	for k, t := range f.tensors {
		infos[k] = gguf.TensorInfo{Name: t.Name, Type: t.Type, NE: t.NE}
	}
	var err error
	if f.layout, err = gguf.NewLayout(meta, infos, 0); err != nil {
		return err
	}
	f.Size = f.layout.FileSize
	return nil
}

// checkPaths refuses an output that is one of the files read.
func (p *Plan) checkPaths() error {
	inputs := p.src.Paths()
	if p.o.Imatrix != "" {
		inputs = append(inputs, p.o.Imatrix)
	}
	for _, out := range p.Files {
		stOut, err := os.Stat(out.Path)
		if err != nil {
			continue // not there yet, or Create will tell
		}
		for _, in := range inputs {
			if stIn, err := os.Stat(in); err == nil && os.SameFile(stIn, stOut) {
				return fmt.Errorf("output %s: is the same file as the input %s", out.Path, in)
			}
		}
	}
	return nil
}
