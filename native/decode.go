package llama

/*
#include "shim.h"
*/
import "C"

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"unsafe"
)

// BatchToken is one token of a batch.
type BatchToken struct {
	Token  Token
	Pos    int32
	Seqs   []int32 // the sequences it belongs to, at least one
	Logits bool    // whether logits (and the embedding) of it are wanted
}

// LogitsOf says for which tokens DecodeTokens keeps logits (and embeddings).
type LogitsOf int32

// What DecodeTokens keeps.
const (
	LogitsNone LogitsOf = 0
	LogitsLast LogitsOf = 1
	LogitsAll  LogitsOf = 2
)

// Decode computes a batch, n_batch tokens at a time. Arguments are checked
// before anything is computed; ErrNoKVSlot says that the tokens do not fit. When
// a batch was split and a later part fails, the parts before it stay in memory.
// LogitsOf can be asked for in the last part only, since each C call drops those
// of the one before.
func (c *ModelContext) Decode(batch []BatchToken) error {
	return c.DecodeContext(context.Background(), batch)
}

// DecodeContext is Decode that ends early, with ctx.Err, when ctx is done. On the
// CPU that is at once, on a GPU before the next part.
func (c *ModelContext) DecodeContext(ctx context.Context, batch []BatchToken) error {
	if err := c.use("decode"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkBatch(batch); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	c.outputs = c.outputs[:0]
	return c.parts(ctx, len(batch), func(i, n int) C.nl_result {
		c.fill(batch[i : i+n])
		return C.nl_decode(c.ptr, C.int32_t(n))
	})
}

// DecodeTokens computes tokens of one sequence at positions pos, pos+1, …
func (c *ModelContext) DecodeTokens(tokens []Token, seq, pos int32, out LogitsOf) error {
	return c.DecodeTokensContext(context.Background(), tokens, seq, pos, out)
}

// DecodeTokensContext is DecodeTokens that ends early when ctx is done.
func (c *ModelContext) DecodeTokensContext(ctx context.Context, tokens []Token, seq, pos int32, out LogitsOf) error {
	if err := c.use("decode"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkTokens(tokens, seq, pos, out); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	c.outputs = c.outputs[:0]
	return c.parts(ctx, len(tokens), func(i, n int) C.nl_result {
		part := out
		if out == LogitsLast && i+n < len(tokens) {
			part = LogitsNone
		}
		c.outputs = c.outputs[:0]
		for j := range n {
			c.outputs = append(c.outputs, c.embeddings || part == LogitsAll || (part == LogitsLast && j == n-1))
		}
		return C.nl_decode_tokens(c.ptr, (*C.int32_t)(&tokens[i]), C.int32_t(n), C.int32_t(seq), C.int32_t(pos)+C.int32_t(i), C.int32_t(part))
	})
}

// parts runs step over n tokens, at most n_batch at a time.
func (c *ModelContext) parts(ctx context.Context, n int, step func(i, n int) C.nl_result) error {
	c.first = 0
	if ctx.Done() != nil {
		set := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			C.nl_context_abort(c.ptr, true)
			close(set)
		})
		defer func() {
			if !stop() {
				<-set // or it would abort the next call
			}
			C.nl_context_abort(c.ptr, false)
		}()
	}
	for i := 0; i < n; i += c.nBatch {
		if err := ctx.Err(); err != nil {
			c.outputs = c.outputs[:0]
			return fmt.Errorf("decode: %w", err)
		}
		c.first = i
		r := step(i, min(c.nBatch, n-i))
		if c.abort != nil {
			c.abort.raise()
		}
		if err := c.decodeError(ctx, r, i, n); err != nil {
			c.outputs = c.outputs[:0]
			return err
		}
	}
	return nil
}

