package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/cgo"
	"slices"
	"strings"
	"unsafe"
)

// QuantizeParams are the options of llama_model_quantize; start from
// DefaultQuantizeParams.
type QuantizeParams struct {
	FType                FType
	Threads              int                  // 0: all
	OutputTensorType     *TensorType          // nil: by the mixture of FType
	TokenEmbeddingType   *TensorType          // nil: by the mixture of FType
	AllowRequantize      bool                 // take a source that is quantized already
	QuantizeOutputTensor bool                 // false leaves output.weight as it is
	OnlyCopy             bool                 // copy all tensors as they are
	Pure                 bool                 // no mixture
	KeepSplit            bool                 // as many shards as the input
	DryRun               bool                 // only compute the size (in the log)
	Imatrix              map[string][]float32 // importances by tensor name
	KVOverrides          []KVOverride
	TensorTypes          []TensorTypeRule
	PruneLayers          []int
	MaxBufferSize        int64 // bytes of rows held at once; 0: 8 GiB
}

// KVOverride sets one metadata key.
type KVOverride struct {
	Key   string
	Value any // int64, float64, bool or string
}

// TensorTypeRule gives the tensors whose name a regular expression (of C++
// std::regex) finds a type.
type TensorTypeRule struct {
	Pattern string
	Type    TensorType
}

// DefaultQuantizeParams are llama.cpp's for a file type.
func DefaultQuantizeParams(f FType) QuantizeParams {
	return QuantizeParams{FType: f, QuantizeOutputTensor: true}
}

// QuantizeFile writes the model of file in to file out as another type, with
// llama.cpp's own quantizer. progress, which may be nil, is told after each
// tensor how many of all are done. The output appears complete or not at all.
func QuantizeFile(in, out string, p QuantizeParams, progress func(done, total int)) error {
	return QuantizeFileContext(context.Background(), in, out, p, progress)
}

// QuantizeFileContext is QuantizeFile that ends before the next tensor when ctx is done.
func QuantizeFileContext(ctx context.Context, in, out string, p QuantizeParams, progress func(done, total int)) error {
	if err := Init(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("quantize %s: %w", in, err)
	}
	if err := checkQuantize(in, p); err != nil {
		return fmt.Errorf("quantize %s: %w", in, err)
	}
	// In a folder of its own, because a split output chooses its names.
	dir, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+".*")
	if err != nil {
		return fmt.Errorf("quantize %s: %w", in, err)
	}
	defer os.RemoveAll(dir)
	if err := quantizeTo(ctx, in, filepath.Join(dir, filepath.Base(out)), p, progress); err != nil {
		return err
	}
	return publish(dir, filepath.Dir(out))
}

func checkQuantize(in string, p QuantizeParams) error {
	if info, err := os.Stat(in); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("not a regular file")
	}
	if !p.FType.Valid() {
		return fmt.Errorf("file type: got %d, want one of %s", p.FType, strings.Join(FTypes(), " "))
	}
	if p.Threads < 0 || p.Threads > C.GGML_MAX_N_THREADS {
		return fmt.Errorf("threads: got %d, want 0 to %d", p.Threads, C.GGML_MAX_N_THREADS)
	}
	types := []TensorType{}
	for _, t := range []*TensorType{p.OutputTensorType, p.TokenEmbeddingType} {
		if t != nil {
			types = append(types, *t)
		}
	}
	for _, r := range p.TensorTypes {
		types = append(types, r.Type)
		if r.Pattern == "" {
			return fmt.Errorf("tensor type %s: empty pattern", r.Type)
		}
	}
	for _, t := range types {
		if !t.CanEncode() {
			return fmt.Errorf("tensor type %s: it cannot be written", t)
		}
	}
	for _, n := range p.PruneLayers {
		if n < 0 || n > math.MaxInt32 {
			return fmt.Errorf("prune layers: got %d, want 0 or more", n)
		}
	}
	for name, v := range p.Imatrix {
		if name == "" || len(v) == 0 {
			return fmt.Errorf("imatrix: entry %q has no name or no values", name)
		}
	}
	return nil
}

