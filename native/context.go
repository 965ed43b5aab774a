package llama

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Pooling says how the token embeddings of a sequence become one.
type Pooling int32

// Pooling types, as in llama.h.
const (
	PoolingUnspecified Pooling = C.LLAMA_POOLING_TYPE_UNSPECIFIED // the model's own
	PoolingNone        Pooling = C.LLAMA_POOLING_TYPE_NONE        // one embedding per token
	PoolingMean        Pooling = C.LLAMA_POOLING_TYPE_MEAN
	PoolingCLS         Pooling = C.LLAMA_POOLING_TYPE_CLS
	PoolingLast        Pooling = C.LLAMA_POOLING_TYPE_LAST
	PoolingRank        Pooling = C.LLAMA_POOLING_TYPE_RANK
)

// FlashAttn says when flash attention is used.
type FlashAttn int32

// Flash attention modes, as in llama.h.
const (
	FlashAttnAuto FlashAttn = C.LLAMA_FLASH_ATTN_TYPE_AUTO
	FlashAttnOff  FlashAttn = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
	FlashAttnOn   FlashAttn = C.LLAMA_FLASH_ATTN_TYPE_ENABLED
)

// MaxSequences is the largest NSeqMax.
func MaxSequences() int { return int(C.llama_max_parallel_sequences()) }

// ContextParams says what a context is like; start from DefaultContextParams.
// 0 in a number means llama.cpp's default or the model's own value.
type ContextParams struct {
	NCtx          int // positions in memory, over all sequences; 0 is the model's training length
	NBatch        int // tokens in one C call; longer input is split
	NUBatch       int // tokens computed at once
	NSeqMax       int // sequences
	Threads       int // for one token at a time; 0 is DefaultThreads
	ThreadsBatch  int // for prompts; 0 is Threads
	Embeddings    bool
	Pooling       Pooling
	NonCausal     bool // attention to later tokens too; for embedding models that ask for it the default
	FlashAttn     FlashAttn
	TypeK, TypeV  TensorType // of the cache; F32, F16, BF16, Q8_0, Q4_0, …
	RopeFreqBase  float32
	RopeFreqScale float32
	OffloadKQV    bool        // keep the cache on the GPU
	OpOffload     bool        // compute large host tensors on the GPU
	KVUnified     bool        // one cache shared by all sequences instead of one part each
	SWAFull       bool        // keep the whole window cache of sliding-window layers
	Perf          bool        // measure times (Perf)
	Importance    *Importance // collects what weights are multiplied with; nil: nothing
}

// DefaultContextParams is llama.cpp's default context with 0 (automatic)
// threads, one sequence and measured times.
func DefaultContextParams() ContextParams {
	d := C.llama_context_default_params()
	return ContextParams{
		NCtx: 0, NBatch: int(d.n_batch), NUBatch: int(d.n_ubatch), NSeqMax: 1,
		Pooling: PoolingUnspecified, FlashAttn: FlashAttnAuto,
		TypeK: TensorType(d.type_k), TypeV: TensorType(d.type_v),
		OffloadKQV: true, OpOffload: true, SWAFull: bool(d.swa_full), Perf: true,
	}
}

// ModelContext is a model's memory of some sequences, and the work space to go on
// with them. One call at a time runs; others wait.
type ModelContext struct {
	mu     sync.Mutex
	model  *Model
	ptr    *C.nl_context // nil after Close
	broken bool

	nCtx, nBatch, nUBatch, nSeqMax int
	hasMemory, embeddings, unified bool
	nonCausal                      bool
	pooling                        Pooling

	// outputs of the last decode: row i of that call is row i-first of C's batch
	first    int
	outputs  []bool
	adapters []*Adapter
	counts   *Importance // nil: none
	abort    *callback
	handle   cgo.Handle
	closing  atomic.Bool
}