// decodeError gives the return codes of llama_decode their names (llama.h).
func (c *ModelContext) decodeError(ctx context.Context, r C.nl_result, i, n int) error {
	if err := c.check(r, "decode"); err != nil {
		return err
	}
	switch r.n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("decode: token %d of %d: n_ctx %d: %w", i, n, c.nCtx, ErrNoKVSlot)
	case 2:
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		return fmt.Errorf("decode: %w", ErrAborted)
	}
	return fmt.Errorf("decode: unknown result %d", r.n)
}

// checkSize is what Decode and DecodeTokens check alike.
func (c *ModelContext) checkSize(n int) error {
	if n == 0 {
		return fmt.Errorf("no tokens")
	}
	whole := c.nonCausal || !c.hasMemory || (c.embeddings && (c.pooling == PoolingMean || c.pooling == PoolingCLS))
	if whole && n > min(c.nUBatch, c.nBatch) {
		return fmt.Errorf("%d tokens: this model takes its input in one piece, want at most n_ubatch %d", n, min(c.nUBatch, c.nBatch))
	}
	return nil
}

func (c *ModelContext) checkTokens(tokens []Token, seq, pos int32, out LogitsOf) error {
	n := len(tokens)
	if err := c.checkSize(n); err != nil {
		return err
	}
	if out < LogitsNone || out > LogitsAll {
		return fmt.Errorf("outputs: got %d, want 0 to 2", out)
	}
	if out == LogitsAll && n > c.nBatch {
		return fmt.Errorf("outputs of all %d tokens: want at most n_batch %d tokens", n, c.nBatch)
	}
	if err := c.checkSeq("tokens", seq); err != nil {
		return err
	}
	if pos < 0 || int64(pos)+int64(n) > math.MaxInt32 {
		return fmt.Errorf("position out of range: got %d for %d tokens", pos, n)
	}
	if n > c.nCtx {
		return fmt.Errorf("%d tokens, n_ctx %d: %w", n, c.nCtx, ErrNoKVSlot)
	}
	nVocab := Token(c.model.nVocab)
	for i, t := range tokens {
		if t < 0 || t >= nVocab {
			return fmt.Errorf("token %d out of range: got %d, want 0 to %d", i, t, nVocab-1)
		}
	}
	return nil
}

func (c *ModelContext) checkBatch(batch []BatchToken) error {
	if err := c.checkSize(len(batch)); err != nil {
		return err
	}
	lastPart := (len(batch) - 1) / c.nBatch * c.nBatch
	for i, b := range batch {
		if b.Token < 0 || int(b.Token) >= c.model.nVocab {
			return fmt.Errorf("token %d out of range: got %d, want 0 to %d", i, b.Token, c.model.nVocab-1)
		}
		if b.Pos < 0 {
			return fmt.Errorf("token %d: position: got %d, want 0 or more", i, b.Pos)
		}
		if len(b.Seqs) == 0 || len(b.Seqs) > c.nSeqMax {
			return fmt.Errorf("token %d: got %d sequences, want 1 to %d", i, len(b.Seqs), c.nSeqMax)
		}
		for _, s := range b.Seqs {
			if s < 0 || int(s) >= c.nSeqMax {
				return fmt.Errorf("token %d: sequence out of range: got %d, want 0 to %d", i, s, c.nSeqMax-1)
			}
		}
		if b.Logits && i < lastPart {
			return fmt.Errorf("token %d: outputs are kept for the last %d of %d tokens only (n_batch %d)", i, len(batch)-lastPart, len(batch), c.nBatch)
		}
	}
	return nil
}

// fill writes a part into the C batch.
func (c *ModelContext) fill(part []BatchToken) {
	b := &c.ptr.batch
	n := len(part)
	token := unsafe.Slice((*int32)(b.token), n)
	pos := unsafe.Slice((*int32)(b.pos), n)
	nSeq := unsafe.Slice((*int32)(b.n_seq_id), n)
	seqs := unsafe.Slice((**int32)(unsafe.Pointer(b.seq_id)), n)
	logits := unsafe.Slice((*int8)(b.logits), n)
	c.outputs = c.outputs[:0]
	for i, t := range part {
		token[i], pos[i], nSeq[i], logits[i] = t.Token, t.Pos, int32(len(t.Seqs)), 0
		copy(unsafe.Slice(seqs[i], c.nSeqMax), t.Seqs)
		if t.Logits {
			logits[i] = 1
		}
		c.outputs = append(c.outputs, t.Logits || c.embeddings)
	}
}

