package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"os"
	"runtime/cgo"
	"strconv"
	"strings"
	"sync"
	"unsafe"
)

// Token is the id of a vocabulary entry.
type Token = int32

// SplitMode says how a model is spread over several GPUs.
type SplitMode int32

// Split modes, as in llama.h.
const (
	SplitNone  SplitMode = C.LLAMA_SPLIT_MODE_NONE  // MainGPU only
	SplitLayer SplitMode = C.LLAMA_SPLIT_MODE_LAYER // whole layers, the default
	SplitRow   SplitMode = C.LLAMA_SPLIT_MODE_ROW   // rows of each tensor
)

// ModelParams says how a model is loaded; start from DefaultModelParams.
type ModelParams struct {
	GPULayers    int // layers put on a GPU, if there is one; -1 is all of them, 0 none
	SplitMode    SplitMode
	MainGPU      int       // the GPU used with SplitNone
	TensorSplit  []float32 // share of each GPU; nil shares by free memory
	UseMMap      bool      // map the file instead of reading it
	UseMLock     bool      // keep the weights in RAM
	VocabOnly    bool      // load metadata and vocabulary, no weights
	CheckTensors bool      // look for invalid values while loading
	// Progress is called with 0 to 1 while weights are loaded; false cancels
	// the load (ErrAborted). It must not call into this package.
	Progress func(float32) bool
}

// DefaultModelParams maps the file and puts all layers on the GPUs, if any.
func DefaultModelParams() ModelParams {
	return ModelParams{GPULayers: -1, SplitMode: SplitLayer, UseMMap: true}
}

// Model is the loaded weights and vocabulary of a GGUF file. It may be used by
// many goroutines at once.
type Model struct {
	refs
	path  string
	ptr   *C.struct_llama_model
	vocab *C.struct_llama_vocab

	// read once at load, so that they need no C call and outlive Close
	desc                  string
	size, params          uint64
	nCtxTrain, nEmbd      int
	nEmbdOut              int
	nLayer, nVocab, nHead int
	nHeadKV, nSWA         int
	vocabType             int
	bos, eos, eot, nl     Token
	addBOS, addEOS        bool
	recurrent, hasEncoder bool
	hasDecoder, vocabOnly bool
	causal                bool
	gpu                   bool // weights are on a GPU
	adapters              sync.Mutex
}

// LoadModel loads a GGUF file; of a split model it is the first shard
// (…-00001-of-00003.gguf).
func LoadModel(path string, p ModelParams) (*Model, error) {
	if err := Init(); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	} else if info.IsDir() {
		return nil, fmt.Errorf("load model %s: it is a folder", path)
	}
	cp, err := modelParams(path, p)
	if err != nil {
		return nil, err
	}
	cpath, err := cString(path)
	if err != nil {
		return nil, fmt.Errorf("load model %q: %w", path, err)
	}
	defer C.free(unsafe.Pointer(cpath))

	cb := &callback{progress: p.Progress}
	var h cgo.Handle
	if p.Progress != nil {
		h = cgo.NewHandle(cb)
		defer h.Delete()
	}
	r := C.nl_model_load(cpath, cp, C.uintptr_t(h), (*C.float)(unsafe.SliceData(p.TensorSplit)), C.int32_t(len(p.TensorSplit)))
	cb.raise()
	if err := check(r, "load model", path); err != nil {
		if e := err.(*Error); len(e.Log) > 0 && strings.Contains(e.Log[len(e.Log)-1], "cancelled model load") {
			e.Reason, e.err = "cancelled by the progress callback", ErrAborted
		}
		return nil, err
	}
	m := &Model{path: path, ptr: (*C.struct_llama_model)(r.p), vocabOnly: p.VocabOnly}
	m.refs.free = func() { _ = check(C.nl_model_free(m.ptr), "free model", path) }
	m.read()
	if err := m.checkMeta(); err != nil {
		m.Close()
		return nil, fmt.Errorf("load model %s: %w", path, err)
	}
	m.gpu = p.GPULayers != 0 && hasGPU()
	return m, nil
}