// quantizeTo runs llama.cpp's quantizer.
func quantizeTo(ctx context.Context, in, out string, p QuantizeParams, progress func(done, total int)) error {
	var mem cMemory
	defer mem.free()
	cp, err := quantizeParams(p, &mem)
	if err != nil {
		return fmt.Errorf("quantize %s: %w", in, err)
	}
	cin, err := cString(in)
	if err != nil {
		return fmt.Errorf("quantize %q: %w", in, err)
	}
	defer C.free(unsafe.Pointer(cin))
	cout, err := cString(out)
	if err != nil {
		return fmt.Errorf("quantize %s: output %q: %w", in, out, err)
	}
	defer C.free(unsafe.Pointer(cout))

	var total int
	cb := &callback{line: func(level int, text string) bool {
		if i, n, ok := tensorLine(text); ok {
			total = n
			if progress != nil {
				progress(i-1, n)
			}
		}
		return ctx.Err() == nil
	}}
	h := cgo.NewHandle(cb)
	defer h.Delete()
	r := C.nl_quantize(cin, cout, cp, C.uintptr_t(h))
	cb.raise()
	err = check(r, "quantize", in)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("quantize %s: %w", in, ctx.Err())
	case err != nil:
		if e, ok := err.(*Error); ok && strings.Contains(e.Reason, "basic_ios") {
			e.Reason = "writing failed, is the disk full? (" + e.Reason + ")"
		}
		return err
	}
	if progress != nil && total > 0 {
		progress(total, total)
	}
	return nil
}

// tensorLine reads "[   3/ 310] blk.0…", which llama-quant.cpp logs before each tensor.
func tensorLine(text string) (i, n int, ok bool) {
	if !strings.HasPrefix(text, "[") {
		return 0, 0, false
	}
	got, err := fmt.Sscanf(text, "[%d/%d]", &i, &n)
	return i, n, err == nil && got == 2
}

// publish moves every file of dir to the folder to, synced.
func publish(dir, to string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	for _, e := range entries {
		if err := publishFile(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return fmt.Errorf("quantize: %w", err)
		}
	}
	d, err := os.Open(to)
	if err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	return nil
}