// row translates the index of a token of the last decode into the C batch's;
// negative indices count outputs from the end, as in llama.cpp.
func (c *ModelContext) row(what string, i int) (C.int32_t, error) {
	if i < 0 {
		n := 0
		for j := len(c.outputs) - 1; j >= 0; j-- {
			if c.outputs[j] {
				n--
				if n == i {
					return C.int32_t(j), nil
				}
			}
		}
		return 0, fmt.Errorf("%s of output %d: the last decode has %d outputs", what, i, -n)
	}
	j := i - c.first
	if j < 0 || j >= len(c.outputs) {
		return 0, fmt.Errorf("%s of token %d: out of range: the last decode kept tokens %d to %d", what, i, c.first, c.first+len(c.outputs)-1)
	}
	if !c.outputs[j] {
		return 0, fmt.Errorf("%s of token %d: they were not asked for", what, i)
	}
	return C.int32_t(j), nil
}

// Logits returns the n_vocab logits of token i of the last decode, or of its
// i-th last output if i is negative. The slice is a view: it is valid until the
// next call that decodes, loads a state, or closes the context.
func (c *ModelContext) Logits(i int) ([]float32, error) {
	if err := c.use("logits"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	j, err := c.row("logits", i)
	if err != nil {
		return nil, err
	}
	r := C.nl_logits(c.ptr, j)
	if err := c.check(r, "logits"); err != nil {
		return nil, err
	}
	return unsafe.Slice((*float32)(r.p), c.model.nVocab), nil
}

// Embeddings returns the embedding of token i of the last decode (n_embd
// values), like Logits a view. The context must have Embeddings on.
func (c *ModelContext) Embeddings(i int) ([]float32, error) {
	if err := c.use("embeddings"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if !c.embeddings {
		return nil, fmt.Errorf("embeddings: the context was made without them")
	}
	if c.pooling != PoolingNone {
		return nil, fmt.Errorf("embeddings of token %d: the context pools them, use SeqEmbeddings", i)
	}
	j, err := c.row("embeddings", i)
	if err != nil {
		return nil, err
	}
	r := C.nl_embeddings(c.ptr, j)
	if err := c.check(r, "embeddings"); err != nil {
		return nil, err
	}
	return unsafe.Slice((*float32)(r.p), c.model.nEmbdOut), nil
}

// SeqEmbeddings returns the pooled embedding of a sequence of the last decode, a
// view like Logits.
func (c *ModelContext) SeqEmbeddings(seq int32) ([]float32, error) {
	if err := c.use("sequence embeddings"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if err := c.checkSeq("sequence embeddings", seq); err != nil {
		return nil, err
	}
	if !c.embeddings || c.pooling == PoolingNone {
		return nil, fmt.Errorf("sequence embeddings: the context does not pool embeddings")
	}
	r := C.nl_embeddings_seq(c.ptr, C.int32_t(seq))
	if err := c.check(r, "sequence embeddings"); err != nil {
		return nil, err
	}
	n := c.model.nEmbdOut
	if c.pooling == PoolingRank {
		n = int(C.llama_model_n_cls_out(c.model.ptr))
	}
	return unsafe.Slice((*float32)(r.p), n), nil
}

// onOneThread keeps the goroutine on its OS thread until the returned function
// is called. OpenMP (libgomp) has one team of workers for each thread that
// computes: a goroutine that wanders between threads from token to token leaves
// teams behind that spin for a while and halve the speed of the next. A loop
// around Decode of your own wants runtime.LockOSThread for the same reason.
func onOneThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