// NewContext makes a context. A cache that is larger than the memory which is
// free is refused before it is allocated.
func (m *Model) NewContext(p ContextParams) (*ModelContext, error) {
	ptr, err := m.use()
	if err != nil {
		return nil, fmt.Errorf("new context: %w", err)
	}
	done := false
	defer func() {
		if !done {
			m.release()
		}
	}()
	cp, err := m.contextParams(p)
	if err != nil {
		return nil, fmt.Errorf("new context: model %s: %w", m.path, err)
	}
	if p.Importance != nil {
		if err := p.Importance.use(); err != nil {
			return nil, fmt.Errorf("new context: importance: %w", err)
		}
		defer func() {
			if !done {
				p.Importance.release()
			}
		}()
		cp.cb_eval, cp.cb_eval_user_data = C.ggml_backend_sched_eval_callback(C.nl_importance_collect), unsafe.Pointer(p.Importance.ptr)
	}
	r := C.nl_context_new(ptr, cp)
	if err := check(r, "new context", "for "+m.path); err != nil {
		return nil, err
	}
	done = true // the context holds the model from here on
	c := &ModelContext{model: m, ptr: (*C.nl_context)(r.p), counts: p.Importance}
	c.nCtx, c.nBatch = int(C.llama_n_ctx(c.ptr.ctx)), int(C.llama_n_batch(c.ptr.ctx))
	c.nUBatch, c.nSeqMax = int(C.llama_n_ubatch(c.ptr.ctx)), int(C.llama_n_seq_max(c.ptr.ctx))
	c.hasMemory = C.llama_get_memory(c.ptr.ctx) != nil
	c.pooling = Pooling(C.llama_pooling_type(c.ptr.ctx))
	c.embeddings, c.unified = p.Embeddings, p.KVUnified
	c.nonCausal = p.NonCausal || !m.causal
	return c, nil
}

// Close frees the context. It waits for a call that is running.
func (c *ModelContext) Close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ptr == nil {
		return nil
	}
	if !c.broken {
		_ = check(C.nl_context_free(c.ptr), "free context", "")
	}
	c.ptr = nil
	c.outputs = nil
	c.setAbort(nil)
	for _, a := range c.adapters {
		a.release()
	}
	c.adapters = nil
	if c.counts != nil {
		c.counts.release()
	}
	c.model.release()
	return nil
}

// use locks the context for one call; the caller must unlock c.mu.
func (c *ModelContext) use(op string) error {
	if c == nil {
		return fmt.Errorf("%s: context: %w", op, ErrClosed)
	}
	c.mu.Lock()
	switch {
	case c.ptr == nil:
		c.mu.Unlock()
		return fmt.Errorf("%s: context: %w", op, ErrClosed)
	case c.broken:
		c.mu.Unlock()
		return fmt.Errorf("%s: context: %w", op, ErrBroken)
	}
	return nil
}

// useMemory is use for calls on the memory, which an encoder-only model has not.
func (c *ModelContext) useMemory(op string) error {
	if err := c.use(op); err != nil {
		return err
	}
	if !c.hasMemory {
		c.mu.Unlock()
		return fmt.Errorf("%s: the context of model %s keeps no sequences", op, c.model.path)
	}
	return nil
}

// check turns a result into an error and notes a broken context.
func (c *ModelContext) check(r C.nl_result, op string) error {
	c.broken = c.broken || bool(r.broken)
	return check(r, op, "")
}

// Model returns the model the context was made from.
func (c *ModelContext) Model() *Model { return c.model }

// NCtx returns the positions in memory (llama.cpp rounds the asked number up).
func (c *ModelContext) NCtx() int { return c.nCtx }

// NBatch returns the tokens of one C call.
func (c *ModelContext) NBatch() int { return c.nBatch }

// NUBatch returns the tokens computed at once.
func (c *ModelContext) NUBatch() int { return c.nUBatch }

// NSeqMax returns the number of sequences; ids are 0 to NSeqMax-1.
func (c *ModelContext) NSeqMax() int { return c.nSeqMax }

// Pooling returns how embeddings are pooled.
func (c *ModelContext) Pooling() Pooling { return c.pooling }