func modelParams(path string, p ModelParams) (C.struct_llama_model_params, error) {
	cp := C.llama_model_default_params()
	if n := int(C.llama_max_devices()); len(p.TensorSplit) > n {
		return cp, fmt.Errorf("load model %s: tensor split: got %d shares, want at most %d", path, len(p.TensorSplit), n)
	}
	for i, x := range p.TensorSplit {
		if !(x >= 0) || math.IsInf(float64(x), 0) {
			return cp, fmt.Errorf("load model %s: tensor split: share %d: got %v, want a number of 0 or more", path, i, x)
		}
	}
	if p.SplitMode < SplitNone || p.SplitMode > SplitRow {
		return cp, fmt.Errorf("load model %s: split mode: got %d, want 0 to 2", path, p.SplitMode)
	}
	if p.MainGPU < 0 || p.MainGPU > math.MaxInt32 {
		return cp, fmt.Errorf("load model %s: main gpu: got %d, want 0 or more", path, p.MainGPU)
	}
	cp.n_gpu_layers = C.int32_t(max(-1, min(p.GPULayers, math.MaxInt32)))
	cp.split_mode = C.enum_llama_split_mode(p.SplitMode)
	cp.main_gpu = C.int32_t(p.MainGPU)
	switch {
	case p.UseMMap && p.UseMLock:
		cp.load_mode = C.LLAMA_LOAD_MODE_MMAP_MLOCK
	case p.UseMMap:
		cp.load_mode = C.LLAMA_LOAD_MODE_MMAP
	case p.UseMLock:
		cp.load_mode = C.LLAMA_LOAD_MODE_MLOCK
	default:
		cp.load_mode = C.LLAMA_LOAD_MODE_NONE
	}
	cp.vocab_only = cbool(p.VocabOnly)
	cp.check_tensors = cbool(p.CheckTensors)
	return cp, nil
}

// read takes the numbers that do not change out of the C model.
func (m *Model) read() {
	m.vocab = C.llama_model_get_vocab(m.ptr)
	m.desc = sized(func(buf *C.char, n C.size_t) C.int32_t { return C.llama_model_desc(m.ptr, buf, n) })
	m.size = uint64(C.llama_model_size(m.ptr))
	m.params = uint64(C.llama_model_n_params(m.ptr))
	m.nCtxTrain = int(C.llama_model_n_ctx_train(m.ptr))
	m.nEmbd = int(C.llama_model_n_embd(m.ptr))
	m.nEmbdOut = int(C.llama_model_n_embd_out(m.ptr))
	m.nLayer = int(C.llama_model_n_layer(m.ptr))
	m.vocabType = int(C.llama_vocab_type(m.vocab))
	m.nVocab = int(C.llama_vocab_n_tokens(m.vocab))
	m.recurrent = bool(C.llama_model_is_recurrent(m.ptr)) || bool(C.llama_model_is_hybrid(m.ptr))
	m.hasEncoder = bool(C.llama_model_has_encoder(m.ptr))
	m.hasDecoder = bool(C.llama_model_has_decoder(m.ptr))
	if !m.vocabOnly {
		m.nHead = int(C.llama_model_n_head(m.ptr))
		m.nHeadKV = int(C.llama_model_n_head_kv(m.ptr))
		m.nSWA = int(C.llama_model_n_swa(m.ptr))
	}
	m.bos, m.eos = Token(C.llama_vocab_bos(m.vocab)), Token(C.llama_vocab_eos(m.vocab))
	m.eot, m.nl = Token(C.llama_vocab_eot(m.vocab)), Token(C.llama_vocab_nl(m.vocab))
	m.addBOS = bool(C.llama_vocab_get_add_bos(m.vocab))
	m.addEOS = bool(C.llama_vocab_get_add_eos(m.vocab))
	arch, _ := m.metaLocked("general.architecture")
	causal, ok := m.metaLocked(arch + ".attention.causal")
	m.causal = !ok || causal == "true"
}

// checkMeta refuses values that llama.cpp takes and asserts on later, in its
// worker threads (ggml-cpu/ops.cpp: eps >= 0).
func (m *Model) checkMeta() error {
	arch, _ := m.metaLocked("general.architecture")
	for _, name := range []string{"layer_norm_rms_epsilon", "layer_norm_epsilon", "group_norm_epsilon"} {
		key := arch + ".attention." + name
		text, ok := m.metaLocked(key)
		if !ok {
			continue
		}
		if x, err := strconv.ParseFloat(text, 64); err != nil || !(x >= 0) {
			return fmt.Errorf("key %s: got %s, want a number of 0 or more", key, text)
		}
	}
	return nil
}

// Close lets go of the weights. They are freed once everything made from the
// model is closed too.
func (m *Model) Close() error {
	if m != nil {
		m.refs.close()
	}
	return nil
}