func publishFile(from, to string) error {
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// cMemory is C memory that lives as long as one call.
type cMemory []unsafe.Pointer

func (m *cMemory) free() {
	for _, p := range *m {
		C.free(p)
	}
}

// alloc returns n zeroed bytes.
func (m *cMemory) alloc(n uintptr) unsafe.Pointer {
	p := C.calloc(1, C.size_t(max(n, 1)))
	*m = append(*m, p)
	return p
}

func (m *cMemory) string(s string) (*C.char, error) {
	p, err := cString(s)
	if err == nil {
		*m = append(*m, unsafe.Pointer(p))
	}
	return p, err
}

// array returns n+1 zeroed elements, the last of which ends C's lists.
func array[T any](m *cMemory, n int) []T {
	var x T
	return unsafe.Slice((*T)(m.alloc(uintptr(n+1)*unsafe.Sizeof(x))), n+1)
}

func quantizeParams(p QuantizeParams, mem *cMemory) (*C.struct_llama_model_quantize_params, error) {
	cp := &array[C.struct_llama_model_quantize_params](mem, 1)[0]
	*cp = C.llama_model_quantize_default_params()
	cp.nthread = C.int32_t(p.Threads)
	cp.ftype = C.enum_llama_ftype(p.FType)
	if p.OutputTensorType != nil {
		cp.output_tensor_type = C.enum_ggml_type(*p.OutputTensorType)
	}
	if p.TokenEmbeddingType != nil {
		cp.token_embedding_type = C.enum_ggml_type(*p.TokenEmbeddingType)
	}
	cp.allow_requantize, cp.quantize_output_tensor = cbool(p.AllowRequantize), cbool(p.QuantizeOutputTensor)
	cp.only_copy, cp.pure, cp.keep_split, cp.dry_run = cbool(p.OnlyCopy), cbool(p.Pure), cbool(p.KeepSplit), cbool(p.DryRun)
	if p.MaxBufferSize > 0 {
		cp.max_buf_size = C.size_t(p.MaxBufferSize)
	}
	if len(p.PruneLayers) > 0 {
		list := array[C.int32_t](mem, len(p.PruneLayers))
		for i, n := range p.PruneLayers {
			list[i] = C.int32_t(n)
		}
		list[len(p.PruneLayers)] = -1
		cp.prune_layers = &list[0]
	}
	if err := imatrixParams(cp, p, mem); err != nil {
		return nil, err
	}
	if err := ruleParams(cp, p, mem); err != nil {
		return nil, err
	}
	return cp, overrideParams(cp, p, mem)
}

func imatrixParams(cp *C.struct_llama_model_quantize_params, p QuantizeParams, mem *cMemory) error {
	if p.Imatrix == nil {
		return nil
	}
	list := array[C.struct_llama_model_imatrix_data](mem, len(p.Imatrix))
	for i, name := range slices.Sorted(maps.Keys(p.Imatrix)) {
		cname, err := mem.string(name)
		if err != nil {
			return fmt.Errorf("imatrix: %w", err)
		}
		v := p.Imatrix[name]
		data := array[float32](mem, len(v))
		copy(data, v)
		list[i] = C.struct_llama_model_imatrix_data{name: cname, data: (*C.float)(&data[0]), size: C.size_t(len(v))}
	}
	cp.imatrix = &list[0]
	return nil
}

func ruleParams(cp *C.struct_llama_model_quantize_params, p QuantizeParams, mem *cMemory) error {
	if len(p.TensorTypes) == 0 {
		return nil
	}
	list := array[C.struct_llama_model_tensor_override](mem, len(p.TensorTypes))
	for i, r := range p.TensorTypes {
		pattern, err := mem.string(r.Pattern)
		if err != nil {
			return fmt.Errorf("tensor type pattern: %w", err)
		}
		list[i].pattern = pattern
		list[i]._type = C.enum_ggml_type(r.Type)
	}
	cp.tt_overrides = &list[0]
	return nil
}

// overrideBytes is the room for a key or a text in llama_model_kv_override, its
// ending zero included.
const overrideBytes = 128

func overrideParams(cp *C.struct_llama_model_quantize_params, p QuantizeParams, mem *cMemory) error {
	if len(p.KVOverrides) == 0 {
		return nil
	}
	list := array[C.struct_llama_model_kv_override](mem, len(p.KVOverrides))
	for i, o := range p.KVOverrides {
		if o.Key == "" || len(o.Key) >= overrideBytes || strings.IndexByte(o.Key, 0) >= 0 {
			return fmt.Errorf("override key %q: want 1 to %d bytes", o.Key, overrideBytes-1)
		}
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&list[i].key)), overrideBytes), o.Key)
		val := unsafe.Pointer(&list[i].anon0)
		switch v := o.Value.(type) {
		case int64:
			list[i].tag = C.LLAMA_KV_OVERRIDE_TYPE_INT
			*(*int64)(val) = v
		case float64:
			list[i].tag = C.LLAMA_KV_OVERRIDE_TYPE_FLOAT
			*(*float64)(val) = v
		case bool:
			list[i].tag = C.LLAMA_KV_OVERRIDE_TYPE_BOOL
			*(*bool)(val) = v
		case string:
			if len(v) >= overrideBytes || strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("override of %s: text of %d bytes: want at most %d", o.Key, len(v), overrideBytes-1)
			}
			list[i].tag = C.LLAMA_KV_OVERRIDE_TYPE_STR
			copy(unsafe.Slice((*byte)(val), overrideBytes), v)
		default:
			return fmt.Errorf("override of %s: got a value of type %T, want int64, float64, bool or string", o.Key, v)
		}
	}
	cp.kv_overrides = &list[0]
	return nil
}