func (m *Model) contextParams(p ContextParams) (C.struct_llama_context_params, error) {
	cp := C.llama_context_default_params()
	if m.vocabOnly {
		return cp, fmt.Errorf("it was loaded without weights")
	}
	p, err := m.contextSizes(p)
	if err != nil {
		return cp, err
	}
	if err := m.contextChoices(p); err != nil {
		return cp, err
	}
	cp.n_ctx, cp.n_batch, cp.n_ubatch = C.uint32_t(p.NCtx), C.uint32_t(p.NBatch), C.uint32_t(p.NUBatch)
	cp.n_seq_max = C.uint32_t(p.NSeqMax)
	cp.n_threads, cp.n_threads_batch = C.int32_t(p.Threads), C.int32_t(p.ThreadsBatch)
	cp.pooling_type = C.enum_llama_pooling_type(p.Pooling)
	cp.flash_attn_type = C.enum_llama_flash_attn_type(p.FlashAttn)
	cp.rope_freq_base, cp.rope_freq_scale = C.float(p.RopeFreqBase), C.float(p.RopeFreqScale)
	cp.type_k, cp.type_v = C.enum_ggml_type(p.TypeK), C.enum_ggml_type(p.TypeV)
	cp.embeddings = cbool(p.Embeddings)
	cp.offload_kqv, cp.op_offload = cbool(p.OffloadKQV), cbool(p.OpOffload)
	cp.kv_unified, cp.swa_full, cp.no_perf = cbool(p.KVUnified), cbool(p.SWAFull), cbool(!p.Perf)
	if p.NonCausal {
		cp.attention_type = C.LLAMA_ATTENTION_TYPE_NON_CAUSAL
	}
	return cp, m.checkMemory(p)
}

// contextSizes fills in defaults and checks the numbers.
func (m *Model) contextSizes(p ContextParams) (ContextParams, error) {
	d := C.llama_context_default_params()
	if p.NCtx == 0 {
		p.NCtx = m.nCtxTrain
	}
	if p.NBatch == 0 {
		p.NBatch = int(d.n_batch)
	}
	if p.NUBatch == 0 {
		p.NUBatch = min(int(d.n_ubatch), p.NBatch)
	}
	if p.NSeqMax == 0 {
		p.NSeqMax = 1
	}
	if p.Threads == 0 {
		p.Threads = DefaultThreads()
	}
	if p.ThreadsBatch == 0 {
		p.ThreadsBatch = p.Threads
	}
	for _, x := range []struct {
		name     string
		got, max int
	}{
		{"n_ctx", p.NCtx, math.MaxInt32 / 2},
		{"n_batch", p.NBatch, math.MaxInt32 / 2},
		{"n_ubatch", p.NUBatch, math.MaxInt32 / 2},
		{"n_seq_max", p.NSeqMax, MaxSequences()},
		{"threads", p.Threads, C.GGML_MAX_N_THREADS},
		{"threads for batches", p.ThreadsBatch, C.GGML_MAX_N_THREADS},
	} {
		if x.got < 1 || x.got > x.max {
			return p, fmt.Errorf("%s: got %d, want 1 to %d", x.name, x.got, x.max)
		}
	}
	if p.NCtx < p.NSeqMax {
		return p, fmt.Errorf("n_ctx: got %d for %d sequences, want at least one position each", p.NCtx, p.NSeqMax)
	}
	return p, nil
}

// contextChoices checks the enums and factors.
func (m *Model) contextChoices(p ContextParams) error {
	if p.Pooling < PoolingUnspecified || p.Pooling > PoolingRank {
		return fmt.Errorf("pooling: got %d, want -1 to %d", p.Pooling, PoolingRank)
	}
	if p.FlashAttn < FlashAttnAuto || p.FlashAttn > FlashAttnOn {
		return fmt.Errorf("flash attention: got %d, want -1 to 1", p.FlashAttn)
	}
	for _, f := range []float32{p.RopeFreqBase, p.RopeFreqScale} {
		if !(f >= 0) || math.IsInf(float64(f), 0) {
			return fmt.Errorf("rope frequency: got %v, want 0 or more", f)
		}
	}
	for _, t := range []TensorType{p.TypeK, p.TypeV} {
		if !cacheTypes[t] {
			return fmt.Errorf("cache type: got %s, want one of f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1", t)
		}
	}
	return nil
}