// use returns the C model for the length of one call; the caller must release.
func (m *Model) use() (*C.struct_llama_model, error) {
	if m == nil {
		return nil, fmt.Errorf("model: %w", ErrClosed)
	}
	if err := m.acquire(); err != nil {
		return nil, fmt.Errorf("model %s: %w", m.path, err)
	}
	return m.ptr, nil
}

// Path returns the file the model was loaded from.
func (m *Model) Path() string { return m.path }

// Desc returns a short text such as "qwen3 4B Q4_0".
func (m *Model) Desc() string { return m.desc }

// Size returns the bytes of all tensors.
func (m *Model) Size() uint64 { return m.size }

// NumParams returns the number of weights.
func (m *Model) NumParams() uint64 { return m.params }

// NCtxTrain returns the context length the model was trained for.
func (m *Model) NCtxTrain() int { return m.nCtxTrain }

// NEmbd returns the length of a hidden state.
func (m *Model) NEmbd() int { return m.nEmbd }

// NLayer returns the number of blocks.
func (m *Model) NLayer() int { return m.nLayer }

// NVocab returns the number of tokens in the vocabulary.
func (m *Model) NVocab() int { return m.nVocab }

// HasEncoder tells whether the model needs an encoder pass (T5, BERT).
func (m *Model) HasEncoder() bool { return m.hasEncoder }

// HasDecoder tells whether the model can generate.
func (m *Model) HasDecoder() bool { return m.hasDecoder }

// Recurrent tells whether the model keeps a recurrent state, of which no part can be removed.
func (m *Model) Recurrent() bool { return m.recurrent }

// BOS returns the begin-of-sequence token, -1 if there is none.
func (m *Model) BOS() Token { return m.bos }

// EOS returns the end-of-sequence token, -1 if there is none.
func (m *Model) EOS() Token { return m.eos }

// EOT returns the end-of-turn token, -1 if there is none.
func (m *Model) EOT() Token { return m.eot }

// NL returns the newline token, -1 if there is none.
func (m *Model) NL() Token { return m.nl }

// AddBOS tells whether tokenizing with addSpecial begins with BOS.
func (m *Model) AddBOS() bool { return m.addBOS }

// AddEOS tells whether tokenizing with addSpecial ends with EOS.
func (m *Model) AddEOS() bool { return m.addEOS }

// Meta returns a scalar or string of the file's metadata as text; arrays are not kept.
func (m *Model) Meta(key string) (string, bool) {
	if _, err := m.use(); err != nil {
		return "", false
	}
	defer m.release()
	return m.metaLocked(key)
}

func (m *Model) metaLocked(key string) (string, bool) {
	ck, err := cString(key)
	if err != nil {
		return "", false
	}
	defer C.free(unsafe.Pointer(ck))
	r := C.nl_meta_val(m.ptr, ck, nil, 0)
	if check(r, "read metadata", key) != nil || r.n < 0 {
		return "", false
	}
	return sized(func(buf *C.char, n C.size_t) C.int32_t {
		return C.llama_model_meta_val_str(m.ptr, ck, buf, n)
	}), true
}

// MetaAll returns all scalars and strings of the file's metadata as text.
func (m *Model) MetaAll() map[string]string {
	if _, err := m.use(); err != nil {
		return nil
	}
	defer m.release()
	all := map[string]string{}
	for i := range C.llama_model_meta_count(m.ptr) {
		key := sized(func(buf *C.char, n C.size_t) C.int32_t {
			return C.llama_model_meta_key_by_index(m.ptr, i, buf, n)
		})
		all[key] = sized(func(buf *C.char, n C.size_t) C.int32_t {
			return C.llama_model_meta_val_str_by_index(m.ptr, i, buf, n)
		})
	}
	return all
}

// sized calls an snprintf-like function with a buffer that is large enough.
func sized(f func(buf *C.char, n C.size_t) C.int32_t) string {
	buf := make([]byte, 256)
	for {
		n := int(f((*C.char)(unsafe.Pointer(&buf[0])), C.size_t(len(buf))))
		if n < 0 {
			return ""
		}
		if n < len(buf) {
			return string(buf[:n])
		}
		buf = make([]byte, n+1)
	}
}

// cString is C.CString for text that C will read up to its first 0.
func cString(s string) (*C.char, error) {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return nil, fmt.Errorf("text has a zero byte at offset %d", i)
	}
	return C.CString(s), nil
}