// cacheTypes are the types llama.cpp's tools accept for the cache (common/arg.cpp).
var cacheTypes = map[TensorType]bool{
	C.GGML_TYPE_F32: true, C.GGML_TYPE_F16: true, C.GGML_TYPE_BF16: true,
	C.GGML_TYPE_Q8_0: true, C.GGML_TYPE_Q4_0: true, C.GGML_TYPE_Q4_1: true,
	C.GGML_TYPE_IQ4_NL: true, C.GGML_TYPE_Q5_0: true, C.GGML_TYPE_Q5_1: true,
}

// SetThreads sets the threads for one token and for many at once.
func (c *ModelContext) SetThreads(one, batch int) error {
	if one < 1 || batch < 1 || max(one, batch) > C.GGML_MAX_N_THREADS {
		return fmt.Errorf("set threads: got %d and %d, want 1 to %d", one, batch, C.GGML_MAX_N_THREADS)
	}
	if err := c.use("set threads"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	C.llama_set_n_threads(c.ptr.ctx, C.int32_t(one), C.int32_t(batch))
	return nil
}

// Perf is what a context has measured since it was made or reset.
type Perf struct {
	LoadMS, PromptMS, EvalMS float64 // milliseconds
	PromptTokens, EvalTokens int
	GraphsReused             int
}

// Perf returns llama.cpp's own times.
func (c *ModelContext) Perf() (Perf, error) {
	if err := c.use("perf"); err != nil {
		return Perf{}, err
	}
	defer c.mu.Unlock()
	d := C.llama_perf_context(c.ptr.ctx)
	return Perf{
		LoadMS: float64(d.t_load_ms), PromptMS: float64(d.t_p_eval_ms), EvalMS: float64(d.t_eval_ms),
		PromptTokens: int(d.n_p_eval), EvalTokens: int(d.n_eval), GraphsReused: int(d.n_reused),
	}, nil
}

// ResetPerf sets the times to zero.
func (c *ModelContext) ResetPerf() error {
	if err := c.use("reset perf"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	C.llama_perf_context_reset(c.ptr.ctx)
	return nil
}

// Synchronize waits until everything asked for is computed.
func (c *ModelContext) Synchronize() error {
	if err := c.use("synchronize"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.check(C.nl_synchronize(c.ptr), "synchronize")
}

// SetCausal switches between causal attention and attention to all tokens of the batch.
func (c *ModelContext) SetCausal(on bool) error {
	if err := c.use("set causal"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	C.llama_set_causal_attn(c.ptr.ctx, cbool(on))
	c.nonCausal = !on
	return nil
}

// SetEmbeddings switches the output of embeddings on or off.
func (c *ModelContext) SetEmbeddings(on bool) error {
	if err := c.use("set embeddings"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	C.llama_set_embeddings(c.ptr.ctx, cbool(on))
	c.embeddings = on
	return nil
}

// SetAbort has f asked about once a millisecond while tokens are decoded on the
// CPU; true ends the call with ErrAborted. nil takes it away. f must not use the context.
func (c *ModelContext) SetAbort(f func() bool) error {
	if err := c.use("set abort"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	c.setAbort(f)
	return nil
}

func (c *ModelContext) setAbort(f func() bool) {
	old := c.handle
	c.abort, c.handle = nil, 0
	if f != nil {
		c.abort = &callback{abort: f}
		c.handle = cgo.NewHandle(c.abort)
	}
	if c.ptr != nil {
		c.ptr.abort_fn = C.uintptr_t(c.handle)
	}
	if old != 0 {
		old.Delete()
	}
}
